package lapidary.data;

import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.Callable;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Function;

/**
 * Does work ahead of the one who needs its results: several threads, a bounded number of results waiting, results in the
 * order of the items whatever the threads do. At most {@code ahead} items are begun and not yet taken, which bounds
 * the memory.
 *
 * <p>An item that fails throws from the {@link #next} whose turn it is; those before it are delivered, and those after it can
 * still be. For one consumer; the items are drawn on its thread. Closing drops what has not begun and waits for what
 * has: no thread outlives it, and none is interrupted (an interrupt would close the files they share).
 */
public final class Prefetch<I, O> implements Iterator<O>, AutoCloseable {
    private final Iterator<? extends I> items;
    private final Function<? super I, ? extends O> work;
    private final int ahead;
    private final ExecutorService threads;
    private final ArrayDeque<Future<O>> begun = new ArrayDeque<>();
    private final List<Thread> workers = new CopyOnWriteArrayList<>();
    private volatile boolean closed;

    /**
     * Begins at once.
     *
     * @param threads how many items are worked on at a time
     * @param ahead how many results, finished or in work, may wait to be taken
     */
    public Prefetch(Iterator<? extends I> items, Function<? super I, ? extends O> work, int threads, int ahead) {
        if (threads < 1 || ahead < 1) {
            throw new IllegalArgumentException("prefetch with " + threads + " threads and " + ahead
                    + " results ahead, expected 1 or more of each");
        }
        this.items = items;
        this.work = work;
        this.ahead = ahead;
        this.threads = Executors.newFixedThreadPool(Math.min(threads, ahead), task -> {
            Thread thread = new Thread(task, "prefetch-" + (workers.size() + 1));
            thread.setDaemon(true);
            workers.add(thread);
            return thread;
        });
        try {
            fill();
        } catch (RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    @Override
    public boolean hasNext() {
        return !closed && !begun.isEmpty();
    }

    /** The result of the next item, waiting for it where it is not there yet; throws what its work threw. */
    @Override
    public O next() {
        if (!hasNext()) {
            throw new NoSuchElementException(closed ? "prefetch is closed" : "no items left");
        }
        Future<O> first = begun.remove();
        try {
            return first.get();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted while waiting for prefetched work", e);
        } catch (ExecutionException e) {
            if (e.getCause() instanceof RuntimeException cause) {
                throw cause;
            }
            throw (Error) e.getCause(); // a Function throws nothing else
        } finally {
            if (!closed) {
                fill();
            }
        }
    }

    private void fill() {
        while (begun.size() < ahead && items.hasNext()) {
            I item = items.next();
            Callable<O> task = () -> {
                if (closed) {
                    throw new IllegalStateException("prefetch was closed");
                }
                return work.apply(item);
            };
            begun.add(threads.submit(task));
        }
    }

    /** Waits for the work in hand; results not taken are dropped. */
    @Override
    public void close() {
        closed = true;
        begun.clear();
        threads.shutdown();
        boolean interrupted = false;
        // An executor counts as terminated a moment before its threads have ended, so each is waited for by itself.
        for (Thread worker : workers) {
            while (worker.isAlive()) {
                try {
                    worker.join();
                } catch (InterruptedException e) {
                    interrupted = true; // the threads still use what the caller closes next: keep waiting
                }
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
