package lapidary.train;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import lapidary.op.LinearCrossEntropy;

/** Adds up what a run reports. Means and sums are those of TRL's log. */
final class Progress {
    /** The log and totals of a finished run. */
    record Summary(List<Map<String, Object>> history, int steps, double epoch) {}

    private final BatchPlan plan;
    private final int loggingSteps;
    private final long started = System.nanoTime();
    private final List<Map<String, Object>> history = new ArrayList<>();

    private int step;
    private long stepStarted;
    private double stepLoss;
    private long stepTokens;
    private long tokens;
    private double totalLoss;
    private double stepSeconds;
    private double gradNorm;
    private double learningRate;

    // Since the last log.
    private int windowSteps;
    private double windowLoss;
    private int windowBatches;
    private double windowEntropy;
    private double windowAccuracy;
    private double windowSeconds;
    private double windowWaited;

    Progress(BatchPlan plan, int loggingSteps) {
        this.plan = plan;
        this.loggingSteps = loggingSteps;
    }

    void startStep() {
        stepStarted = System.nanoTime();
        stepLoss = 0;
        stepTokens = 0;
    }

    void add(MicroBatch batch, LinearCrossEntropy.Statistics statistics) {
        stepLoss += statistics.loss();
        stepTokens += batch.tokens();
        windowBatches++;
        windowEntropy += statistics.entropy() / Math.max(1, statistics.valid());
        windowAccuracy += (double) statistics.correct() / Math.max(1, statistics.valid());
    }

    /** So many seconds of the step, the device has waited for data. */
    void waited(double seconds) {
        windowWaited += seconds;
    }

    void endStep(double norm, double rate) {
        step++;
        stepSeconds = (System.nanoTime() - stepStarted) / 1e9;
        windowSeconds += stepSeconds;
        gradNorm = norm;
        learningRate = rate;
        tokens += stepTokens;
        totalLoss += stepLoss;
        windowLoss += stepLoss;
        windowSteps++;
    }

    /** Loss of the current step so far. */
    double stepLoss() {
        return stepLoss;
    }

    boolean isLogDue() {
        return step % loggingSteps == 0;
    }

    StepMetrics log() {
        StepMetrics metrics = new StepMetrics(
                step,
                plan.maxSteps(),
                windowLoss / windowSteps,
                gradNorm,
                learningRate,
                windowEntropy / windowBatches,
                tokens,
                windowAccuracy / windowBatches,
                plan.epochAfter(step),
                stepSeconds,
                stepTokens / stepSeconds,
                windowWaited / windowSeconds);
        history.add(metrics.history());
        windowSteps = 0;
        windowLoss = 0;
        windowBatches = 0;
        windowEntropy = 0;
        windowAccuracy = 0;
        windowSeconds = 0;
        windowWaited = 0;
        return metrics;
    }

    /** The closing entry that Hugging Face's Trainer writes, and the whole log. */
    Summary finish(SftConfig config) {
        double seconds = (System.nanoTime() - started) / 1e9;
        double samples = Math.min(
                (double) plan.maxSteps() * config.perDeviceTrainBatchSize() * config.gradientAccumulationSteps(),
                plan.epochAfter(step) * plan.rows());
        Map<String, Object> last = new LinkedHashMap<>();
        last.put("epoch", plan.epochAfter(step));
        last.put("step", step);
        last.put("train_loss", totalLoss / step);
        last.put("train_runtime", seconds);
        last.put("train_samples_per_second", samples / seconds);
        last.put("train_steps_per_second", step / seconds);
        history.add(last);
        return new Summary(List.copyOf(history), step, plan.epochAfter(step));
    }
}
