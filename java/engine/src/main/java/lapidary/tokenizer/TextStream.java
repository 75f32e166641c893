package lapidary.tokenizer;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Decodes ids one at a time. Bytes of a character that is not complete are held back; what is shown is never taken back.
 * The parts joined are what {@link Tokenizer#decode} returns, except that of a run of bytes that is no UTF-8 the good
 * characters are kept here, as some may be out already, where {@code decode} replaces the whole run.
 *
 * <p>For one thread.
 */
public final class TextStream {
    private final Tokenizer tokenizer;
    private final boolean skipSpecial;
    private final byte[] held = new byte[4];
    private int heldCount;

    TextStream(Tokenizer tokenizer, boolean skipSpecial) {
        this.tokenizer = tokenizer;
        this.skipSpecial = skipSpecial;
    }

    /** The text that one more id completes; empty while a character is incomplete. */
    public String add(int id) {
        if (tokenizer.isSkipped(id, skipSpecial)) {
            return "";
        }
        StringBuilder out = new StringBuilder();
        int value = tokenizer.byteValue(id);
        if (value < 0) {
            flush(out);
            tokenizer.appendPiece(out, id);
        } else {
            held[heldCount++] = (byte) value;
            settle(out);
        }
        return out.toString();
    }

    /** What is still held back: a U+FFFD for each byte of a character that did not become complete. */
    public String end() {
        StringBuilder out = new StringBuilder();
        flush(out);
        return out.toString();
    }

    /** Writes a complete character, or a byte that begins none. At most three bytes stay. */
    private void settle(StringBuilder out) {
        while (heldCount > 0) {
            int width = width();
            if (width == 0) {
                out.append('\uFFFD');
                drop(1);
            } else if (width > heldCount) {
                return;
            } else {
                out.append(new String(held, 0, width, StandardCharsets.UTF_8));
                drop(width);
            }
        }
    }

    /** How many bytes the first held character has in all, or 0 when the bytes begin no character. */
    private int width() {
        int lead = held[0] & 0xFF;
        int width = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
        for (int i = 1; i < Math.min(width, heldCount); i++) {
            int next = held[i] & 0xFF;
            int least = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80; // no overlong forms
            int most = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF; // no surrogates, up to U+10FFFF
            if (next < least || next > most) {
                return 0;
            }
        }
        return width;
    }

    private void drop(int n) {
        System.arraycopy(held, n, held, 0, heldCount - n);
        heldCount -= n;
        Arrays.fill(held, heldCount, held.length, (byte) 0);
    }

    private void flush(StringBuilder out) {
        out.repeat('\uFFFD', heldCount);
        heldCount = 0;
    }
}
