package lapidary.springai;

import java.util.List;
import java.util.Objects;
import org.springframework.ai.chat.prompt.ChatOptions;
import org.springframework.ai.chat.prompt.DefaultChatOptions;
import org.springframework.ai.chat.prompt.DefaultChatOptionsBuilder;

/** Spring AI's options, and what this engine has beyond them: a seed, and min_p. */
public final class LapidaryChatOptions extends DefaultChatOptions {
    private final Long seed;
    private final Double minP;

    private LapidaryChatOptions(Builder builder) {
        super(
                builder.model(),
                builder.frequencyPenalty(),
                builder.maxTokens(),
                builder.presencePenalty(),
                builder.stopSequences(),
                builder.temperature(),
                builder.topK(),
                builder.topP());
        this.seed = builder.seed;
        this.minP = builder.minP;
    }

    /** Options that say nothing. */
    public static Builder builder() {
        return new Builder();
    }

    /** What anybody's options say, to be combined with others. */
    static Builder of(ChatOptions options) {
        if (options instanceof LapidaryChatOptions ours) {
            return ours.mutate();
        }
        return builder()
                .model(options.getModel())
                .frequencyPenalty(options.getFrequencyPenalty())
                .maxTokens(options.getMaxTokens())
                .presencePenalty(options.getPresencePenalty())
                .stopSequences(options.getStopSequences())
                .temperature(options.getTemperature())
                .topK(options.getTopK())
                .topP(options.getTopP());
    }

    /** Equal seeds draw equal answers; null for another one each time. */
    public Long getSeed() {
        return seed;
    }

    /** Tokens with less than this share of the likeliest token's probability are not drawn; null for the model's own. */
    public Double getMinP() {
        return minP;
    }

    @Override
    public Builder mutate() {
        return builder()
                .model(getModel())
                .frequencyPenalty(getFrequencyPenalty())
                .maxTokens(getMaxTokens())
                .presencePenalty(getPresencePenalty())
                .stopSequences(getStopSequences())
                .temperature(getTemperature())
                .topK(getTopK())
                .topP(getTopP())
                .seed(seed)
                .minP(minP);
    }

    @Override
    public boolean equals(Object other) {
        return super.equals(other)
                && other instanceof LapidaryChatOptions that
                && Objects.equals(seed, that.seed)
                && Objects.equals(minP, that.minP);
    }

    @Override
    public int hashCode() {
        return Objects.hash(super.hashCode(), seed, minP);
    }

    /** Collects options; what is not set is left to the model's defaults. */
    public static final class Builder extends DefaultChatOptionsBuilder<Builder> {
        private Long seed;
        private Double minP;

        private Builder() {}

        public Builder seed(Long value) {
            seed = value;
            return this;
        }

        public Builder minP(Double share) {
            minP = share;
            return this;
        }

        @Override
        public Builder combineWith(ChatOptions.Builder<?> other) {
            super.combineWith(other);
            if (other instanceof Builder that) {
                seed = that.seed == null ? seed : that.seed;
                minP = that.minP == null ? minP : that.minP;
            }
            return this;
        }

        @Override
        public LapidaryChatOptions build() {
            return new LapidaryChatOptions(this);
        }

        private String model() {
            return model;
        }

        private Double frequencyPenalty() {
            return frequencyPenalty;
        }

        private Integer maxTokens() {
            return maxTokens;
        }

        private Double presencePenalty() {
            return presencePenalty;
        }

        private List<String> stopSequences() {
            return stopSequences == null ? null : List.copyOf(stopSequences);
        }

        private Double temperature() {
            return temperature;
        }

        private Integer topK() {
            return topK;
        }

        private Double topP() {
            return topP;
        }
    }
}
