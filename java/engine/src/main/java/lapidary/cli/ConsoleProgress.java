package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.function.BiConsumer;
import java.util.stream.Collectors;
import lapidary.format.AtomicFile;
import lapidary.train.MemoryOutlook;
import lapidary.train.StepMetrics;
import lapidary.train.TrainingListener;
import lapidary.train.TrainingPlan;
import lapidary.train.TrainingReport;

/** A line per report, and on a terminal a line in between that is written over. */
final class ConsoleProgress implements TrainingListener {
    private final PrintWriter out;
    private final boolean terminal =
            System.console() != null && System.console().isTerminal();
    private Runnable atStart = () -> {};
    private BiConsumer<Integer, Path> atSave = (step, checkpoint) -> {};
    private final Map<String, String> files = new LinkedHashMap<>(); // to write beside the adapter: text by name
    private Path folder; // of the output; null where no file is to be written
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

    /** @param action done after each checkpoint, with its step and its folder */
    void whenSaved(BiConsumer<Integer, Path> action) {
        atSave = action;
    }

    /** Has a file written to the output folder when training begins, into each checkpoint, and together with the adapter. */
    void writesToo(Path output, String name, String text) {
        folder = output;
        files.put(name, text);
    }

    @Override
    public void onWrite(Path folder) {
        files.forEach((name, text) -> AtomicFile.writeString(folder.resolve(name), text));
    }

    @Override
    public synchronized void onNotice(String line) { // of the Hub's thread too
        clear();
        out.println(Printable.of(line));
        out.flush();
    }

    @Override
    public synchronized void onMemory(MemoryOutlook outlook) {
        onNotice(MemoryText.line(outlook));
    }

    @Override
    public synchronized void onCheck(int done, int rows) {
        if (terminal && done > 0) {
            String line = String.format(Locale.ROOT, "looked at %,d of %,d rows", done, rows);
            width = Math.max(width, line.length());
            out.print("\r" + line + " ".repeat(width - line.length()));
            out.flush();
        }
    }

    @Override
    public synchronized void onStart(TrainingPlan plan) {
        started = System.nanoTime();
        clear();
        if (folder != null) {
            onWrite(folder);
        }
        atStart.run();
        firstStep = plan.startStep();
        if (firstStep == plan.maxSteps()) {
            return; // a notice has told of it
        }
        out.printf(
                Locale.ROOT,
                "Training %,d numbers in %d tensors for %d steps on %,d rows (%s)%n",
                plan.trainableParameters(),
                plan.trainableTensors(),
                plan.maxSteps(),
                plan.rows(),
                plan.device());
        if (firstStep > 0) {
            out.printf(Locale.ROOT, "Going on after step %d of %d%n", firstStep, plan.maxSteps());
        }
        out.flush();
    }

    @Override
    public synchronized void onStep(int step, int maxSteps, double loss) {
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
    public synchronized void onLog(StepMetrics m) {
        unlogged = "";
        clear();
        out.printf(
                Locale.ROOT,
                "step %d/%d  loss %.4f  grad_norm %.3f  learning_rate %.3g  accuracy %.3f  %.0f tokens/s  %.3g samples/s%s"
                        + "  data wait %.0f%%  memory %s  ETA %s%n",
                m.step(),
                m.maxSteps(),
                m.loss(),
                m.gradNorm(),
                m.learningRate(),
                m.meanTokenAccuracy(),
                m.tokensPerSecond(),
                m.samplesPerSecond(),
                mfu("  ", m.mfu()),
                100 * m.dataWait(),
                memory(m.deviceBytes(), m.hostBytes()),
                eta(m.step(), m.maxSteps()));
        out.flush();
    }

    private static String mfu(String before, double share) {
        return share == 0 ? "" : String.format(Locale.ROOT, "%sMFU %.1f%%", before, 100 * share);
    }

    private static String memory(long device, long host) {
        return device == 0 ? gibibytes(host) : gibibytes(device) + " device, " + gibibytes(host) + " host";
    }

    private static String gibibytes(long bytes) {
        return String.format(Locale.ROOT, "%.1f GiB", bytes / (double) (1 << 30));
    }

    @Override
    public synchronized void onEvaluation(int step, Map<String, Object> metrics) {
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
    public synchronized void onSave(int step, Path folder) {
        clear();
        out.println("step " + step + "  checkpoint in " + folder);
        out.flush();
        atSave.accept(step, folder);
    }

    /** Ends the run's output: with the last step, where it was not one that is logged, and what the run took. */
    void finish(TrainingReport report) {
        clear();
        if (!unlogged.isEmpty()) {
            out.println(unlogged);
        }
        if (report.step() > firstStep) {
            out.printf(
                    Locale.ROOT,
                    "Took %s: %s%n%.0f tokens/s, %.3g samples/s%s, data wait %.0f%%; peak memory %s%n",
                    time(report.seconds().values().stream()
                            .mapToDouble(Double::doubleValue)
                            .sum()),
                    report.seconds().entrySet().stream()
                            .map(each -> each.getKey() + " " + time(each.getValue()))
                            .collect(Collectors.joining(", ")),
                    report.tokensPerSecond(),
                    report.samplesPerSecond(),
                    mfu(", ", report.mfu()),
                    100 * report.dataWait(),
                    memory(report.deviceBytes(), report.hostBytes()));
        }
        out.flush();
    }

    private void clear() {
        if (terminal) {
            out.print("\r" + " ".repeat(width) + "\r");
        }
    }

    private String eta(int step, int maxSteps) {
        return time((System.nanoTime() - started) / 1e9 / (step - firstStep) * (maxSteps - step));
    }

    /** Hours, where there are any, minutes and seconds. */
    private static String time(double seconds) {
        long whole = Math.round(seconds);
        return whole >= 3600
                ? String.format(Locale.ROOT, "%d:%02d:%02d", whole / 3600, whole / 60 % 60, whole % 60)
                : String.format(Locale.ROOT, "%d:%02d", whole / 60, whole % 60);
    }
}
