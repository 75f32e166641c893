package lapidary.springai;

import io.micrometer.observation.Observation;
import io.micrometer.observation.ObservationRegistry;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import lapidary.format.FormatException;
import lapidary.infer.Answer;
import lapidary.infer.Generation;
import lapidary.infer.GenerationOptions;
import lapidary.infer.LanguageModel;
import org.springframework.ai.chat.messages.AssistantMessage;
import org.springframework.ai.chat.metadata.ChatGenerationMetadata;
import org.springframework.ai.chat.metadata.ChatResponseMetadata;
import org.springframework.ai.chat.metadata.DefaultUsage;
import org.springframework.ai.chat.model.ChatModel;
import org.springframework.ai.chat.model.ChatResponse;
import org.springframework.ai.chat.observation.ChatModelObservationContext;
import org.springframework.ai.chat.observation.ChatModelObservationDocumentation;
import org.springframework.ai.chat.observation.DefaultChatModelObservationConvention;
import org.springframework.ai.chat.prompt.ChatOptions;
import org.springframework.ai.chat.prompt.Prompt;
import org.springframework.ai.model.tool.ToolCallingChatOptions;
import reactor.core.publisher.Flux;
import reactor.core.publisher.FluxSink;

/**
 * A {@link LanguageModel} as a Spring AI chat model. Model names are the base's and those of the attached adapters; one that is
 * attached under the same name answers from the next request on. The caller closes the {@code LanguageModel}.
 *
 * <p>Tools, penalties and images at http addresses are refused with an {@link IllegalArgumentException}.
 */
public final class LapidaryChatModel implements ChatModel {
    private static final DefaultChatModelObservationConvention CONVENTION = new DefaultChatModelObservationConvention();

    /** Where Micrometer keeps the observation around a reactive stream. */
    private static final String OBSERVATION_KEY = "micrometer.observation";

    private final LanguageModel model;
    private final String baseName;
    private final LapidaryChatOptions defaults;
    private final ObservationRegistry observations;

    /** Answers with the base, as its generation_config.json says. */
    public LapidaryChatModel(LanguageModel model, String baseName) {
        this(model, baseName, LapidaryChatOptions.builder().build(), ObservationRegistry.NOOP);
    }

    /**
     * @param baseName what requests and responses call the model without an adapter
     * @param defaults of prompts that do not say otherwise; a model name among them chooses an adapter
     */
    public LapidaryChatModel(
            LanguageModel model, String baseName, LapidaryChatOptions defaults, ObservationRegistry observations) {
        this.model = Objects.requireNonNull(model, "model");
        if (baseName.isBlank()) {
            throw new IllegalArgumentException("the base model's name is blank; give what responses are to call it");
        }
        this.baseName = baseName;
        this.defaults = LapidaryChatOptions.builder()
                .model(baseName)
                .combineWith(defaults.mutate())
                .build();
        this.observations = Objects.requireNonNull(observations, "observations");
    }

    @Override
    public LapidaryChatOptions getOptions() {
        return defaults;
    }

    /**
     * An interrupt of the calling thread cancels the answer.
     *
     * @throws IllegalArgumentException where the model cannot answer these messages with these options
     */
    @Override
    public ChatResponse call(Prompt prompt) {
        Prompt merged = merged(prompt);
        ChatModelObservationContext context = context(merged, false);
        return Objects.requireNonNull(observation(context).observe(() -> {
            Answer answer = begin(merged).answer();
            ChatResponse response =
                    response(answer.text(), answer, metadata(merged, newId()).usage(usage(answer)));
            context.setResponse(response);
            return response;
        }));
    }

    /** A response for each piece, then one without text that has finish reason and usage. Cancelling ends the answer. */
    @Override
    public Flux<ChatResponse> stream(Prompt prompt) {
        return Flux.deferContextual(view -> {
            Prompt merged = merged(prompt);
            ChatModelObservationContext context = context(merged, true);
            Observation parent = view.getOrDefault(OBSERVATION_KEY, null);
            Observation observation =
                    observation(context).parentObservation(parent).start();
            return Flux.<ChatResponse>create(
                            sink -> Thread.ofVirtual().name("lapidary-chat").start(() -> stream(merged, context, sink)))
                    .doOnError(observation::error)
                    .doFinally(signal -> observation.stop())
                    .contextWrite(c -> c.put(OBSERVATION_KEY, observation));
        });
    }

    private void stream(Prompt prompt, ChatModelObservationContext context, FluxSink<ChatResponse> sink) {
        try {
            String id = newId();
            Generation generation = begin(prompt);
            sink.onCancel(generation::cancel);
            Answer answer = generation.stream(piece -> sink.next(
                    new ChatResponse(List.of(piece(piece)), metadata(prompt, id).build())));
            ChatResponseMetadata.Builder last = metadata(prompt, id).usage(usage(answer));
            context.setResponse(response(answer.text(), answer, last));
            sink.next(response("", answer, last));
            sink.complete();
        } catch (RuntimeException | Error e) {
            sink.error(e);
        }
    }

    private Generation begin(Prompt prompt) {
        LapidaryChatOptions options = (LapidaryChatOptions) Objects.requireNonNull(prompt.getOptions());
        String name = options.getModel();
        if (!name.equals(baseName) && !model.adapters().contains(name)) {
            throw new IllegalArgumentException("no model is called \"" + name + "\"; there is \"" + baseName
                    + "\", with the adapters " + model.adapters());
        }
        try {
            return model.generate(Messages.of(prompt.getInstructions()), generationOptions(options));
        } catch (FormatException e) {
            throw new IllegalArgumentException(e.getMessage(), e);
        }
    }

    private GenerationOptions generationOptions(LapidaryChatOptions options) {
        checkPenalty("frequencyPenalty", options.getFrequencyPenalty());
        checkPenalty("presencePenalty", options.getPresencePenalty());
        GenerationOptions own = model.defaults();
        List<String> stop = options.getStopSequences();
        return new GenerationOptions(
                or(options.getMaxTokens(), own.maxNewTokens()),
                or(options.getTemperature(), own.temperature()),
                or(options.getTopK(), own.topK()),
                or(options.getTopP(), own.topP()),
                or(options.getMinP(), own.minP()),
                or(options.getSeed(), own.seed()),
                stop == null ? own.stop() : stop.stream().distinct().toList(),
                options.getModel().equals(baseName) ? LanguageModel.BASE : options.getModel());
    }

    private static <T> T or(T given, T own) {
        return given == null ? own : given;
    }

    private static void checkPenalty(String name, Double value) {
        if (value != null && value != 0) {
            throw new IllegalArgumentException(name + " is " + value + ", but the model has no penalties");
        }
    }

    /** The prompt with these defaults under its options: nobody else does that for a prompt that comes without a ChatClient. */
    private Prompt merged(Prompt prompt) {
        ChatOptions asked = prompt.getOptions();
        if (asked instanceof ToolCallingChatOptions tools
                && !tools.getToolCallbacks().isEmpty()) {
            throw new IllegalArgumentException("the prompt's options have tools, which the model does not use");
        }
        return new Prompt(
                prompt.getInstructions(),
                asked == null
                        ? defaults
                        : defaults.mutate()
                                .combineWith(LapidaryChatOptions.of(asked))
                                .build());
    }

    private ChatModelObservationContext context(Prompt prompt, boolean streaming) {
        return ChatModelObservationContext.builder()
                .prompt(prompt)
                .provider("lapidary")
                .streaming(streaming)
                .build();
    }

    private Observation observation(ChatModelObservationContext context) {
        return ChatModelObservationDocumentation.CHAT_MODEL_OPERATION.observation(
                null, CONVENTION, () -> context, observations);
    }

    private static String newId() {
        return "lapidary-" + UUID.randomUUID();
    }

    private static ChatResponseMetadata.Builder metadata(Prompt prompt, String id) {
        return ChatResponseMetadata.builder()
                .id(id)
                .model(Objects.requireNonNull(prompt.getOptions()).getModel());
    }

    private static DefaultUsage usage(Answer answer) {
        return new DefaultUsage(answer.usage().promptTokens(), answer.usage().completionTokens());
    }

    private static org.springframework.ai.chat.model.Generation piece(String text) {
        return new org.springframework.ai.chat.model.Generation(new AssistantMessage(text));
    }

    private static ChatResponse response(String text, Answer answer, ChatResponseMetadata.Builder metadata) {
        return new ChatResponse(
                List.of(new org.springframework.ai.chat.model.Generation(
                        new AssistantMessage(text),
                        ChatGenerationMetadata.builder()
                                .finishReason(answer.finishReason().name())
                                .build())),
                metadata.build());
    }
}
