package lapidary.infer;

/** Why an answer ended. */
public enum FinishReason {
    /** The model ended its turn, or one of the request's stop strings came up. */
    STOP,
    /** {@link GenerationOptions#maxNewTokens} or the model's context was reached. */
    LENGTH,
    /** {@link Generation#cancel} was called. */
    CANCELLED
}
