package lapidary.cli;

import java.io.PrintWriter;
import java.util.Locale;
import lapidary.data.Preflight;
import lapidary.data.SampleText;
import lapidary.data.Samples;

/** Shows how a look at all rows goes: a bar on a terminal, bad rows and the first samples as they come. */
final class CheckProgress implements Preflight.Listener {
    private static final long REFRESH_NS = 100_000_000;
    private static final int BAR = 30;
    private static final int FEW = 5_000; // rows that need no report in between where there is no terminal
    private static final String BOLD = "\u001B[1;32m";
    private static final String DIM = "\u001B[2m";
    private static final String PLAIN = "\u001B[0m";

    private final PrintWriter out;
    private final PrintWriter err;
    private final int show;
    private final Samples samples;
    private final boolean terminal =
            System.console() != null && System.console().isTerminal();
    private final boolean colours = terminal && System.getenv("NO_COLOR") == null;
    private final long started = System.nanoTime();
    private long drawn;
    private int width;
    private int tenth;
    private int shown;

    CheckProgress(PrintWriter out, PrintWriter err, int show, Samples samples) {
        this.out = out;
        this.err = err;
        this.show = show;
        this.samples = samples;
    }

    @Override
    public void onSample(int row, Samples.Loaded loaded) {
        if (shown < show) {
            shown++;
            clear();
            out.println();
            print(row, loaded);
            out.println();
        }
    }

    private void print(int row, Samples.Loaded loaded) {
        int tokens = loaded.sample().inputIds().length;
        out.println("row " + row + ": " + tokens + " tokens, " + loaded.sample().targets() + " trained on ("
                + (colours
                        ? BOLD + "trained" + PLAIN + ", " + DIM + "masked" + PLAIN
                        : "trained text is in \u00BB \u00AB")
                + "), pictures " + loaded.pictures());
        StringBuilder text = new StringBuilder();
        for (SampleText.Run run :
                SampleText.of(loaded.sample(), samples.processor().tokenizer()).runs()) {
            String words = Printable.of(run.text());
            switch (run.kind()) {
                case TRAINED -> text.append(colours ? BOLD + words + PLAIN : "\u00BB" + words + "\u00AB");
                case MASKED -> text.append(colours ? DIM + words + PLAIN : words);
                case PICTURE -> text.append("[picture, ").append(run.tokens()).append(" tokens]");
            }
        }
        out.println(text);
    }

    @Override
    public void onBad(Preflight.Bad bad) {
        clear();
        out.println("row " + bad.row() + ": " + Printable.line(bad.reason()));
        out.flush();
    }

    @Override
    public void onProgress(int done, int rows) {
        long now = System.nanoTime();
        if (terminal && (now - drawn > REFRESH_NS || done == rows)) {
            drawn = now;
            int full = (int) ((long) BAR * done / rows);
            String line = String.format(
                    Locale.ROOT,
                    "[%s%s] %,d of %,d rows  %s",
                    "#".repeat(full),
                    "-".repeat(BAR - full),
                    done,
                    rows,
                    left(done, rows, now));
            width = Math.max(width, line.length());
            out.print("\r" + line + " ".repeat(width - line.length()));
            out.flush();
        } else if (!terminal && rows > FEW && (long) done * 10 / rows > tenth) {
            tenth = (int) ((long) done * 10 / rows);
            out.printf(Locale.ROOT, "%,d of %,d rows  %s%n", done, rows, left(done, rows, now));
            out.flush();
        }
    }

    private String left(int done, int rows, long now) {
        double seconds = (now - started) / 1e9;
        double perSecond = done / Math.max(seconds, 1e-3);
        long left = Math.round((rows - done) / perSecond);
        return String.format(Locale.ROOT, "%,.0f rows/s  ETA %d:%02d", perSecond, left / 60, left % 60);
    }

    /** Ends the bar. */
    void finish() {
        clear();
        double seconds = (System.nanoTime() - started) / 1e9;
        Runtime runtime = Runtime.getRuntime();
        out.printf(
                Locale.ROOT,
                "Looked at all rows in %.1f s on %d threads, %,d MB of heap%n",
                seconds,
                runtime.availableProcessors(),
                runtime.totalMemory() - runtime.freeMemory() >> 20);
        out.flush();
        err.flush();
    }

    private void clear() {
        if (terminal && width > 0) {
            out.print("\r" + " ".repeat(width) + "\r");
        }
    }
}
