package lapidary.cli;

import java.io.PrintWriter;
import java.time.Duration;
import java.util.Locale;
import lapidary.hub.HubListener;

/** Shows downloads and uploads: on a terminal a line that is written over, else one at each tenth of a long one. */
final class ConsoleTransfer implements HubListener {
    private static final long LONG = 100_000_000; // bytes
    private static final long REFRESH_NS = 200_000_000;

    private final PrintWriter out;
    private final boolean terminal =
            System.console() != null && System.console().isTerminal();
    private String what = "";
    private long started;
    private long startedAt = -1; // bytes that were there before
    private long shown;
    private long tenth;
    private int width;

    ConsoleTransfer(PrintWriter out) {
        this.out = out;
    }

    @Override
    public void onTransfer(String name, int files, long bytes) {
        what = name;
        started = System.nanoTime();
        startedAt = -1;
        tenth = 0;
        out.printf(Locale.ROOT, "%s: %d file%s, %s%n", name, files, files == 1 ? "" : "s", bytes(bytes));
        out.flush();
    }

    @Override
    public void onProgress(long done, long total) {
        startedAt = startedAt < 0 ? done : Math.min(startedAt, done);
        long now = System.nanoTime();
        if (terminal && (now - shown > REFRESH_NS || done == total)) {
            shown = now;
            over(line(done, total, now));
        } else if (!terminal && total >= LONG && done * 10 / total > tenth) {
            tenth = done * 10 / total;
            out.println(line(done, total, now));
            out.flush();
        }
    }

    private String line(long done, long total, long now) {
        double speed = (done - startedAt) / Math.max(1e-3, (now - started) / 1e9);
        String left = speed > 0 ? seconds(Math.round((total - done) / speed)) : "?";
        return String.format(
                Locale.ROOT,
                "%s: %s of %s  %s/s  ETA %s",
                what,
                bytes(done),
                bytes(total),
                bytes(Math.round(speed)),
                left);
    }

    @Override
    public void onDone() {
        if (terminal) {
            over("");
            out.print("\r");
        }
        out.printf(Locale.ROOT, "%s: done in %s%n", what, seconds((System.nanoTime() - started) / 1_000_000_000));
        out.flush();
    }

    @Override
    public void onRetry(String why, Duration wait) {
        note(why + "; trying again in " + Math.max(1, wait.toSeconds()) + " s");
    }

    @Override
    public void onNotice(String text) {
        note(text);
    }

    private void note(String text) {
        if (terminal) {
            over("");
            out.print("\r");
        }
        out.println(text);
        out.flush();
    }

    private void over(String line) {
        width = Math.max(width, line.length());
        out.print("\r" + line + " ".repeat(width - line.length()));
        out.flush();
    }

    private static String seconds(long seconds) {
        return seconds >= 3600
                ? String.format(Locale.ROOT, "%d:%02d:%02d", seconds / 3600, seconds / 60 % 60, seconds % 60)
                : String.format(Locale.ROOT, "%d:%02d", seconds / 60, seconds % 60);
    }

    private static String bytes(long bytes) {
        return bytes < 1_000_000
                ? String.format(Locale.ROOT, "%.1f kB", bytes / 1e3)
                : bytes < 1_000_000_000
                        ? String.format(Locale.ROOT, "%.1f MB", bytes / 1e6)
                        : String.format(Locale.ROOT, "%.2f GB", bytes / 1e9);
    }
}
