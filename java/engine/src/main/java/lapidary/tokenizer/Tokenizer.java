package lapidary.tokenizer;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.OptionalInt;
import lapidary.format.FormatException;

/**
 * Text to ids and back, as Hugging Face tokenizers does for Gemma 3's {@code tokenizer.json}: added tokens are found in
 * the raw text, spaces become U+2581, the rest is BPE over code points, and a code point that is no piece becomes its
 * UTF-8 bytes.
 *
 * <p>An unpaired surrogate, which no UTF-8 text can hold, counts as U+FFFD.
 *
 * <p>Immutable after loading and safe for many threads.
 */
public final class Tokenizer {
    /** What a space becomes before BPE: U+2581. */
    static final char SPACE_MARK = '\u2581';

    private static final char REPLACEMENT = '\uFFFD';

    private static final int[] NO_RANGES = {};

    private final Vocabulary vocabulary;
    private final AddedTokens added;
    private final Bpe bpe;
    private final int bos;

    Tokenizer(Vocabulary vocabulary, AddedTokens added, Bpe bpe, int bos) {
        this.vocabulary = vocabulary;
        this.added = added;
        this.bpe = bpe;
        this.bos = bos;
    }

    /**
     * Reads a {@code tokenizer.json}.
     *
     * @throws FormatException when the file is missing or damaged, or asks for anything that Gemma 3's does not: another normalizer,
     *     pre-tokenizer, model, post-processor or decoder; the message names the key
     */
    public static Tokenizer load(Path file) {
        return TokenizerFile.read(file);
    }

    /** The ids of a text, with no {@code <bos>} before them. Control tokens that are written in it count as such. */
    public int[] encode(CharSequence text) {
        return encode(text, false, NO_RANGES);
    }

    /** The ids of a text behind the {@code <bos>} that the file's post-processor sets. */
    public int[] encodeWithBos(CharSequence text) {
        return encode(text, true, NO_RANGES);
    }

    /**
     * The ids of a text of which some ranges are no more than text: tokens that the file calls special are not recognised
     * where they touch one, so that a user's words cannot end a turn.
     *
     * @param plain ranges {@code [from, to)} in UTF-16 units, as from, to, from, to, ..., ascending, not overlapping
     */
    public int[] encode(CharSequence text, boolean withBos, int[] plain) {
        checkRanges(plain, text.length());
        char[] chars = text.toString().toCharArray();
        int n = chars.length;
        replaceUnpairedSurrogates(chars);
        Ids ids = new Ids(n / 3 + 8);
        if (withBos) {
            ids.add(bos);
        }
        Bpe.Scratch scratch = new Bpe.Scratch();
        int from = 0; // of the segment that no added token has ended yet
        int range = 0;
        for (int at = 0; at < n; ) {
            if (!added.begins(chars[at])) {
                at++;
                continue;
            }
            while (range < plain.length && plain[range + 1] <= at) {
                range += 2;
            }
            int plainFrom = range < plain.length ? plain[range] : Integer.MAX_VALUE;
            long token = added.longest(chars, at, n, plainFrom);
            if (token < 0) {
                at++;
                continue;
            }
            segment(chars, from, at, ids, scratch);
            ids.add((int) token);
            at += (int) (token >>> 32);
            from = at;
        }
        segment(chars, from, n, ids, scratch);
        return ids.toArray();
    }

    /**
     * Where in a text each of its tokens begins, in UTF-16 units. A code point that became several byte pieces gives each of them
     * its own place.
     *
     * @param ids what {@link #encode} made of {@code text}, with no {@code <bos>} set before
     * @throws IllegalArgumentException the ids are not those of the text, or some are for what the vocabulary cannot spell
     */
    public int[] starts(CharSequence text, int[] ids) {
        char[] chars = text.toString().toCharArray();
        replaceUnpairedSurrogates(chars);
        int[] starts = new int[ids.length];
        int at = 0;
        int pending = 0; // bytes of the code point at hand that are still to come
        int width = 0; // UTF-16 units of that code point
        for (int t = 0; t < ids.length; t++) {
            starts[t] = at;
            if (pending == 0 && spells(ids[t], chars, at)) {
                at += vocabulary.length(ids[t]);
                continue;
            }
            if (byteValue(ids[t]) < 0 || at >= chars.length) {
                throw new IllegalArgumentException("[starts] token " + t + " is " + ids[t]
                        + ", which is not what stands at " + at + " of the text");
            }
            if (pending == 0) {
                int codePoint = Character.codePointAt(chars, at);
                pending = codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;
                width = Character.charCount(codePoint);
            }
            pending--;
            at += pending == 0 ? width : 0;
        }
        if (at != chars.length) {
            throw new IllegalArgumentException(
                    "[starts] the tokens end at " + at + " of a text of " + chars.length + " UTF-16 units");
        }
        return starts;
    }

    private boolean spells(int id, char[] chars, int at) {
        int length = vocabulary.length(id);
        if (length == 0 || length > chars.length - at) {
            return false;
        }
        for (int i = 0; i < length; i++) {
            char unit = vocabulary.charAt(id, i);
            if (unit != chars[at + i] && !(unit == SPACE_MARK && chars[at + i] == ' ')) {
                return false;
            }
        }
        return true;
    }

    private void segment(char[] chars, int from, int to, Ids ids, Bpe.Scratch scratch) {
        for (int i = from; i < to; i++) {
            if (chars[i] == ' ') {
                chars[i] = SPACE_MARK;
            }
        }
        bpe.encode(chars, from, to, ids, scratch);
    }

    private static void replaceUnpairedSurrogates(char[] chars) {
        for (int i = 0; i < chars.length; i++) {
            if (Character.isSurrogate(chars[i])) {
                if (Character.isHighSurrogate(chars[i])
                        && i + 1 < chars.length
                        && Character.isLowSurrogate(chars[i + 1])) {
                    i++;
                } else {
                    chars[i] = REPLACEMENT;
                }
            }
        }
    }

    private static void checkRanges(int[] plain, int length) {
        boolean good = plain.length % 2 == 0;
        for (int i = 0; good && i < plain.length; i++) {
            good = plain[i] >= (i == 0 ? 0 : plain[i - 1]) && plain[i] <= length;
        }
        if (!good) {
            throw new IllegalArgumentException("[encode] plain ranges are " + Arrays.toString(plain)
                    + ", expected ascending from, to pairs within the text of " + length + " UTF-16 units");
        }
    }

    /**
     * The text of some ids, nothing trimmed. A run of byte pieces that is no UTF-8 becomes one U+FFFD for each byte. An id
     * that the file does not have, such as a padding row of the embedding, yields nothing.
     *
     * @param skipSpecial leave out the tokens that the file calls special
     * @throws IllegalArgumentException for a negative id
     */
    public String decode(int[] ids, boolean skipSpecial) {
        StringBuilder out = new StringBuilder(4 * ids.length);
        byte[] bytes = new byte[16];
        int pending = 0;
        for (int id : ids) {
            if (isSkipped(id, skipSpecial)) {
                continue;
            }
            int value = byteValue(id);
            if (value >= 0) {
                if (pending == bytes.length) {
                    bytes = Arrays.copyOf(bytes, 2 * pending);
                }
                bytes[pending++] = (byte) value;
                continue;
            }
            out.append(text(bytes, pending));
            pending = 0;
            vocabulary.appendTo(out, id, SPACE_MARK, ' ');
        }
        out.append(text(bytes, pending));
        return out.toString();
    }

    /** Of a run of byte pieces, as tokenizers' decoder ByteFallback has it: all good, or a U+FFFD for each byte. */
    static String text(byte[] bytes, int n) {
        if (n == 0) {
            return "";
        }
        CharsetDecoder strict = StandardCharsets.UTF_8.newDecoder();
        try {
            return strict.decode(ByteBuffer.wrap(bytes, 0, n)).toString();
        } catch (CharacterCodingException e) {
            return String.valueOf(REPLACEMENT).repeat(n);
        }
    }

    /** Decodes ids as they come, for showing an answer while it is made. */
    public TextStream stream(boolean skipSpecial) {
        return new TextStream(this, skipSpecial);
    }

    boolean isSkipped(int id, boolean skipSpecial) {
        if (id < 0) {
            throw new IllegalArgumentException("[decode] id is " + id + ", expected 0 or more");
        }
        return !vocabulary.has(id) || skipSpecial && added.isSpecial(id);
    }

    void appendPiece(StringBuilder out, int id) {
        vocabulary.appendTo(out, id, SPACE_MARK, ' ');
    }

    /** What a byte piece such as {@code <0x0A>} stands for, or -1. */
    int byteValue(int id) {
        return byteValue(vocabulary, id);
    }

    static int byteValue(Vocabulary vocabulary, int id) {
        if (vocabulary.length(id) != 6
                || vocabulary.charAt(id, 0) != '<'
                || vocabulary.charAt(id, 1) != '0'
                || vocabulary.charAt(id, 2) != 'x'
                || vocabulary.charAt(id, 5) != '>') {
            return -1;
        }
        int high = Character.digit(vocabulary.charAt(id, 3), 16);
        int low = Character.digit(vocabulary.charAt(id, 4), 16);
        return high < 0 || low < 0 || (vocabulary.charAt(id, 3) | vocabulary.charAt(id, 4)) > 127
                ? -1
                : 16 * high + low;
    }

    /** The id of a piece or an added token, spaces written as U+2581; empty when there is none. */
    public OptionalInt findId(String piece) {
        int id = vocabulary.id(piece);
        return id == Vocabulary.ABSENT ? OptionalInt.empty() : OptionalInt.of(id);
    }

    /**
     * The id of a piece or an added token, spaces written as U+2581.
     *
     * @throws IllegalArgumentException when there is none
     */
    public int tokenId(String piece) {
        return findId(piece)
                .orElseThrow(() -> new IllegalArgumentException(
                        "[tokenizer] no token \"" + piece + "\" among " + vocabulary.count() + " tokens"));
    }

    /**
     * The piece or added token of an id, as the file writes it.
     *
     * @throws IllegalArgumentException when the file has no such id
     */
    public String token(int id) {
        if (!vocabulary.has(id)) {
            throw new IllegalArgumentException(
                    "[tokenizer] no token has the id " + id + "; ids run from 0 to " + (vocabulary.size() - 1));
        }
        return vocabulary.piece(id);
    }

    /** Whether the file calls this token special: decoding may leave it out, and a plain range does not recognise it. */
    public boolean isSpecial(int id) {
        return added.isSpecial(id);
    }

    /** Whether the file lists this token among those that are found in the raw text, special or not. */
    public boolean isAdded(int id) {
        return added.has(id);
    }

    /** By id: the rank of the first merge that makes the piece, the more the later; {@link Integer#MAX_VALUE} for none. */
    public int[] mergeRanks() {
        return bpe.firstRanks(vocabSize());
    }

    /** Whether the file has a token of that id. */
    public boolean has(int id) {
        return vocabulary.has(id);
    }

    /** The largest id + 1, added tokens included. */
    public int vocabSize() {
        return vocabulary.size();
    }

    /** The token that {@link #encodeWithBos} sets first. */
    public int bosId() {
        return bos;
    }
}
