package lapidary.springai;

import io.micrometer.observation.ObservationRegistry;
import lapidary.device.DType;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;
import org.springframework.ai.chat.model.ChatModel;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnProperty;
import org.springframework.boot.context.properties.EnableConfigurationProperties;
import org.springframework.context.annotation.Bean;

/** A {@link LanguageModel} and a {@link LapidaryChatModel} over it, as {@code spring.ai.lapidary.*} say. */
@AutoConfiguration(beforeName = "org.springframework.ai.model.chat.client.autoconfigure.ChatClientAutoConfiguration")
@ConditionalOnProperty(name = "spring.ai.model.chat", havingValue = "lapidary", matchIfMissing = true)
@EnableConfigurationProperties(LapidaryProperties.class)
public class LapidaryAutoConfiguration {

    /** Closed with the context. */
    @Bean(destroyMethod = "close")
    @ConditionalOnMissingBean
    LanguageModel lapidaryLanguageModel(LapidaryProperties properties) {
        if (properties.model() == null) {
            throw new IllegalArgumentException(
                    "spring.ai.lapidary.model is not set; give the folder of a Gemma 3 model");
        }
        LoadOptions options = LoadOptions.DEFAULT
                .withDtype(dtype(properties.dtype()))
                .withContextLength(properties.contextLength())
                .withBatchSize(properties.batchSize());
        LanguageModel model =
                LanguageModel.load(properties.model(), properties.loadIn4bit() ? options.withNf4() : options);
        try {
            properties.adapters().forEach(model::attach);
            return model;
        } catch (RuntimeException | Error e) {
            model.close();
            throw e;
        }
    }

    @Bean
    @ConditionalOnMissingBean(ChatModel.class)
    LapidaryChatModel lapidaryChatModel(
            LanguageModel model, LapidaryProperties properties, ObjectProvider<ObservationRegistry> observations) {
        return new LapidaryChatModel(
                model,
                properties.name(),
                properties.chat().options(),
                observations.getIfUnique(() -> ObservationRegistry.NOOP));
    }

    private static DType dtype(String name) {
        return switch (name) {
            case "bfloat16" -> DType.BF16;
            case "float32" -> DType.F32;
            default -> throw new IllegalArgumentException(
                    "spring.ai.lapidary.dtype is \"" + name + "\", expected bfloat16 or float32");
        };
    }
}
