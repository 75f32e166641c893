package lapidary.tokenizer;

import java.util.Arrays;

/**
 * Decodes ids one at a time. A run of byte pieces is held back until it ends, as one bad byte makes U+FFFD of them all; what
 * is shown is never taken back. The parts joined are what {@link Tokenizer#decode} returns.
 *
 * <p>For one thread.
 */
public final class TextStream {
    private final Tokenizer tokenizer;
    private final boolean skipSpecial;
    private byte[] held = new byte[16]; // a run of byte pieces
    private int heldCount;

    TextStream(Tokenizer tokenizer, boolean skipSpecial) {
        this.tokenizer = tokenizer;
        this.skipSpecial = skipSpecial;
    }

    /** The text that is certain with one more id; empty while byte pieces come. */
    public String add(int id) {
        if (tokenizer.isSkipped(id, skipSpecial)) {
            return "";
        }
        int value = tokenizer.byteValue(id);
        if (value >= 0) {
            if (heldCount == held.length) {
                held = Arrays.copyOf(held, 2 * heldCount);
            }
            held[heldCount++] = (byte) value;
            return "";
        }
        StringBuilder out = new StringBuilder(end());
        tokenizer.appendPiece(out, id);
        return out.toString();
    }

    /** What {@link #end} would return now; the run goes on. */
    public String held() {
        return Tokenizer.text(held, heldCount);
    }

    /** What is still held back: the run's text, or where it is no UTF-8, a U+FFFD for each of its bytes. */
    public String end() {
        String text = held();
        heldCount = 0;
        return text;
    }
}
