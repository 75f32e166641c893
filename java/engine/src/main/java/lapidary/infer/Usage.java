package lapidary.infer;

/**
 * What a request took.
 *
 * @param promptTokens tokens before the answer, those of images included
 * @param cachedTokens how many of them an earlier request had left in the model's cache
 * @param completionTokens tokens of the answer, with the one that ended the turn
 */
public record Usage(int promptTokens, int cachedTokens, int completionTokens) {
    /** Prompt and answer. */
    public int totalTokens() {
        return promptTokens + completionTokens;
    }
}
