package lapidary.cli;

import java.io.PrintWriter;
import java.util.concurrent.CountDownLatch;

/**
 * Turns SIGTERM and Ctrl-C into a request to stop in good order: the process lives on until the run has saved what it has,
 * and ends with the run's own code. Before training has begun there is nothing to save, and the process ends at once.
 */
final class Interruption implements AutoCloseable {
    private final CountDownLatch ended = new CountDownLatch(1);
    private final Thread hook;
    private volatile String line = "Stopping after this step, with a checkpoint";
    private volatile boolean started;
    private volatile boolean requested;
    private volatile int code;

    /** @param stop asks the run to stop */
    Interruption(Runnable stop, PrintWriter out) {
        hook = new Thread(() -> {
            if (!started || ended.getCount() == 0) {
                return;
            }
            requested = true;
            stop.run();
            out.println("\n" + line);
            out.flush();
            boolean waiting = true;
            while (waiting) {
                try {
                    ended.await();
                    waiting = false;
                } catch (InterruptedException e) {
                    // nothing interrupts a hook but the end of the process
                }
            }
            Runtime.getRuntime().halt(code);
        });
        Runtime.getRuntime().addShutdownHook(hook);
    }

    /** Training has begun: from now on there is something to save. */
    void started() {
        started = true;
    }

    /** What an interruption says from now on, about what it waits for. */
    void waitsFor(String what) {
        line = what;
    }

    boolean isRequested() {
        return requested;
    }

    /** The run is over and has said all that it has to say; an interrupted process ends with {@code exit}. */
    void end(int exit) {
        code = exit;
        ended.countDown();
    }

    @Override
    public void close() {
        ended.countDown();
        try {
            Runtime.getRuntime().removeShutdownHook(hook);
        } catch (IllegalStateException e) {
            // the process is ending: the hook has what it needs
        }
    }
}
