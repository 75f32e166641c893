package lapidary.image;

/** Bits of a lossless WebP, lowest first, and the prefix codes made of them. */
final class Vp8lBits {
    private static final String WEBP = "WebP";
    private static final int MAX_LENGTH = 15;

    /** In which order the lengths of the code lengths' code are stored. */
    private static final int[] LENGTH_ORDER = {17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

    private final Bytes in;
    private long bits;
    private int bitCount;

    Vp8lBits(Bytes in) {
        this.in = in;
    }

    int read(int count) throws ImageFault {
        if (bitCount < count) {
            fill();
            if (bitCount < count) {
                throw truncated();
            }
        }
        int value = (int) bits & (1 << count) - 1;
        bits >>>= count;
        bitCount -= count;
        return value;
    }

    private void fill() {
        while (bitCount <= 48 && in.position < in.end) {
            bits |= (in.data[in.position++] & 0xffL) << bitCount;
            bitCount += 8;
        }
    }

    private ImageFault truncated() {
        return ImageFault.truncated(WEBP, "at byte " + in.end + ", in the lossless pixels");
    }

    int symbol(Code code) throws ImageFault {
        if (bitCount < MAX_LENGTH) {
            fill(); // the rest of the buffer is zeros
        }
        int entry = code.table[(int) bits & code.mask];
        if (entry < 0) {
            entry = code.table[~entry + ((int) (bits >>> Code.ROOT) & (1 << MAX_LENGTH - Code.ROOT) - 1)];
        }
        int length = entry >> 16;
        if (length > bitCount) {
            throw truncated();
        }
        bits >>>= length;
        bitCount -= length;
        return entry & 0xffff;
    }

    /**
     * A prefix code as a table by the next bits: length << 16 | symbol, or for codes longer than {@link #ROOT} the
     * complement of where the table for their remaining bits starts.
     */
    static final class Code {
        private static final int ROOT = 8;

        private final int[] table;
        private final int mask;

        private Code(int[] table, int mask) {
            this.table = table;
            this.mask = mask;
        }

        private static Code of(int[] lengths) throws ImageFault {
            int[] counts = new int[MAX_LENGTH + 1];
            int used = 0;
            int longest = 0;
            int symbol = 0;
            for (int i = 0; i < lengths.length; i++) {
                if (lengths[i] > 0) {
                    counts[lengths[i]]++;
                    longest = Math.max(longest, lengths[i]);
                    symbol = i;
                    used++;
                }
            }
            if (used == 1) {
                return new Code(new int[] {symbol}, 0); // it takes no bits
            }
            int open = 1;
            for (int length = 1; length <= MAX_LENGTH; length++) {
                open = 2 * open - counts[length];
                if (open < 0) {
                    break;
                }
            }
            if (open != 0) {
                throw ImageFault.damaged(WEBP, "a prefix code is not complete");
            }
            return build(lengths, counts, longest);
        }

        private static Code build(int[] lengths, int[] counts, int longest) {
            int root = Math.min(longest, ROOT);
            int[] next = new int[MAX_LENGTH + 2];
            for (int length = 1; length <= MAX_LENGTH; length++) {
                next[length + 1] = next[length] + counts[length] << 1;
            }
            int[] codes = new int[lengths.length]; // bit-reversed: the first bit is the lowest
            boolean[] isLong = new boolean[1 << root];
            int second = 0;
            for (int i = 0; i < lengths.length; i++) {
                if (lengths[i] > 0) {
                    codes[i] = Integer.reverse(next[lengths[i]]++) >>> (32 - lengths[i]);
                    int prefix = codes[i] & (1 << root) - 1;
                    if (lengths[i] > root && !isLong[prefix]) {
                        isLong[prefix] = true;
                        second++;
                    }
                }
            }
            int span = 1 << MAX_LENGTH - ROOT;
            int[] table = new int[(1 << root) + second * span];
            int free = 1 << root;
            for (int i = 0; i < lengths.length; i++) {
                int length = lengths[i];
                if (length == 0) {
                    continue;
                }
                int entry = length << 16 | i;
                if (length <= root) {
                    for (int at = codes[i]; at < 1 << root; at += 1 << length) {
                        table[at] = entry;
                    }
                } else {
                    int prefix = codes[i] & (1 << root) - 1;
                    if (table[prefix] == 0) {
                        table[prefix] = ~free;
                        free += span;
                    }
                    int from = ~table[prefix];
                    for (int at = codes[i] >> root; at < span; at += 1 << (length - root)) {
                        table[from + at] = entry;
                    }
                }
            }
            return new Code(table, (1 << root) - 1);
        }
    }

    /** Reads the code of an alphabet of {@code size} symbols. */
    Code code(int size) throws ImageFault {
        int[] lengths = new int[size];
        if (read(1) != 0) {
            int symbols = read(1) + 1;
            int first = read(read(1) != 0 ? 8 : 1);
            setLength(lengths, first, 1);
            if (symbols == 2) {
                setLength(lengths, read(8), 1);
            }
        } else {
            lengths(lengths);
        }
        return Code.of(lengths);
    }

    private static void setLength(int[] lengths, int symbol, int length) throws ImageFault {
        if (symbol >= lengths.length) {
            throw ImageFault.damaged(WEBP, "a prefix code has the symbol " + symbol + " of " + lengths.length);
        }
        lengths[symbol] = length;
    }

    private void lengths(int[] lengths) throws ImageFault {
        int[] lengthLengths = new int[LENGTH_ORDER.length];
        int stored = read(4) + 4;
        for (int i = 0; i < stored; i++) {
            lengthLengths[LENGTH_ORDER[i]] = read(3);
        }
        Code code = Code.of(lengthLengths);
        int left = lengths.length;
        if (read(1) != 0) {
            left = 2 + read(2 + 2 * read(3));
            if (left > lengths.length) {
                throw ImageFault.damaged(
                        WEBP, "a prefix code has " + left + " lengths for " + lengths.length + " symbols");
            }
        }
        int previous = 8;
        for (int i = 0; i < lengths.length && left > 0; left--) {
            int symbol = symbol(code);
            if (symbol < 16) {
                lengths[i++] = symbol;
                previous = symbol != 0 ? symbol : previous;
                continue;
            }
            int value = symbol == 16 ? previous : 0;
            int repeat = symbol == 16 ? 3 + read(2) : symbol == 17 ? 3 + read(3) : 11 + read(7);
            if (repeat > lengths.length - i) {
                throw ImageFault.damaged(WEBP, "a prefix code has more lengths than symbols");
            }
            for (int end = i + repeat; i < end; i++) {
                lengths[i] = value;
            }
        }
    }
}
