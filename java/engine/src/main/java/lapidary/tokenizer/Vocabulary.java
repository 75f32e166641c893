package lapidary.tokenizer;

import java.util.Arrays;

/**
 * The pieces of a tokenizer and their ids, without an object per piece: all characters lie in one array, and an open
 * addressing table finds an id by a piece's characters.
 *
 * <p>The hash is a polynomial, so the hash of two pieces joined follows from theirs: half a million merges are resolved
 * without building a string.
 */
final class Vocabulary {
    /** No id: the piece is absent. */
    static final int ABSENT = -1;

    private static final long EMPTY = -1;

    /** Ids above this are refused; a table by id would otherwise be as large as a hostile file wants. */
    static final int MAX_ID = (1 << 22) - 1;

    private static final int BASE = 0x01000193;

    private char[] chars;
    private int used;
    private int count;
    private long[] places; // by id: start in chars << 32 | length in UTF-16 units; EMPTY where no piece has this id
    private int[] hashes; // by id
    private int size; // largest id + 1
    private long[] table; // hash << 32 | id, or EMPTY

    /** Room for about so many pieces; more are taken. */
    Vocabulary(int expected) {
        int room = Integer.highestOneBit(Math.max(expected, 512)) << 1;
        chars = new char[8 * room];
        places = filled(room);
        hashes = new int[room];
        table = filled(2 * room);
    }

    /** Pieces held. */
    int count() {
        return count;
    }

    /** The largest id + 1; smaller ids may be unused. */
    int size() {
        return size;
    }

    /** Adds a piece. False, and nothing is added, when the piece or the id is taken. {@code id} is in 0..MAX_ID. */
    boolean add(String piece, int id) {
        int n = piece.length();
        int h = 0;
        for (int i = 0; i < n; i++) {
            h = h * BASE + piece.charAt(i);
        }
        if (used + n > chars.length) {
            chars = Arrays.copyOf(chars, Math.max(chars.length * 2, used + n));
        }
        piece.getChars(0, n, chars, used);
        if (has(id) || find(chars, used, n, h) != ABSENT) {
            return false;
        }
        if (id >= places.length) {
            int old = places.length;
            int grown = Integer.highestOneBit(id) << 1;
            places = Arrays.copyOf(places, grown);
            hashes = Arrays.copyOf(hashes, grown);
            Arrays.fill(places, old, grown, EMPTY);
        }
        places[id] = (long) used << 32 | n;
        hashes[id] = h;
        used += n;
        size = Math.max(size, id + 1);
        count++;
        if (4L * count > 3L * table.length) {
            table = filled(2 * table.length);
            for (int other = 0; other < size; other++) {
                if (has(other)) {
                    insert(other);
                }
            }
        } else {
            insert(id);
        }
        return true;
    }

    private void insert(int id) {
        int mask = table.length - 1;
        int at = spread(hashes[id]) & mask;
        while (table[at] != EMPTY) {
            at = (at + 1) & mask;
        }
        table[at] = (long) hashes[id] << 32 | id;
    }

    boolean has(int id) {
        return id >= 0 && id < size && places[id] != EMPTY;
    }

    int id(String piece) {
        return id(piece.toCharArray(), 0, piece.length());
    }

    /** The id of {@code text[from, from + length)}, or {@link #ABSENT}. */
    int id(char[] text, int from, int length) {
        int h = 0;
        for (int i = from; i < from + length; i++) {
            h = h * BASE + text[i];
        }
        return find(text, from, length, h);
    }

    private int find(char[] text, int from, int n, int h) {
        int mask = table.length - 1;
        for (int at = spread(h) & mask; table[at] != EMPTY; at = (at + 1) & mask) {
            if ((int) (table[at] >>> 32) != h) {
                continue;
            }
            int id = (int) table[at];
            int start = start(id);
            if (length(id) == n && Arrays.equals(chars, start, start + n, text, from, from + n)) {
                return id;
            }
        }
        return ABSENT;
    }

    /** The id of the piece that joins two others, or {@link #ABSENT}. */
    int joined(int left, int right) {
        int nl = length(left);
        int nr = length(right);
        int power = 1;
        for (int i = 0; i < nr; i++) {
            power *= BASE;
        }
        int h = hashes[left] * power + hashes[right];
        int mask = table.length - 1;
        for (int at = spread(h) & mask; table[at] != EMPTY; at = (at + 1) & mask) {
            if ((int) (table[at] >>> 32) != h) {
                continue;
            }
            int id = (int) table[at];
            int s = start(id);
            if (length(id) == nl + nr
                    && Arrays.equals(chars, s, s + nl, chars, start(left), start(left) + nl)
                    && Arrays.equals(chars, s + nl, s + nl + nr, chars, start(right), start(right) + nr)) {
                return id;
            }
        }
        return ABSENT;
    }

    private int start(int id) {
        return (int) (places[id] >>> 32);
    }

    int length(int id) {
        return (int) places[id];
    }

    int firstCodePoint(int id) {
        return Character.codePointAt(chars, start(id), start(id) + length(id));
    }

    int lastCodePoint(int id) {
        return Character.codePointBefore(chars, start(id) + length(id), start(id));
    }

    String piece(int id) {
        return new String(chars, start(id), length(id));
    }

    char charAt(int id, int index) {
        return chars[start(id) + index];
    }

    /** Appends a piece with every {@code from} replaced. */
    void appendTo(StringBuilder out, int id, char from, char to) {
        for (int i = start(id), end = i + length(id); i < end; i++) {
            out.append(chars[i] == from ? to : chars[i]);
        }
    }

    private static long[] filled(int n) {
        long[] table = new long[n];
        Arrays.fill(table, EMPTY);
        return table;
    }

    private static int spread(int h) {
        h *= 0x9E3779B9;
        return h ^ (h >>> 15);
    }
}
