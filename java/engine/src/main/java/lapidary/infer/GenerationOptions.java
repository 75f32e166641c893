package lapidary.infer;

import java.util.List;
import java.util.Objects;

/**
 * How an answer is made. {@link LanguageModel#defaults} are the model's own, from its generation_config.json; the {@code with}
 * methods change one thing each.
 *
 * <p>Filters work in Transformers' order: temperature, top_k, top_p, min_p.
 *
 * @param maxNewTokens tokens of the answer, at least 1; {@link #AS_MANY_AS_FIT} for what the context, or max_length in
 *     generation_config.json, has room for
 * @param temperature logits are divided by it; 0 is greedy, the likeliest token each time and the first of equals
 * @param topK how many of the likeliest tokens may be drawn; 0 for all
 * @param topP the smallest set of likeliest tokens with at least this probability may be drawn, 0 &lt; p &lt;= 1; 1 for all
 * @param minP tokens with less than this share of the likeliest token's probability are not drawn, 0 &lt;= p &lt;= 1
 * @param seed equal seeds draw equal tokens from equal logits; null for another one each time
 * @param stop strings that end the answer and are not part of it
 * @param adapter the name of an attached adapter, {@link LanguageModel#BASE} for the base alone, or null for what
 *     {@link LanguageModel#use} chose
 */
public record GenerationOptions(
        int maxNewTokens,
        double temperature,
        int topK,
        double topP,
        double minP,
        Long seed,
        List<String> stop,
        String adapter) {
    /** Tokens of an answer where nobody says how many. */
    public static final int DEFAULT_MAX_NEW_TOKENS = 512;

    /** As many tokens as there is room for. */
    public static final int AS_MANY_AS_FIT = Integer.MAX_VALUE;

    /** The likeliest token each time. */
    public static final GenerationOptions GREEDY =
            new GenerationOptions(DEFAULT_MAX_NEW_TOKENS, 0, 0, 1, 0, null, List.of(), null);

    /** @throws IllegalArgumentException naming the value that is out of range */
    public GenerationOptions {
        require(maxNewTokens >= 1, "max_new_tokens", maxNewTokens, "at least 1");
        require(temperature >= 0 && temperature < Double.POSITIVE_INFINITY, "temperature", temperature, "0 or more");
        require(topK >= 0, "top_k", topK, "0 or more");
        require(topP > 0 && topP <= 1, "top_p", topP, "0 < top_p <= 1");
        require(minP >= 0 && minP <= 1, "min_p", minP, "0 <= min_p <= 1");
        stop = List.copyOf(Objects.requireNonNull(stop, "stop"));
        if (stop.contains("")) {
            throw new IllegalArgumentException("a stop string is empty, which would end every answer before it begins");
        }
    }

    private static void require(boolean good, String name, Object value, String expected) {
        if (!good) {
            throw new IllegalArgumentException(name + " is " + value + ", expected " + expected);
        }
    }

    public GenerationOptions withMaxNewTokens(int tokens) {
        return new GenerationOptions(tokens, temperature, topK, topP, minP, seed, stop, adapter);
    }

    public GenerationOptions withTemperature(double value) {
        return new GenerationOptions(maxNewTokens, value, topK, topP, minP, seed, stop, adapter);
    }

    public GenerationOptions withTopK(int tokens) {
        return new GenerationOptions(maxNewTokens, temperature, tokens, topP, minP, seed, stop, adapter);
    }

    public GenerationOptions withTopP(double p) {
        return new GenerationOptions(maxNewTokens, temperature, topK, p, minP, seed, stop, adapter);
    }

    public GenerationOptions withMinP(double p) {
        return new GenerationOptions(maxNewTokens, temperature, topK, topP, p, seed, stop, adapter);
    }

    public GenerationOptions withSeed(long value) {
        return new GenerationOptions(maxNewTokens, temperature, topK, topP, minP, value, stop, adapter);
    }

    public GenerationOptions withStop(List<String> strings) {
        return new GenerationOptions(maxNewTokens, temperature, topK, topP, minP, seed, strings, adapter);
    }

    public GenerationOptions withAdapter(String name) {
        return new GenerationOptions(maxNewTokens, temperature, topK, topP, minP, seed, stop, name);
    }

    boolean isGreedy() {
        return temperature == 0;
    }
}
