package lapidary.tokenizer;

import java.util.Arrays;

/**
 * Byte-pair encoding of text without added tokens: the merge of the lowest rank first, of equal ones the leftmost.
 *
 * <p>Text is cut where no merge reaches across ({@link Merges#mayJoin}), mostly before a space mark. Short pieces of it
 * are looked up in a cache of what they became before; the rest is merged, up to {@link #FEW} symbols by looking for the
 * lowest rank again each time, beyond that with a heap, so that time stays near linear in a text without any space.
 *
 * <p>Safe for many threads: all state but the cache is fixed, and the cache holds immutable entries that are
 * replaced whole, so that a race costs at most a second computation of the same ids.
 *
 * @see <a href="https://arxiv.org/abs/1508.07909">BPE for subwords</a>; byte fallback and fusing of unknown symbols are
 *     Hugging Face tokenizers', models/bpe
 */
final class Bpe {
    /** Up to this many symbols a scan for the lowest rank is cheaper than a heap. */
    private static final int FEW = 48;

    /** Words longer than this many UTF-16 units are not cached. */
    private static final int CACHED_UNITS = 24;

    private static final int CACHE_SLOTS = 1 << 15;

    private record Word(char[] chars, int[] ids) {}

    private final Merges merges;
    private final int[][] symbols; // [code point >> 8][code point & 255]; ABSENT for none
    private final int[] bytes; // by byte value; ABSENT where the piece is missing; empty without byte fallback
    private final int unknown;
    private final boolean fuseUnknown;
    private final boolean cutAtUnknown;
    private final Word[] cache = new Word[CACHE_SLOTS];

    /**
     * @param symbols id of each code point that is a piece, in pages of 256
     * @param bytes ids of the byte pieces, or empty without byte fallback
     * @param cutAtUnknown whether text may be cut beside a code point that is no piece
     */
    Bpe(Merges merges, int[][] symbols, int[] bytes, int unknown, boolean fuseUnknown, boolean cutAtUnknown) {
        this.merges = merges;
        this.symbols = symbols;
        this.bytes = bytes;
        this.unknown = unknown;
        this.fuseUnknown = fuseUnknown;
        this.cutAtUnknown = cutAtUnknown;
    }

    /** See {@link Tokenizer#mergeRanks}. */
    int[] firstRanks(int size) {
        return merges.firstRanks(size);
    }

    /** Room for one call of {@link #encode}, used again for each word. */
    static final class Scratch {
        private int[] symbols = new int[2 * FEW];
        private int[] ranks = new int[2 * FEW];
        private int[] previous = {};
        private int[] next = {};
        private long[] heap = {};
        private int heapCount;
    }

    /** Appends the ids of {@code text[from, to)}, which has no unpaired surrogates and no spaces left. */
    void encode(char[] text, int from, int to, Ids out, Scratch scratch) {
        int start = from;
        int before = -1;
        int hash = 0;
        for (int at = from; at < to; ) {
            char unit = text[at];
            int codePoint = unit;
            int width = 1;
            if (Character.isHighSurrogate(unit)) {
                codePoint = Character.toCodePoint(unit, text[at + 1]);
                width = 2;
            }
            if (at > start && !merges.mayJoin(before, codePoint) && mayCut(before, codePoint)) {
                word(text, start, at, hash, out, scratch);
                start = at;
                hash = 0;
            }
            hash = hash * 31 + codePoint;
            before = codePoint;
            at += width;
        }
        if (start < to) {
            word(text, start, to, hash, out, scratch);
        }
    }

    private boolean mayCut(int before, int after) {
        return cutAtUnknown || symbol(before) != Vocabulary.ABSENT && symbol(after) != Vocabulary.ABSENT;
    }

    private int symbol(int codePoint) {
        return symbols[codePoint >> 8][codePoint & 255];
    }

    private void word(char[] text, int from, int to, int hash, Ids out, Scratch scratch) {
        int units = to - from;
        if (units == 1) {
            int id = symbol(text[from]);
            if (id != Vocabulary.ABSENT) {
                out.add(id);
                return;
            }
        }
        if (units > CACHED_UNITS) {
            int n = merge(text, from, to, scratch);
            out.add(scratch.symbols, 0, n);
            return;
        }
        hash *= 0x9E3779B9;
        int slot = hash >>> (32 - 15);
        Word word = cache[slot];
        if (word == null || !Arrays.equals(word.chars, 0, word.chars.length, text, from, to)) {
            int n = merge(text, from, to, scratch);
            word = new Word(Arrays.copyOfRange(text, from, to), Arrays.copyOf(scratch.symbols, n));
            cache[slot] = word;
        }
        out.add(word.ids, 0, word.ids.length);
    }

    /** Leaves the ids in {@code scratch.symbols} and tells how many. */
    private int merge(char[] text, int from, int to, Scratch s) {
        int n = split(text, from, to, s);
        return n <= FEW ? mergeFew(s.symbols, s.ranks, n) : mergeMany(s, n);
    }

    /** The symbols to begin with: a piece for a code point, else its UTF-8 bytes, else the unknown piece. */
    private int split(char[] text, int from, int to, Scratch s) {
        int most = Math.multiplyExact(3, to - from) + 1; // a UTF-16 unit is at most three bytes
        if (s.symbols.length < most) {
            s.symbols = new int[most];
            s.ranks = new int[most];
        }
        int n = 0;
        boolean pending = false; // unknown symbols come out late, before the next known one: so does the original
        for (int at = from; at < to; ) {
            int codePoint = Character.codePointAt(text, at, to);
            at += Character.charCount(codePoint);
            int id = symbol(codePoint);
            if (id != Vocabulary.ABSENT) {
                if (pending) {
                    s.symbols[n++] = unknown;
                    pending = false;
                }
                s.symbols[n++] = id;
            } else {
                int bytesAdded = addBytes(codePoint, s.symbols, n);
                n += bytesAdded;
                if (bytesAdded == 0) {
                    if (pending && !fuseUnknown) {
                        s.symbols[n++] = unknown;
                    }
                    pending = true;
                }
            }
        }
        if (pending) {
            s.symbols[n++] = unknown;
        }
        return n;
    }

    /** Writes the byte pieces of a code point; 0, and nothing is written, unless there is one for each byte. */
    private int addBytes(int codePoint, int[] to, int at) {
        if (bytes.length == 0) {
            return 0;
        }
        int width = codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;
        for (int i = 0; i < width; i++) {
            int bits = codePoint >> 6 * (width - 1 - i);
            int lead = width == 1 ? codePoint : 0xF00 >> width & 0xFF | bits;
            int id = bytes[i == 0 ? lead : 0x80 | bits & 0x3F];
            if (id == Vocabulary.ABSENT) {
                return 0;
            }
            to[at + i] = id;
        }
        return width;
    }

    private int mergeFew(int[] symbols, int[] ranks, int n) {
        for (int i = 0; i + 1 < n; i++) {
            ranks[i] = merges.rank(symbols[i], symbols[i + 1]);
        }
        while (n > 1) {
            int lowest = 0;
            for (int i = 1; i + 1 < n; i++) {
                lowest = ranks[i] < ranks[lowest] ? i : lowest;
            }
            if (ranks[lowest] == Merges.NEVER) {
                break;
            }
            symbols[lowest] = merges.joined(ranks[lowest]);
            System.arraycopy(symbols, lowest + 2, symbols, lowest + 1, n - lowest - 2);
            System.arraycopy(ranks, lowest + 1, ranks, lowest, n - lowest - 2);
            n--;
            if (lowest > 0) {
                ranks[lowest - 1] = merges.rank(symbols[lowest - 1], symbols[lowest]);
            }
            if (lowest + 1 < n) {
                ranks[lowest] = merges.rank(symbols[lowest], symbols[lowest + 1]);
            }
        }
        return n;
    }

    /** The same with a linked list and a heap of {@code rank << 32 | position}; entries that no longer hold are passed. */
    private int mergeMany(Scratch s, int n) {
        int[] symbols = s.symbols;
        int[] ranks = s.ranks;
        if (s.next.length < n) {
            s.previous = new int[n];
            s.next = new int[n];
        }
        s.heapCount = 0;
        for (int i = 0; i < n; i++) {
            s.previous[i] = i - 1;
            s.next[i] = i + 1;
            offer(s, i, i + 1, n);
        }
        while (s.heapCount > 0) {
            long lowest = poll(s);
            int rank = (int) (lowest >>> 32);
            int at = (int) lowest;
            if (ranks[at] != rank) {
                continue;
            }
            int gone = s.next[at];
            symbols[at] = merges.joined(rank);
            ranks[gone] = Merges.NEVER;
            int after = s.next[gone];
            s.next[at] = after;
            if (after < n) {
                s.previous[after] = at;
            }
            offer(s, at, after, n);
            if (s.previous[at] >= 0) {
                offer(s, s.previous[at], at, n);
            }
        }
        int kept = 0;
        for (int at = 0; at < n; at = s.next[at]) {
            symbols[kept++] = symbols[at];
        }
        return kept;
    }

    private void offer(Scratch s, int at, int after, int n) {
        int rank = after < n ? merges.rank(s.symbols[at], s.symbols[after]) : Merges.NEVER;
        s.ranks[at] = rank;
        if (rank == Merges.NEVER) {
            return;
        }
        if (s.heapCount == s.heap.length) {
            s.heap = Arrays.copyOf(s.heap, Math.max(2 * s.heap.length, 256));
        }
        long[] heap = s.heap;
        long entry = (long) rank << 32 | at;
        int i = s.heapCount++;
        while (i > 0 && heap[(i - 1) >> 1] > entry) {
            heap[i] = heap[(i - 1) >> 1];
            i = (i - 1) >> 1;
        }
        heap[i] = entry;
    }

    private static long poll(Scratch s) {
        long[] heap = s.heap;
        long top = heap[0];
        int n = --s.heapCount;
        long last = heap[n];
        int i = 0;
        for (int child = 1; child < n; child = 2 * i + 1) {
            child += child + 1 < n && heap[child + 1] < heap[child] ? 1 : 0;
            if (heap[child] >= last) {
                break;
            }
            heap[i] = heap[child];
            i = child;
        }
        heap[i] = last;
        return top;
    }
}
