package lapidary.langchain4j;

import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.response.ChatModelStreamingEvent;
import dev.langchain4j.model.chat.response.CompleteResponse;
import dev.langchain4j.model.chat.response.PartialResponse;
import java.util.Objects;
import java.util.concurrent.CancellationException;
import java.util.concurrent.Flow;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import lapidary.infer.Answer;
import lapidary.infer.Generation;

/**
 * Answers as a reactive stream: pieces, then the whole response. The model does not wait for demand: what it has made is kept
 * until it is asked for, and an answer's length is bounded.
 */
final class AnswerPublisher implements Flow.Publisher<ChatModelStreamingEvent> {
    private final Provider provider;
    private final ChatRequest request;

    AnswerPublisher(Provider provider, ChatRequest request) {
        this.provider = provider;
        this.request = request;
    }

    @Override
    public void subscribe(Flow.Subscriber<? super ChatModelStreamingEvent> subscriber) {
        Stream stream = new Stream(Objects.requireNonNull(subscriber, "subscriber"));
        subscriber.onSubscribe(stream);
        Thread.ofVirtual().name("lapidary-chat").start(stream::run);
    }

    /** One subscription. */
    private final class Stream implements Flow.Subscription {
        private final Flow.Subscriber<? super ChatModelStreamingEvent> subscriber;
        private final ReentrantLock lock = new ReentrantLock();
        private final Condition changed = lock.newCondition();
        private long demand; // guarded by the lock, as the next three
        private boolean cancelled;
        private IllegalArgumentException refusal;
        private Generation generation;

        Stream(Flow.Subscriber<? super ChatModelStreamingEvent> subscriber) {
            this.subscriber = subscriber;
        }

        @Override
        public void request(long n) {
            lock.lock();
            try {
                if (n <= 0) {
                    refusal = new IllegalArgumentException("request(" + n + "), expected more than 0");
                } else {
                    demand = demand + n < 0 ? Long.MAX_VALUE : demand + n;
                }
                changed.signalAll();
            } finally {
                lock.unlock();
            }
        }

        @Override
        public void cancel() {
            lock.lock();
            try {
                cancelled = true;
                if (generation != null) {
                    generation.cancel();
                }
                changed.signalAll();
            } finally {
                lock.unlock();
            }
        }

        void run() {
            try {
                Provider.Accepted accepted = provider.accept(request);
                Generation begun = begin(accepted);
                Answer answer = begun.stream(piece -> emit(new PartialResponse(piece)));
                emit(new CompleteResponse(provider.response(accepted, answer)));
            } catch (Ended e) {
                return;
            } catch (RuntimeException | Error e) {
                subscriber.onError(Provider.failure(e));
                return;
            }
            subscriber.onComplete();
        }

        private Generation begin(Provider.Accepted accepted) {
            Generation begun = provider.begin(accepted);
            lock.lock();
            try {
                generation = begun;
                if (cancelled) {
                    begun.cancel();
                }
            } finally {
                lock.unlock();
            }
            return begun;
        }

        private void emit(ChatModelStreamingEvent event) {
            awaitDemand();
            try {
                subscriber.onNext(event);
            } catch (RuntimeException e) {
                throw new Ended(); // Reactive Streams 2.13: it counts as cancelled, and hears no more
            }
        }

        /** Takes one event's demand; throws where none will come. */
        private void awaitDemand() {
            lock.lock();
            try {
                while (demand == 0 && !cancelled && refusal == null) {
                    changed.awaitUninterruptibly();
                }
                if (cancelled) {
                    throw new Ended();
                }
                if (refusal != null) {
                    throw refusal;
                }
                demand--;
            } finally {
                lock.unlock();
            }
        }
    }

    /** The subscriber hears nothing more. */
    private static final class Ended extends CancellationException {
        private static final long serialVersionUID = 1;
    }
}
