package lapidary.train;

import java.util.Iterator;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import lapidary.data.Dataset;
import lapidary.data.Prefetch;
import lapidary.gemma3.Gemma3;

/**
 * The micro-batches of a run, read and decoded ahead of the device. Work begins at once, with the tokenizer and a look at
 * every row, so that it goes on beside the loading of the weights.
 */
final class Batches implements AutoCloseable {
    /** Decoding runs beside the device's thread. */
    private static final int HOST_THREADS = Math.max(1, Runtime.getRuntime().availableProcessors() / 2);

    private static final int AHEAD = 3;

    private final FutureTask<MicroBatches> loader;
    private final Prefetch<int[], MicroBatch> prefetch;
    private volatile boolean closed;

    /** @param rows of the data set, by micro-batch */
    Batches(SftConfig config, Dataset dataset, Iterator<int[]> rows) {
        loader = new FutureTask<>(() -> {
            MicroBatches made = MicroBatches.of(
                    Gemma3.readConfig(config.modelNameOrPath()), config.modelNameOrPath(), dataset, config.profile());
            made.check(() -> !closed);
            return made;
        });
        prefetch = new Prefetch<>(
                rows,
                batch -> {
                    loader.run(); // the first thread to come reads tokenizer and rows; the others wait for it
                    return loader().load(batch);
                },
                HOST_THREADS,
                AHEAD);
    }

    /** Waits until tokenizer, processor and every row of the data set are read; throws what was wrong with them. */
    void awaitReady() {
        loader();
    }

    MicroBatch next() {
        return prefetch.next();
    }

    private MicroBatches loader() {
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
