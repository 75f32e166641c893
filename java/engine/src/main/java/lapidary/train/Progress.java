package lapidary.train;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.LongSupplier;
import lapidary.format.Json;
import lapidary.op.LinearCrossEntropy;

/** Adds up what a run reports. Means and sums are those of TRL's log. */
final class Progress {
    /** The log and totals of a finished run. */
    record Summary(List<Map<String, Object>> history, int steps, double epoch) {}

    private final BatchPlan plan;
    private final int loggingSteps;
    private final boolean loggingFirstStep;
    private final UsefulFlops flops;
    private final double peakFlops; // of the device; 0 where that is not known
    private final LongSupplier deviceBytes; // at most in use so far
    private final long started = System.nanoTime();
    private final List<Map<String, Object>> history = new ArrayList<>();

    private int step;
    private int firstStep; // of which the losses are known
    private double secondsBefore;
    private long stepStarted;
    private double stepLoss;
    private long stepTokens;
    private long stepPictures;
    private int stepRows;
    private long tokens;
    private double totalLoss;
    private double stepSeconds;
    private double gradNorm;
    private double learningRate;

    // Of this run alone, not of what it goes on with.
    private double runSeconds;
    private double runWaited;
    private long runTokens;
    private long runPictures;
    private long runRows;

    // Since the last log.
    private int windowSteps;
    private double windowLoss;
    private int windowBatches;
    private double windowEntropy;
    private double windowAccuracy;
    private double windowSeconds;
    private double windowWaited;

    /**
     * @param peakFlops that the device reaches at most, FLOP/s; 0 where that is not known
     * @param deviceBytes the most that was in use of the device's own memory
     */
    Progress(
            BatchPlan plan,
            int loggingSteps,
            boolean loggingFirstStep,
            UsefulFlops flops,
            double peakFlops,
            LongSupplier deviceBytes) {
        this.flops = flops;
        this.peakFlops = peakFlops;
        this.deviceBytes = deviceBytes;
        this.plan = plan;
        this.loggingSteps = loggingSteps;
        this.loggingFirstStep = loggingFirstStep;
    }

    /** Takes up the sums and the log of a run that stopped after {@code done} steps. */
    void restore(int done, Json sums, List<Map<String, Object>> log) {
        step = done;
        tokens = sums.integer("tokens");
        totalLoss = sums.number("total_loss");
        secondsBefore = sums.number("seconds");
        windowSteps = (int) sums.integer("window_steps");
        windowLoss = sums.number("window_loss");
        windowBatches = (int) sums.integer("window_batches");
        windowEntropy = sums.number("window_entropy");
        windowAccuracy = sums.number("window_accuracy");
        windowSeconds = sums.number("window_seconds");
        windowWaited = sums.number("window_waited");
        history.addAll(log);
    }

    /** Takes up the log of another program's checkpoint: its sums are not known. */
    void restore(int done, List<Map<String, Object>> log) {
        step = done;
        firstStep = done;
        history.addAll(log);
        for (Map<String, Object> entry : log) {
            if (entry.get("num_tokens") instanceof Number seen) {
                tokens = seen.longValue();
            }
        }
    }

    /** What {@link #restore} takes. */
    Map<String, Object> sums() {
        Map<String, Object> sums = new LinkedHashMap<>();
        sums.put("tokens", tokens);
        sums.put("total_loss", totalLoss);
        sums.put("seconds", seconds());
        sums.put("window_steps", windowSteps);
        sums.put("window_loss", windowLoss);
        sums.put("window_batches", windowBatches);
        sums.put("window_entropy", windowEntropy);
        sums.put("window_accuracy", windowAccuracy);
        sums.put("window_seconds", windowSeconds);
        sums.put("window_waited", windowWaited);
        return sums;
    }

    /** Wall time, that of the runs before this one included. */
    private double seconds() {
        return secondsBefore + (System.nanoTime() - started) / 1e9;
    }

    void startStep() {
        stepStarted = System.nanoTime();
        stepLoss = 0;
        stepTokens = 0;
        stepPictures = 0;
        stepRows = 0;
    }

    void add(MicroBatch batch, LinearCrossEntropy.Statistics statistics) {
        stepLoss += statistics.loss();
        stepTokens += batch.tokens();
        stepPictures += batch.packed().pixels().size();
        stepRows += batch.rows().size();
        windowBatches++;
        windowEntropy += statistics.entropy() / Math.max(1, statistics.valid());
        windowAccuracy += (double) statistics.correct() / Math.max(1, statistics.valid());
    }

    /** So many seconds of the step, the device has waited for data. */
    void waited(double seconds) {
        windowWaited += seconds;
        runWaited += seconds;
    }

    void endStep(double norm, double rate) {
        step++;
        stepSeconds = (System.nanoTime() - stepStarted) / 1e9;
        windowSeconds += stepSeconds;
        gradNorm = norm;
        learningRate = rate;
        tokens += stepTokens;
        runSeconds += stepSeconds;
        runTokens += stepTokens;
        runPictures += stepPictures;
        runRows += stepRows;
        totalLoss += stepLoss;
        windowLoss += stepLoss;
        windowSteps++;
    }

    /** Loss of the current step so far. */
    double stepLoss() {
        return stepLoss;
    }

    boolean isLogDue() {
        return step % loggingSteps == 0 || loggingFirstStep && step == 1;
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
                stepRows / stepSeconds,
                mfu(stepTokens, stepPictures, stepSeconds),
                windowWaited / windowSeconds,
                deviceBytes.getAsLong(),
                HostMemory.resident());
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

    private double mfu(long tokens, long pictures, double seconds) {
        return peakFlops == 0 ? 0 : flops.of(tokens, pictures) / seconds / peakFlops;
    }

    /**
     * What there is to say of a run that ends.
     *
     * @param written see {@link TrainingReport}, as are the others
     */
    TrainingReport report(
            boolean stopped, Path written, String best, List<String> checkpoints, Path events, Phases phases) {
        double seconds = Math.max(runSeconds, 1e-9);
        return new TrainingReport(
                step,
                plan.maxSteps(),
                stopped,
                written,
                best,
                checkpoints,
                events,
                phases.seconds(),
                runTokens / seconds,
                runRows / seconds,
                mfu(runTokens, runPictures, seconds),
                runWaited / seconds,
                deviceBytes.getAsLong(),
                HostMemory.peak());
    }

    /**
     * Adds an evaluation to the log.
     *
     * @return the entry
     */
    Map<String, Object> log(Map<String, Object> evaluation) {
        Map<String, Object> entry = new TreeMap<>(evaluation);
        entry.put("epoch", plan.epochAfter(step));
        entry.put("eval_num_tokens", (double) tokens);
        entry.put("step", step);
        history.add(entry);
        return entry;
    }

    /** The log so far. */
    Summary summary() {
        return new Summary(List.copyOf(history), step, plan.epochAfter(step));
    }

    /** The closing entry that Hugging Face's Trainer writes, and the whole log. */
    Summary finish(SftConfig config) {
        double seconds = seconds();
        double samples = Math.min(
                (double) plan.maxSteps() * config.perDeviceTrainBatchSize() * config.gradientAccumulationSteps(),
                plan.epochAfter(step) * plan.rows());
        Map<String, Object> last = new LinkedHashMap<>();
        last.put("epoch", plan.epochAfter(step));
        last.put("step", step);
        last.put("train_loss", totalLoss / Math.max(1, step - firstStep));
        last.put("train_runtime", seconds);
        last.put("train_samples_per_second", samples / seconds);
        last.put("train_steps_per_second", step / seconds);
        history.add(last);
        return summary();
    }
}
