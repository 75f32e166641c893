package lapidary.train;

import java.util.Arrays;
import java.util.Iterator;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.IntConsumer;
import java.util.function.Supplier;
import lapidary.data.Prefetch;
import lapidary.data.Samples;

/**
 * The micro-batches of a run, read and decoded ahead of the device. Work begins at once, with the tokenizer and a look at
 * every row, so that it goes on beside the loading of the weights.
 */
final class Batches implements AutoCloseable {
    private static final int CORES = Runtime.getRuntime().availableProcessors();

    /** Decoding runs beside the device's thread. */
    static final int HOST_THREADS = Math.max(1, CORES / 2);

    static final int AHEAD = 3;
    private static final int REPORT_MS = 200;

    private final FutureTask<MicroBatches> loader;
    private final Prefetch<int[], MicroBatch> prefetch;
    private final boolean isIdle;
    private volatile boolean closed;
    private volatile int looked; // rows that have been looked at
    private volatile Checked found; // by the loader
    private long waitedNanos;

    /**
     * @param samples of the data set; asked for once
     * @param padId the token that pads a batch
     * @param units what the numbers of {@code batches} stand for
     * @param place of what is known of the rows
     * @param batches units of each micro-batch
     */
    Batches(Supplier<Samples> samples, int padId, Units units, CheckCache.Place place, Iterator<int[]> batches) {
        loader = new FutureTask<>(() -> {
            Samples all = samples.get();
            MicroBatches made = new MicroBatches(all, padId);
            found = units.isChecked()
                    ? units.checked()
                    : Checked.look(all, false, CORES, () -> !closed, done -> looked = done, place);
            return made;
        });
        isIdle = !batches.hasNext();
        prefetch = new Prefetch<>(batches, batch -> loader().load(rows(units, batch)), HOST_THREADS, AHEAD);
    }

    private static int[] rows(Units units, int[] batch) {
        return Arrays.stream(batch)
                .flatMap(unit -> Arrays.stream(units.rows()[unit]))
                .toArray();
    }

    /** What is known of all rows; waits like {@link #awaitReady}. */
    Checked checked() {
        loader();
        return found;
    }

    /**
     * Waits until tokenizer, processor and every row of the data set are read; throws what was wrong with them.
     *
     * @param progress hears now and then how many rows have been looked at
     */
    void awaitReady(IntConsumer progress) {
        if (isIdle) {
            loader.run(); // no thread will, as there is no batch to load
        }
        while (true) {
            try {
                loader.get(REPORT_MS, TimeUnit.MILLISECONDS);
                return;
            } catch (TimeoutException e) {
                progress.accept(looked);
            } catch (InterruptedException | ExecutionException e) {
                loader(); // throws it again
            }
        }
    }

    /** The next micro-batch, waiting for it where it is not there yet. */
    MicroBatch next() {
        long from = System.nanoTime();
        MicroBatch batch = prefetch.next();
        waitedNanos += System.nanoTime() - from;
        return batch;
    }

    /** Seconds that {@link #next} has waited in all. */
    double waitedSeconds() {
        return waitedNanos / 1e9;
    }

    private MicroBatches loader() {
        loader.run(); // the first thread to come reads tokenizer and rows; the others wait for it
        try {
            return loader.get();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted while waiting for the tokenizer", e);
        } catch (ExecutionException e) {
            if (e.getCause() instanceof RuntimeException cause) {
                throw cause;
            }
            throw (Error) e.getCause(); // reading declares no checked exception
        }
    }

    @Override
    public void close() {
        closed = true; // a look at the rows ends: it can take minutes
        prefetch.close();
    }
}
