package lapidary.infer;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.function.Supplier;

/**
 * The one thread that drives a model's device. Requests wait in the order they came until there is room for them in the batch;
 * those in it get a token each in turn, all that use one adapter in one pass. What else needs the device runs between two
 * tokens.
 */
final class Worker implements AutoCloseable {
    private final int batchSize;
    private final Decoder decoder;
    private final Deque<Sequence> waiting = new ArrayDeque<>(); // guarded by this, as the next two
    private final Deque<Runnable> tasks = new ArrayDeque<>();
    private boolean closing;
    private final List<Sequence> active = new ArrayList<>(); // the thread's own
    private final Thread thread;

    Worker(Decoder decoder, int batchSize) {
        this.decoder = decoder;
        this.batchSize = batchSize;
        this.thread = Thread.ofPlatform().name("lapidary-infer").daemon(true).unstarted(this::run);
    }

    void start() {
        thread.start();
    }

    /** @throws IllegalStateException where the model is closed */
    synchronized void submit(Sequence sequence) {
        requireOpen();
        waiting.add(sequence);
        notifyAll();
    }

    /**
     * Runs something that needs the device, between two tokens, and waits for its result.
     *
     * @throws IllegalStateException where the model is closed
     */
    <T> T call(Supplier<T> work) {
        CompletableFuture<T> result = new CompletableFuture<>();
        synchronized (this) {
            requireOpen();
            tasks.add(() -> {
                try {
                    result.complete(work.get());
                } catch (RuntimeException | Error e) {
                    result.completeExceptionally(e);
                }
            });
            notifyAll();
        }
        try {
            return result.join();
        } catch (CompletionException e) {
            if (e.getCause() instanceof RuntimeException cause) {
                throw cause;
            }
            throw e;
        }
    }

    /** Has adapters freed that nobody uses any more, though no request comes. Does not wait for it. */
    synchronized void tidy() {
        if (!closing) {
            tasks.add(decoder::closeUnused);
            notifyAll();
        }
    }

    /** Fails all requests that are not finished, and waits until the thread has freed what it owned. */
    @Override
    public void close() {
        synchronized (this) {
            closing = true;
            notifyAll();
        }
        boolean interrupted = false;
        while (thread.isAlive()) {
            try {
                thread.join();
            } catch (InterruptedException e) {
                interrupted = true; // what the thread uses must not be freed under it
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private void requireOpen() {
        if (closing) {
            throw new IllegalStateException("the model is closed");
        }
    }

    private void run() {
        try {
            while (awaitWork()) {
                runTasks();
                dropCancelled();
                step();
                decoder.closeUnused(); // last: the next work may be long in coming
            }
        } finally {
            stop();
        }
    }

    /** Waits until there is something to do, and admits requests while there is room; false where the model is closing. */
    private synchronized boolean awaitWork() {
        while (!closing && tasks.isEmpty() && waiting.isEmpty() && active.isEmpty()) {
            try {
                wait();
            } catch (InterruptedException e) {
                closing = true; // nobody but a shutdown interrupts this thread
            }
        }
        while (!closing && active.size() < batchSize && !waiting.isEmpty()) {
            active.add(waiting.remove());
        }
        return !closing;
    }

    private void runTasks() {
        for (Runnable task = nextTask(); task != null; task = nextTask()) {
            task.run();
        }
    }

    private synchronized Runnable nextTask() {
        return tasks.poll();
    }

    private void dropCancelled() {
        List<Sequence> cancelled = new ArrayList<>();
        synchronized (this) {
            waiting.removeIf(sequence -> sequence.generation().isCancelled() && cancelled.add(sequence));
        }
        active.removeIf(sequence -> sequence.generation().isCancelled() && cancelled.add(sequence));
        cancelled.forEach(sequence -> {
            decoder.release(sequence);
            sequence.finish(FinishReason.CANCELLED);
        });
    }

    /** One token for every active request. */
    private void step() {
        Map<Adapter, List<Sequence>> groups = new LinkedHashMap<>();
        active.forEach(sequence -> groups.computeIfAbsent(sequence.adapter(), a -> new ArrayList<>())
                .add(sequence));
        groups.values().forEach(decoder::step);
        active.removeIf(sequence -> sequence.generation().isDone());
    }

    private void stop() {
        List<Sequence> left = new ArrayList<>(active);
        synchronized (this) {
            closing = true;
            left.addAll(waiting);
            waiting.clear();
        }
        active.clear();
        left.forEach(sequence -> decoder.fail(sequence, new InferenceException("the model was closed")));
        runTasks(); // whoever waits for one is told
        decoder.close();
    }
}
