package lapidary.tokenizer;

import java.util.Arrays;
import java.util.BitSet;

/**
 * Which pairs of pieces BPE joins, in what order, and into which piece; and between which code points no merge ever
 * reaches.
 */
final class Merges {
    private static final int ID_BITS = 22; // of Vocabulary.MAX_ID
    private static final int RANK_BITS = 20;

    /** The rank of a pair that is never joined; larger than every rank. */
    static final int NEVER = Integer.MAX_VALUE;

    /** More merges than this are refused: a rank shares a word with two ids. Gemma 3 has 514,906. */
    static final int MOST = (1 << RANK_BITS) - 1;

    private static final long EMPTY = -1;

    private final Vocabulary vocabulary;
    private long[] pairs; // (left << ID_BITS | right) << RANK_BITS | rank, or EMPTY
    private int pairCount;
    private int[] joined; // by rank
    private int count;

    private final long[] asciiSeams = new long[128 * 128 / 64];
    private long[] seams; // first << 32 | second, unless both are ASCII
    private int seamCount;

    /** Room for about so many merges; more are taken. */
    Merges(Vocabulary vocabulary, int expected) {
        this.vocabulary = vocabulary;
        int room = Integer.highestOneBit(Math.max(expected, 512)) << 1;
        pairs = empty(2 * room);
        joined = new int[room];
        seams = empty(room / 4);
    }

    int count() {
        return count;
    }

    /** By id below {@code size}: the rank of the first merge that makes the piece, or {@link #NEVER}. */
    int[] firstRanks(int size) {
        int[] ranks = new int[size];
        Arrays.fill(ranks, NEVER);
        for (int rank = count - 1; rank >= 0; rank--) {
            ranks[joined[rank]] = rank;
        }
        return ranks;
    }

    /** Adds the next merge, of the next rank. False when the joined piece is not in the vocabulary. */
    boolean add(int left, int right) {
        int piece = vocabulary.joined(left, right);
        if (piece == Vocabulary.ABSENT) {
            return false;
        }
        if (count == joined.length) {
            joined = Arrays.copyOf(joined, 2 * count);
        }
        joined[count] = piece;
        put(merge(left, right), count);
        addSeam(seamSide(vocabulary.lastCodePoint(left)), seamSide(vocabulary.firstCodePoint(right)));
        count++;
        return true;
    }

    /** The place of the merge of two pieces in the list, or {@link #NEVER}. */
    int rank(int left, int right) {
        long merge = merge(left, right);
        int mask = pairs.length - 1;
        for (int at = spread(merge) & mask; ; at = (at + 1) & mask) {
            long there = pairs[at];
            if (there == EMPTY) {
                return NEVER;
            }
            if (there >>> RANK_BITS == merge) {
                return (int) there & (1 << RANK_BITS) - 1;
            }
        }
    }

    int joined(int rank) {
        return joined[rank];
    }

    /**
     * Whether some merge joins a piece that ends in the first code point to one that begins with the second. Where none
     * does, no token crosses, so that text can be cut there without changing its tokens.
     */
    boolean mayJoin(int first, int second) {
        return hasSeam(seamSide(first), seamSide(second));
    }

    /** The space mark stands beside the letters in the ASCII table, in the place of the space, which it replaced. */
    private static int seamSide(int codePoint) {
        return codePoint == Tokenizer.SPACE_MARK ? ' ' : codePoint;
    }

    private boolean hasSeam(int first, int second) {
        if ((first | second) < 128) {
            return (asciiSeams[first << 1 | second >> 6] >>> second & 1) != 0;
        }
        long seam = pair(first, second);
        int mask = seams.length - 1;
        for (int at = spread(seam) & mask; ; at = (at + 1) & mask) {
            if (seams[at] == seam) {
                return true;
            }
            if (seams[at] == EMPTY) {
                return false;
            }
        }
    }

    /** Whether none of these pieces is a side of a merge. */
    boolean noneWith(int[] pieces) {
        BitSet set = new BitSet();
        for (int piece : pieces) {
            set.set(piece);
        }
        for (long pair : pairs) {
            long merge = pair >>> RANK_BITS;
            if (pair != EMPTY && (set.get((int) (merge >>> ID_BITS)) || set.get((int) merge & Vocabulary.MAX_ID))) {
                return false;
            }
        }
        return true;
    }

    private void addSeam(int first, int second) {
        if ((first | second) < 128) {
            asciiSeams[first << 1 | second >> 6] |= 1L << second;
            return;
        }
        if (hasSeam(first, second)) {
            return;
        }
        if (2 * (seamCount + 1) > seams.length) {
            long[] old = seams;
            seams = empty(2 * old.length);
            for (long seam : old) {
                if (seam != EMPTY) {
                    insertSeam(seam);
                }
            }
        }
        insertSeam(pair(first, second));
        seamCount++;
    }

    private void insertSeam(long seam) {
        int mask = seams.length - 1;
        int at = spread(seam) & mask;
        while (seams[at] != EMPTY) {
            at = (at + 1) & mask;
        }
        seams[at] = seam;
    }

    /** A pair that is listed twice has the later rank, as in Hugging Face's loader. */
    private void put(long merge, int rank) {
        if (2 * (pairCount + 1) > pairs.length) {
            long[] old = pairs;
            pairs = empty(2 * old.length);
            pairCount = 0;
            for (long pair : old) {
                if (pair != EMPTY) {
                    insert(pair);
                }
            }
        }
        insert(merge << RANK_BITS | rank);
    }

    private void insert(long pair) {
        int mask = pairs.length - 1;
        int at = spread(pair >>> RANK_BITS) & mask;
        while (pairs[at] != EMPTY && pairs[at] >>> RANK_BITS != pair >>> RANK_BITS) {
            at = (at + 1) & mask;
        }
        pairCount += pairs[at] == EMPTY ? 1 : 0;
        pairs[at] = pair;
    }

    private static long merge(int left, int right) {
        return (long) left << ID_BITS | right;
    }

    private static long pair(int left, int right) {
        return (long) left << 32 | right;
    }

    private static long[] empty(int n) {
        long[] table = new long[n];
        Arrays.fill(table, EMPTY);
        return table;
    }

    private static int spread(long key) {
        key *= 0x9E3779B97F4A7C15L;
        return (int) (key >>> 32 ^ key >>> 47);
    }
}
