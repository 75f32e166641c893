package lapidary.tokenizer;

import java.util.Arrays;
import java.util.BitSet;

/**
 * Finds added tokens in raw text: from each position the longest, and of several beginnings the leftmost. A trie in one
 * open addressing table; most positions are settled by one look at their first character.
 *
 * <p>The time is at most the length of the text times that of the longest token, whatever the text.
 */
final class AddedTokens {
    private static final long EMPTY = -1;
    private static final int NONE = -1;

    private final long[] firsts = new long[Character.MAX_VALUE / 64 + 1]; // bit per character that begins a token
    private long[] edges = empty(1 << 12); // node << 16 | character
    private int[] targets = new int[1 << 12];
    private int edgeCount;
    private int[] tokens = new int[1 << 10]; // by node: the token that ends there
    private int nodes = 1; // 0 is the root
    private final BitSet special = new BitSet();
    private final BitSet all = new BitSet();

    AddedTokens() {
        Arrays.fill(tokens, NONE);
    }

    /** Adds a token; {@code content} is not empty and not there yet. */
    void add(String content, int id, boolean isSpecial) {
        firsts[content.charAt(0) >> 6] |= 1L << content.charAt(0);
        int node = 0;
        for (int i = 0; i < content.length(); i++) {
            int next = next(node, content.charAt(i));
            node = next != NONE ? next : grow(node, content.charAt(i));
        }
        tokens[node] = id;
        special.set(id, isSpecial);
        all.set(id);
    }

    boolean has(int id) {
        return all.get(id);
    }

    boolean isSpecial(int id) {
        return special.get(id);
    }

    /** Whether some token may begin with this character. */
    boolean begins(char c) {
        return (firsts[c >> 6] >>> c & 1) != 0;
    }

    /**
     * The longest token that begins at {@code at}, as {@code length << 32 | id}, or -1.
     *
     * @param plainFrom where text begins in which special tokens are ordinary characters; a special token that reaches
     *     past it is none. {@code Integer.MAX_VALUE} for no such text
     */
    long longest(char[] text, int at, int end, int plainFrom) {
        long found = -1;
        int node = 0;
        for (int i = at; i < end; i++) {
            node = next(node, text[i]);
            if (node == NONE) {
                break;
            }
            int token = tokens[node];
            if (token != NONE && (i < plainFrom || !special.get(token))) {
                found = (long) (i + 1 - at) << 32 | token;
            }
        }
        return found;
    }

    private int next(int node, char c) {
        long edge = (long) node << 16 | c;
        int mask = edges.length - 1;
        for (int at = spread(edge) & mask; ; at = (at + 1) & mask) {
            if (edges[at] == edge) {
                return targets[at];
            }
            if (edges[at] == EMPTY) {
                return NONE;
            }
        }
    }

    private int grow(int node, char c) {
        if (nodes == tokens.length) {
            tokens = Arrays.copyOf(tokens, 2 * nodes);
            Arrays.fill(tokens, nodes, 2 * nodes, NONE);
        }
        if (2 * (edgeCount + 1) > edges.length) {
            long[] oldEdges = edges;
            int[] oldTargets = targets;
            edges = empty(2 * oldEdges.length);
            targets = new int[edges.length];
            for (int i = 0; i < oldEdges.length; i++) {
                if (oldEdges[i] != EMPTY) {
                    insert(oldEdges[i], oldTargets[i]);
                }
            }
        }
        insert((long) node << 16 | c, nodes);
        edgeCount++;
        return nodes++;
    }

    private void insert(long edge, int target) {
        int mask = edges.length - 1;
        int at = spread(edge) & mask;
        while (edges[at] != EMPTY) {
            at = (at + 1) & mask;
        }
        edges[at] = edge;
        targets[at] = target;
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
