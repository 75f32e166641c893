package lapidary.infer;

import java.util.List;

/**
 * A finished answer.
 *
 * @param text without control tokens, cut before a stop string; what a stream's pieces are when joined
 * @param tokenIds every token that was generated, with the one that ended the turn, as Transformers returns them
 */
public record Answer(String text, List<Integer> tokenIds, FinishReason finishReason, Usage usage) {
    public Answer {
        tokenIds = List.copyOf(tokenIds);
    }
}
