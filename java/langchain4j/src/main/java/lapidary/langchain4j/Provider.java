package lapidary.langchain4j;

import dev.langchain4j.data.message.AiMessage;
import dev.langchain4j.exception.InvalidRequestException;
import dev.langchain4j.exception.LangChain4jException;
import dev.langchain4j.exception.ModelNotFoundException;
import dev.langchain4j.exception.UnsupportedFeatureException;
import dev.langchain4j.model.chat.listener.ChatModelListener;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.request.ResponseFormatType;
import dev.langchain4j.model.chat.request.ToolChoice;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.ChatResponseMetadata;
import dev.langchain4j.model.output.FinishReason;
import dev.langchain4j.model.output.TokenUsage;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import lapidary.format.FormatException;
import lapidary.gemma3.Message;
import lapidary.infer.Answer;
import lapidary.infer.Generation;
import lapidary.infer.GenerationOptions;
import lapidary.infer.InferenceException;
import lapidary.infer.LanguageModel;

/** What the two chat models have in common: requests in, responses out. */
final class Provider {
    private final LanguageModel model;
    private final String baseName;
    private final LapidaryChatRequestParameters defaults;
    private final List<ChatModelListener> listeners;

    /** A request that was looked at and found possible. */
    record Accepted(List<Message> messages, LapidaryChatRequestParameters parameters) {}

    /** @throws UnsupportedFeatureException where the defaults ask for what no request can have */
    Provider(LanguageModel model, String baseName, ChatRequestParameters defaults, List<ChatModelListener> listeners) {
        this.model = Objects.requireNonNull(model, "model");
        if (baseName.isBlank()) {
            throw new IllegalArgumentException("the base model's name is blank; give what responses are to call it");
        }
        this.baseName = baseName;
        this.defaults = LapidaryChatRequestParameters.builder()
                .modelName(baseName)
                .overrideWith(defaults)
                .build();
        this.listeners = List.copyOf(listeners);
        check(this.defaults);
    }

    LapidaryChatRequestParameters defaults() {
        return defaults;
    }

    List<ChatModelListener> listeners() {
        return listeners;
    }

    /**
     * Everything that can be said of a request without the model.
     *
     * @param request whose parameters are merged with the defaults
     * @throws UnsupportedFeatureException naming what the model does not do
     */
    Accepted accept(ChatRequest request) {
        LapidaryChatRequestParameters parameters = LapidaryChatRequestParameters.of(request.parameters());
        check(parameters);
        List<Message> messages = Messages.of(request.messages());
        if (!model.takesImages() && messages.stream().anyMatch(Provider::hasImage)) {
            throw new UnsupportedFeatureException("images are not supported by this model, which reads texts alone");
        }
        return new Accepted(messages, parameters);
    }

    /**
     * Begins the answer; tokenises and decodes pictures in this thread.
     *
     * @throws ModelNotFoundException where no adapter has the name
     * @throws InvalidRequestException where the model cannot answer this conversation with these parameters
     */
    Generation begin(Accepted request) {
        String name = request.parameters().modelName();
        if (!name.equals(baseName) && !model.adapters().contains(name)) {
            throw new ModelNotFoundException("no model is called \"" + name + "\"; there is \"" + baseName
                    + "\", with the adapters " + model.adapters());
        }
        try {
            return model.generate(request.messages(), options(request.parameters()));
        } catch (IllegalArgumentException | FormatException e) {
            throw new InvalidRequestException(e.getMessage(), e);
        }
    }

    ChatResponse response(Accepted request, Answer answer) {
        return ChatResponse.builder()
                .aiMessage(AiMessage.from(answer.text()))
                .metadata(ChatResponseMetadata.builder()
                        .id("lapidary-" + UUID.randomUUID())
                        .modelName(request.parameters().modelName())
                        .tokenUsage(new TokenUsage(
                                answer.usage().promptTokens(), answer.usage().completionTokens()))
                        .finishReason(reason(answer.finishReason()))
                        .build())
                .build();
    }

    /** What went wrong while the answer was made, as LangChain4j's callers catch it. */
    static Throwable failure(Throwable e) {
        return e instanceof InferenceException ? new LangChain4jException(e.getMessage(), e) : e;
    }

    private GenerationOptions options(LapidaryChatRequestParameters parameters) {
        GenerationOptions own = model.defaults();
        boolean stops = !parameters.stopSequences().isEmpty();
        return new GenerationOptions(
                or(parameters.maxOutputTokens(), own.maxNewTokens()),
                or(parameters.temperature(), own.temperature()),
                or(parameters.topK(), own.topK()),
                or(parameters.topP(), own.topP()),
                or(parameters.minP(), own.minP()),
                or(parameters.seed(), own.seed()),
                stops ? parameters.stopSequences() : own.stop(),
                parameters.modelName().equals(baseName) ? LanguageModel.BASE : parameters.modelName());
    }

    private static <T> T or(T given, T own) {
        return given == null ? own : given;
    }

    private static void check(ChatRequestParameters parameters) {
        // LangChain4j's kit wants the choice to be refused before the tools are.
        if (parameters.toolChoice() != null && parameters.toolChoice() != ToolChoice.AUTO) {
            throw new UnsupportedFeatureException("ToolChoice." + parameters.toolChoice() + " is not supported");
        }
        if (!parameters.toolSpecifications().isEmpty()) {
            throw new UnsupportedFeatureException("tools are not supported");
        }
        if (parameters.responseFormat() != null && parameters.responseFormat().type() == ResponseFormatType.JSON) {
            throw new UnsupportedFeatureException("JSON response format is not supported");
        }
        checkPenalty("frequencyPenalty", parameters.frequencyPenalty());
        checkPenalty("presencePenalty", parameters.presencePenalty());
    }

    private static void checkPenalty(String name, Double value) {
        if (value != null && value != 0) {
            throw new UnsupportedFeatureException(name + " is " + value + ": penalties are not supported");
        }
    }

    private static boolean hasImage(Message message) {
        return message.content().stream().anyMatch(lapidary.gemma3.Content.Image.class::isInstance);
    }

    private static FinishReason reason(lapidary.infer.FinishReason reason) {
        return switch (reason) {
            case STOP -> FinishReason.STOP;
            case LENGTH -> FinishReason.LENGTH;
            case CANCELLED -> FinishReason.OTHER;
        };
    }
}
