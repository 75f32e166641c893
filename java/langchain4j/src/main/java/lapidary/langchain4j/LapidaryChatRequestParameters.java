package lapidary.langchain4j;

import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.request.DefaultChatRequestParameters;
import java.util.Objects;

/** LangChain4j's parameters, and what this engine has beyond them: a seed, and min_p. */
public final class LapidaryChatRequestParameters extends DefaultChatRequestParameters {
    private final Long seed;
    private final Double minP;

    private LapidaryChatRequestParameters(Builder builder) {
        super(builder);
        this.seed = builder.seed;
        this.minP = builder.minP;
    }

    /** Parameters that say nothing. */
    public static Builder builder() {
        return new Builder();
    }

    /** These parameters, whoever made them, as this class. */
    static LapidaryChatRequestParameters of(ChatRequestParameters parameters) {
        return parameters instanceof LapidaryChatRequestParameters ours
                ? ours
                : builder().overrideWith(parameters).build();
    }

    /** Equal seeds draw equal answers; null for another one each time. */
    public Long seed() {
        return seed;
    }

    /** Tokens with less than this share of the likeliest token's probability are not drawn; null for the model's own. */
    public Double minP() {
        return minP;
    }

    @Override
    public LapidaryChatRequestParameters overrideWith(ChatRequestParameters that) {
        return builder().overrideWith(this).overrideWith(that).build();
    }

    @Override
    public LapidaryChatRequestParameters defaultedBy(ChatRequestParameters that) {
        return builder().overrideWith(that).overrideWith(this).build();
    }

    @Override
    public boolean equals(Object other) {
        return super.equals(other)
                && other instanceof LapidaryChatRequestParameters that
                && Objects.equals(seed, that.seed)
                && Objects.equals(minP, that.minP);
    }

    @Override
    public int hashCode() {
        return Objects.hash(super.hashCode(), seed, minP);
    }

    @Override
    public String toString() {
        return super.toString() + "{seed=" + seed + ", minP=" + minP + "}";
    }

    /** Collects parameters; what is not set is left to the model's defaults. */
    public static final class Builder extends DefaultChatRequestParameters.Builder<Builder> {
        private Long seed;
        private Double minP;

        private Builder() {}

        @Override
        public Builder overrideWith(ChatRequestParameters parameters) {
            super.overrideWith(parameters);
            if (parameters instanceof LapidaryChatRequestParameters ours) {
                seed = ours.seed == null ? seed : ours.seed;
                minP = ours.minP == null ? minP : ours.minP;
            }
            return this;
        }

        public Builder seed(Long value) {
            seed = value;
            return this;
        }

        public Builder minP(Double share) {
            minP = share;
            return this;
        }

        @Override
        public LapidaryChatRequestParameters build() {
            return new LapidaryChatRequestParameters(this);
        }
    }
}
