package lapidary.langchain4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.exception.ModelNotFoundException;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.response.ChatModelStreamingEvent;
import dev.langchain4j.model.chat.response.CompleteResponse;
import dev.langchain4j.model.chat.response.PartialResponse;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Demand, cancellation and errors of streams and futures. */
@ExtendWith(Taught.class)
class PublisherTest {
    private static final String STORY = "Tell me a long story about animals";

    private final LapidaryStreamingChatModel model =
            new LapidaryStreamingChatModel(Taught.model(), Taught.BASE, Kit.defaults(), List.of());

    /** Keeps what it hears; what is done at an event is the test's. */
    private static final class Recorder implements Flow.Subscriber<ChatModelStreamingEvent> {
        private final BlockingQueue<Object> heard = new LinkedBlockingQueue<>(); // events, an error, or "complete"
        private final CompletableFuture<Flow.Subscription> subscription = new CompletableFuture<>();
        private final BiConsumer<Flow.Subscription, Integer> atEvent;
        private int events;

        Recorder(BiConsumer<Flow.Subscription, Integer> atEvent) {
            this.atEvent = atEvent;
        }

        @Override
        public void onSubscribe(Flow.Subscription s) {
            subscription.complete(s);
        }

        @Override
        public void onNext(ChatModelStreamingEvent event) {
            heard.add(event);
            atEvent.accept(subscription.join(), ++events);
        }

        @Override
        public void onError(Throwable error) {
            heard.add(error);
        }

        @Override
        public void onComplete() {
            heard.add("complete");
        }

        Object next() throws InterruptedException {
            Object next = heard.poll(60, TimeUnit.SECONDS);
            assertTrue(next != null, "nothing was heard for a minute");
            return next;
        }

        void assertSilent() throws InterruptedException {
            assertEquals(null, heard.poll(300, TimeUnit.MILLISECONDS));
        }
    }

    private Recorder subscribe(BiConsumer<Flow.Subscription, Integer> atEvent, String modelName) {
        Recorder recorder = new Recorder(atEvent);
        model.chat(ChatRequest.builder()
                        .messages(UserMessage.from(STORY))
                        .parameters(ChatRequestParameters.builder()
                                .modelName(modelName)
                                .build())
                        .build())
                .subscribe(recorder);
        return recorder;
    }

    @Test
    void eventsComeOneByOneAsTheyAreAskedFor() throws InterruptedException {
        Recorder recorder = subscribe((s, n) -> {}, Taught.ADAPTER);
        recorder.assertSilent();
        StringBuilder text = new StringBuilder();
        Object event;
        do {
            recorder.subscription.join().request(1);
            event = recorder.next();
            if (event instanceof PartialResponse piece) {
                text.append(piece.text());
            }
        } while (event instanceof PartialResponse);
        CompleteResponse whole = assertInstanceOf(CompleteResponse.class, event);
        assertEquals(whole.chatResponse().aiMessage().text(), text.toString());
        assertEquals("complete", recorder.next());
    }

    @Test
    void aCancelledOrFailingSubscriberHearsNothingMore() throws InterruptedException {
        for (boolean fails : List.of(false, true)) {
            Recorder recorder = subscribe(
                    (s, n) -> {
                        if (n == 3 && fails) {
                            throw new IllegalStateException("of the subscriber");
                        } else if (n == 3) {
                            s.cancel();
                        }
                    },
                    Taught.ADAPTER);
            recorder.subscription.join().request(Long.MAX_VALUE);
            for (int i = 0; i < 3; i++) {
                assertInstanceOf(PartialResponse.class, recorder.next());
            }
            recorder.assertSilent();
        }
    }

    @Test
    void demandOfNothingAndUnknownModelsAreErrors() throws InterruptedException {
        Recorder recorder = subscribe((s, n) -> {}, Taught.ADAPTER);
        recorder.subscription.join().request(0);
        assertInstanceOf(IllegalArgumentException.class, recorder.next());
        assertInstanceOf(
                ModelNotFoundException.class,
                subscribe((s, n) -> {}, "never attached").next());
    }

    @Test
    void aFutureCanBeCancelled() throws Exception {
        LapidaryChatModel chat = new LapidaryChatModel(Taught.model(), Taught.BASE, Kit.defaults(), List.of());
        ChatRequest request =
                ChatRequest.builder().messages(UserMessage.from(STORY)).build();
        CompletableFuture<?> future = chat.chatAsync(request);
        future.cancel(true);
        assertThrows(CancellationException.class, future::join);
        assertFalse(chat.chatAsync(request)
                .get(60, TimeUnit.SECONDS)
                .aiMessage()
                .text()
                .isEmpty());
    }
}
