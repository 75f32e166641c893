package lapidary.infer;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Consumer;

/**
 * An answer that is being made. The model works on it whether or not anybody waits. Any thread may call any method; one
 * thread at a time takes the pieces.
 */
public final class Generation {
    private static final String END = new String("end"); // told from a piece by its identity

    private final BlockingQueue<String> pieces = new LinkedBlockingQueue<>();
    private final CompletableFuture<Answer> answer = new CompletableFuture<>();
    private volatile boolean cancelled;

    Generation() {}

    /**
     * Waits for the whole answer.
     *
     * @throws InferenceException where it could not be made
     * @throws CancellationException where this thread was interrupted, which cancels the generation
     */
    public Answer answer() {
        try {
            return answer.get();
        } catch (InterruptedException e) {
            throw interrupted();
        } catch (ExecutionException e) {
            throw failure(e.getCause());
        }
    }

    /**
     * Calls {@code onText} in this thread with each piece of text as soon as it is there, none of them empty, and returns the
     * whole answer at the end. What {@code onText} throws cancels the generation and is thrown on. Pieces that were taken before
     * do not come again.
     *
     * @throws InferenceException where the answer could not be made
     * @throws CancellationException where this thread was interrupted, which cancels the generation
     */
    public Answer stream(Consumer<String> onText) {
        try {
            for (String piece = pieces.take(); piece != END; piece = pieces.take()) {
                onText.accept(piece);
            }
            pieces.add(END); // for whoever streams after this
        } catch (InterruptedException e) {
            throw interrupted();
        } catch (RuntimeException | Error e) {
            cancel();
            throw e;
        }
        return answer();
    }

    /** Ends the answer with the token at work; {@link FinishReason#CANCELLED}. Does nothing to one that is finished. */
    public void cancel() {
        cancelled = true;
    }

    public boolean isCancelled() {
        return cancelled;
    }

    public boolean isDone() {
        return answer.isDone();
    }

    /**
     * Completes with the answer or with what it failed of. What depends on it runs in a virtual thread of its own, or in the
     * caller's where that has run; so it may ask the model, or close it. Nobody waits for that thread: not the model's
     * {@code close()}, nor the JVM at its end.
     */
    public CompletionStage<Answer> whenDone() {
        CompletableFuture<Answer> elsewhere = new CompletableFuture<>();
        answer.whenCompleteAsync(
                (whole, failure) -> {
                    if (failure == null) {
                        elsewhere.complete(whole);
                    } else {
                        elsewhere.completeExceptionally(failure);
                    }
                },
                Thread::startVirtualThread);
        return elsewhere.minimalCompletionStage();
    }

    void add(String piece) {
        if (!piece.isEmpty()) {
            pieces.add(piece);
        }
    }

    void complete(Answer whole) {
        answer.complete(whole);
        pieces.add(END);
    }

    void fail(Throwable cause) {
        answer.completeExceptionally(cause);
        pieces.add(END);
    }

    private CancellationException interrupted() {
        cancel();
        Thread.currentThread().interrupt();
        return new CancellationException("the thread was interrupted while it waited for an answer");
    }

    /** Thrown in the caller's thread, with where it arose in the model's behind it. */
    private static RuntimeException failure(Throwable cause) {
        return new InferenceException(String.valueOf(cause.getMessage()), cause);
    }
}
