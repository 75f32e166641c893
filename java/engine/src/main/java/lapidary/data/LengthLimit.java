package lapidary.data;

import java.util.Arrays;
import lapidary.format.FormatException;

/**
 * What becomes of samples with too many tokens. A sample is kept whole, dropped whole, or loses words at its end; it is never cut
 * inside an image or before one.
 *
 * @param maxLength tokens, or 0 for no limit but the model's
 * @param overlong what becomes of a longer sample
 * @param maxPositions tokens that the model can tell apart: {@code max_position_embeddings}
 */
public record LengthLimit(int maxLength, Overlong overlong, int maxPositions) {
    /** What becomes of a sample that is too long. */
    public enum Overlong {
        /** It is a bad sample. */
        ERROR,
        /** It is left out. */
        DROP,
        /** Text is cut off at its end. */
        TRUNCATE_TEXT
    }

    /** @throws IllegalArgumentException a limit that is below 2 tokens, or beyond the model's */
    public LengthLimit {
        if (maxLength != 0 && (maxLength < 2 || maxLength > maxPositions)) {
            throw new IllegalArgumentException("--max_length is " + maxLength + ", expected 2 to " + maxPositions
                    + ", the model's max_position_embeddings");
        }
    }

    private int limit() {
        return maxLength == 0 ? maxPositions : maxLength;
    }

    /**
     * A sample within the limit.
     *
     * @param sample as it is trained on; uncut where it is dropped
     * @param tokens before it was cut
     */
    public record Fitted(Sample sample, int tokens, boolean isDropped) {}

    /**
     * The sample as it is trained on, if it is.
     *
     * @throws FormatException it is too long, and may not or cannot be cut; it names the record
     */
    public Fitted fit(Sample sample) {
        int tokens = sample.inputIds().length;
        if (tokens <= limit()) {
            return new Fitted(sample, tokens, false);
        }
        String what = sample.id() + ": has " + tokens + " tokens, more than "
                + (maxLength == 0
                        ? "the model's max_position_embeddings " + maxPositions
                        : "--max_length " + maxLength);
        return switch (overlong) {
            case ERROR -> throw new FormatException(what
                    + (maxLength == 0 || maxLength == maxPositions ? "; " : "; raise the limit, ")
                    + "shorten the record, or choose --max_length_policy drop or truncate_text");
            case DROP -> new Fitted(sample, tokens, true);
            case TRUNCATE_TEXT -> new Fitted(cut(sample, what), tokens, false);
        };
    }

    private Sample cut(Sample sample, String what) {
        int limit = limit();
        // The last that stays, too: a picture's end mark follows.
        for (int t = limit - 1; t < sample.tokenTypeIds().length; t++) {
            if (sample.tokenTypeIds()[t] == 1) {
                throw new FormatException(what + ", and an image lies at token " + t
                        + ", where only text may be cut; take images out, or choose --max_length_policy drop");
            }
        }
        Sample cut = new Sample(
                sample.id(),
                Arrays.copyOf(sample.inputIds(), limit),
                Arrays.copyOf(sample.tokenTypeIds(), limit),
                Arrays.copyOf(sample.labels(), limit),
                sample.images());
        if (cut.targets() == 0) {
            throw new FormatException(what + ", and no token before that is a target; choose --max_length_policy drop");
        }
        return cut;
    }
}
