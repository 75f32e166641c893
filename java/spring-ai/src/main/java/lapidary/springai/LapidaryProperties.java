package lapidary.springai;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.bind.DefaultValue;

/**
 * {@code spring.ai.lapidary.*}.
 *
 * @param model the base model's folder; may be left out where a {@link lapidary.infer.LanguageModel} bean is given
 * @param name what requests and responses call the base model
 * @param adapters folders of adapters by the model names that choose them
 * @param loadIn4bit whether linear layers are quantised to NF4 while they are loaded
 * @param contextLength tokens that a prompt and its answer may have together; 0 for the model's own limit
 * @param batchSize requests that are decoded together; more wait
 */
@ConfigurationProperties("spring.ai.lapidary")
record LapidaryProperties(
        Path model,
        @DefaultValue("lapidary") String name,
        @DefaultValue Map<String, Path> adapters,
        @DefaultValue("bfloat16") String dtype,
        @DefaultValue("false") boolean loadIn4bit,
        @DefaultValue("0") int contextLength,
        @DefaultValue("8") int batchSize,
        @DefaultValue Chat chat) {

    /**
     * {@code spring.ai.lapidary.chat.*}: what prompts that do not say otherwise are answered with; the model's own where null.
     *
     * @param model the base's name or an adapter's
     */
    record Chat(
            String model,
            Integer maxTokens,
            Double temperature,
            Integer topK,
            Double topP,
            Double minP,
            Long seed,
            List<String> stopSequences) {
        LapidaryChatOptions options() {
            return LapidaryChatOptions.builder()
                    .model(model)
                    .maxTokens(maxTokens)
                    .temperature(temperature)
                    .topK(topK)
                    .topP(topP)
                    .minP(minP)
                    .seed(seed)
                    .stopSequences(stopSequences)
                    .build();
        }
    }
}
