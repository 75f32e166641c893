package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import lapidary.format.AtomicFile;
import lapidary.train.StepMetrics;
import lapidary.train.TrainingListener;
import lapidary.train.TrainingPlan;

/** A line per report, and on a terminal a line in between that is written over. */
final class ConsoleProgress implements TrainingListener {
    private final PrintWriter out;
    private final boolean terminal =
            System.console() != null && System.console().isTerminal();
    private Runnable atStart = () -> {};
    private final Map<String, String> files = new LinkedHashMap<>(); // to write beside the adapter: text by name
    private long started;
    private int firstStep; // steps done before this run
    private int width;
    private String unlogged = ""; // the last step, unless a log line has told of it

    ConsoleProgress(PrintWriter out) {
        this.out = out;
    }

    /** @param action done once, when training begins */
    void onceStarted(Runnable action) {
        atStart = action;
    }

    /** Has a file written to the output folder, together with the adapter. */
    void writesToo(String name, String text) {
        files.put(name, text);
    }

    @Override
    public void onWrite(Path folder) {
        files.forEach((name, text) -> AtomicFile.writeString(folder.resolve(name), text));
    }

    @Override
    public void onNotice(String line) {
        clear();
        out.println(line);
        out.flush();
    }

    @Override
    public void onCheck(int done, int rows) {
        if (terminal && done > 0) {
            String line = String.format(Locale.ROOT, "looked at %,d of %,d rows", done, rows);
            width = Math.max(width, line.length());
            out.print("\r" + line + " ".repeat(width - line.length()));
            out.flush();
        }
    }

    @Override
    public void onStart(TrainingPlan plan) {
        started = System.nanoTime();
        clear();
        atStart.run();
        out.printf(
                Locale.ROOT,
                "Training %,d numbers in %d tensors for %d steps on %,d rows (%s)%n",
                plan.trainableParameters(),
                plan.trainableTensors(),
                plan.maxSteps(),
                plan.rows(),
                plan.device());
        firstStep = plan.startStep();
        if (firstStep > 0) {
            out.printf(Locale.ROOT, "Going on after step %d of %d%n", firstStep, plan.maxSteps());
        }
        out.flush();
    }

    @Override
    public void onStep(int step, int maxSteps, double loss) {
        unlogged = String.format(Locale.ROOT, "step %d/%d  loss %.4f", step, maxSteps, loss);
        if (terminal) {
            String line = String.format(
                    Locale.ROOT, "step %d/%d  loss %.4f  ETA %s", step, maxSteps, loss, eta(step, maxSteps));
            width = Math.max(width, line.length());
            out.print("\r" + line + " ".repeat(width - line.length()));
            out.flush();
        }
    }

    @Override
    public void onLog(StepMetrics m) {
        unlogged = "";
        clear();
        out.printf(
                Locale.ROOT,
                "step %d/%d  loss %.4f  grad_norm %.3f  learning_rate %.3g  accuracy %.3f  %.0f tokens/s  ETA %s%n",
                m.step(),
                m.maxSteps(),
                m.loss(),
                m.gradNorm(),
                m.learningRate(),
                m.meanTokenAccuracy(),
                m.tokensPerSecond(),
                eta(m.step(), m.maxSteps()));
        out.flush();
    }

    @Override
    public void onEvaluation(int step, Map<String, Object> metrics) {
        clear();
        out.printf(
                Locale.ROOT,
                "step %d  eval_loss %.4f  eval_mean_token_accuracy %.3f  in %.1f s%n",
                step,
                metrics.get("eval_loss"),
                metrics.get("eval_mean_token_accuracy"),
                metrics.get("eval_runtime"));
        out.flush();
    }

    @Override
    public void onSave(int step, Path folder) {
        clear();
        out.println("step " + step + "  checkpoint in " + folder);
        out.flush();
    }

    /** Ends the run's output: with the last step, where it was not one that is logged. */
    void finish() {
        if (!unlogged.isEmpty()) {
            clear();
            out.println(unlogged);
            out.flush();
        }
    }

    private void clear() {
        if (terminal) {
            out.print("\r" + " ".repeat(width) + "\r");
        }
    }

    private String eta(int step, int maxSteps) {
        long left = Math.round((System.nanoTime() - started) / 1e9 / (step - firstStep) * (maxSteps - step));
        return left >= 3600
                ? String.format(Locale.ROOT, "%d:%02d:%02d", left / 3600, left / 60 % 60, left % 60)
                : String.format(Locale.ROOT, "%d:%02d", left / 60, left % 60);
    }
}
