package lapidary.langchain4j;

import dev.langchain4j.model.chat.StreamingChatModel;
import dev.langchain4j.model.chat.listener.ChatModelListener;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.response.ChatModelStreamingEvent;
import dev.langchain4j.model.chat.response.PartialResponse;
import dev.langchain4j.model.chat.response.PartialResponseContext;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.langchain4j.model.chat.response.StreamingHandle;
import java.util.List;
import java.util.concurrent.Flow;
import lapidary.infer.Answer;
import lapidary.infer.Generation;
import lapidary.infer.LanguageModel;

/**
 * A {@link LanguageModel} as a LangChain4j streaming chat model; names and refusals are those of {@link LapidaryChatModel}.
 * Each answer has a virtual thread of its own, in which its handler or subscriber is called.
 */
public final class LapidaryStreamingChatModel implements StreamingChatModel {
    private static final System.Logger LOG = System.getLogger(LapidaryStreamingChatModel.class.getName());

    private final Provider provider;

    /** Answers with the base, as its generation_config.json says. */
    public LapidaryStreamingChatModel(LanguageModel model, String baseName) {
        this(model, baseName, LapidaryChatRequestParameters.builder().build(), List.of());
    }

    /**
     * @param baseName what requests and responses call the model without an adapter
     * @param defaults of requests that do not say otherwise; a model name among them chooses an adapter
     * @throws dev.langchain4j.exception.UnsupportedFeatureException where the defaults ask for what the model does not do
     */
    public LapidaryStreamingChatModel(
            LanguageModel model, String baseName, ChatRequestParameters defaults, List<ChatModelListener> listeners) {
        this.provider = new Provider(model, baseName, defaults, listeners);
    }

    /** What the model does not do is refused in this thread; everything else comes to the handler. */
    @Override
    public void doChat(ChatRequest request, StreamingChatResponseHandler handler) {
        Provider.Accepted accepted = provider.accept(request);
        Thread.ofVirtual().name("lapidary-chat").start(() -> stream(accepted, handler));
    }

    private void stream(Provider.Accepted request, StreamingChatResponseHandler handler) {
        Answer answer;
        Handle handle;
        try {
            handle = new Handle(provider.begin(request));
            PartialResponseContext context = new PartialResponseContext(handle);
            answer = handle.generation.stream(piece -> {
                if (!handle.isCancelled()) {
                    guarded(handler, () -> handler.onPartialResponse(new PartialResponse(piece), context));
                }
            });
        } catch (RuntimeException | Error e) {
            report(handler, Provider.failure(e));
            return;
        }
        if (!handle.isCancelled()) {
            guarded(handler, () -> handler.onCompleteResponse(provider.response(request, answer)));
        }
    }

    /** A handler's exception is told to the handler, and streaming goes on: LangChain4j's kit asks for it. */
    private static void guarded(StreamingChatResponseHandler handler, Runnable call) {
        try {
            call.run();
        } catch (RuntimeException e) {
            report(handler, e);
        }
    }

    private static void report(StreamingChatResponseHandler handler, Throwable error) {
        try {
            handler.onError(error);
        } catch (RuntimeException e) {
            LOG.log(
                    System.Logger.Level.WARNING,
                    "a handler's onError threw an exception, which nobody else can be told",
                    e);
        }
    }

    /** Starts a new answer at each subscription; everything that goes wrong comes to the subscriber. */
    @Override
    public Flow.Publisher<ChatModelStreamingEvent> doChat(ChatRequest request) {
        return new AnswerPublisher(provider, request);
    }

    @Override
    public ChatRequestParameters defaultRequestParameters() {
        return provider.defaults();
    }

    @Override
    public List<ChatModelListener> listeners() {
        return provider.listeners();
    }

    /** What a handler cancels with; that it did is remembered even where the answer was complete by then. */
    private static final class Handle implements StreamingHandle {
        private final Generation generation;

        Handle(Generation generation) {
            this.generation = generation;
        }

        @Override
        public void cancel() {
            generation.cancel();
        }

        @Override
        public boolean isCancelled() {
            return generation.isCancelled();
        }
    }
}
