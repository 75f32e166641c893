package lapidary.langchain4j;

import dev.langchain4j.exception.LangChain4jException;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.listener.ChatModelListener;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.response.ChatResponse;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import lapidary.infer.Generation;
import lapidary.infer.InferenceException;
import lapidary.infer.LanguageModel;

/**
 * A {@link LanguageModel} as a LangChain4j chat model. Model names are the base's and those of the attached adapters; one
 * that is attached under the same name answers from the next request on. The caller closes the {@code LanguageModel}.
 *
 * <p>Tools, JSON response formats, penalties and images at http addresses are refused with
 * {@link dev.langchain4j.exception.UnsupportedFeatureException}.
 */
public final class LapidaryChatModel implements ChatModel {
    private final Provider provider;

    /** Answers with the base, as its generation_config.json says. */
    public LapidaryChatModel(LanguageModel model, String baseName) {
        this(model, baseName, LapidaryChatRequestParameters.builder().build(), List.of());
    }

    /**
     * @param baseName what requests and responses call the model without an adapter
     * @param defaults of requests that do not say otherwise; a model name among them chooses an adapter
     * @throws dev.langchain4j.exception.UnsupportedFeatureException where the defaults ask for what the model does not do
     */
    public LapidaryChatModel(
            LanguageModel model, String baseName, ChatRequestParameters defaults, List<ChatModelListener> listeners) {
        this.provider = new Provider(model, baseName, defaults, listeners);
    }

    /** An interrupt of the calling thread cancels the answer. */
    @Override
    public ChatResponse doChat(ChatRequest request) {
        Provider.Accepted accepted = provider.accept(request);
        return answer(accepted, provider.begin(accepted));
    }

    /** Cancelling the future cancels the answer. */
    @Override
    public CompletableFuture<ChatResponse> doChatAsync(ChatRequest request) {
        Provider.Accepted accepted = provider.accept(request);
        CompletableFuture<ChatResponse> response = new CompletableFuture<>();
        Thread.ofVirtual().name("lapidary-chat").start(() -> {
            try {
                Generation generation = provider.begin(accepted);
                response.whenComplete((done, error) -> generation.cancel()); // nothing, unless the caller was first
                response.complete(answer(accepted, generation));
            } catch (RuntimeException | Error e) {
                response.completeExceptionally(e);
            }
        });
        return response;
    }

    private ChatResponse answer(Provider.Accepted request, Generation generation) {
        try {
            return provider.response(request, generation.answer());
        } catch (InferenceException e) {
            throw new LangChain4jException(e.getMessage(), e);
        }
    }

    @Override
    public ChatRequestParameters defaultRequestParameters() {
        return provider.defaults();
    }

    @Override
    public List<ChatModelListener> listeners() {
        return provider.listeners();
    }
}
