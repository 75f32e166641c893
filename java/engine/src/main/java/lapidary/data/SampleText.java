package lapidary.data;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import lapidary.tokenizer.Tokenizer;

/**
 * A sample for people to read: its tokens as text again, parted by whether they are trained on.
 *
 * @param runs in their order
 */
public record SampleText(List<Run> runs) {
    /**
     * Neighbouring tokens of one kind.
     *
     * @param kind what they are
     * @param text what they say; of a picture's nothing
     * @param tokens how many
     */
    public record Run(Kind kind, String text, int tokens) {}

    /** What becomes of tokens. */
    public enum Kind {
        /** They are targets. */
        TRAINED,
        /** They are read only. */
        MASKED,
        /** They are the place of a picture's view. */
        PICTURE
    }

    public static SampleText of(Sample sample, Tokenizer tokenizer) {
        List<Run> runs = new ArrayList<>();
        int[] ids = sample.inputIds();
        for (int from = 0; from < ids.length; ) {
            Kind kind = kind(sample, from);
            int to = from + 1;
            while (to < ids.length && kind(sample, to) == kind) {
                to++;
            }
            String text = kind == Kind.PICTURE ? "" : tokenizer.decode(Arrays.copyOfRange(ids, from, to), false);
            runs.add(new Run(kind, text, to - from));
            from = to;
        }
        return new SampleText(List.copyOf(runs));
    }

    /** The first token is predicted from nothing, so that it is no target whatever its label. */
    private static Kind kind(Sample sample, int t) {
        if (sample.tokenTypeIds()[t] == 1) {
            return Kind.PICTURE;
        }
        return t > 0 && sample.labels()[t] != Sample.MASKED ? Kind.TRAINED : Kind.MASKED;
    }
}
