package lapidary.gemma3;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import lapidary.image.Pixels;

/**
 * Token sequences laid end to end, without padding, and the images that belong to them in order.
 *
 * @param ids [tokens]
 * @param tokenTypes [tokens], 1 for an image token
 * @param starts [rows + 1], row r is the tokens {@code [starts[r], starts[r + 1])}
 * @param pixels per image, [channels, size, size], in row order
 */
public record PackedBatch(int[] ids, int[] tokenTypes, int[] starts, List<? extends Pixels> pixels) {
    /** Tokens that matrix products come in without a remainder. */
    private static final int MULTIPLE = 64;

    /** One row to pack. */
    public record Row(int[] ids, int[] tokenTypes, List<? extends Pixels> pixels) {}

    public static PackedBatch of(List<Row> rows) {
        int[] starts = new int[rows.size() + 1];
        for (int r = 0; r < rows.size(); r++) {
            starts[r + 1] = Math.addExact(starts[r], rows.get(r).ids().length);
        }
        int[] ids = new int[starts[rows.size()]];
        int[] types = new int[ids.length];
        List<Pixels> pixels = new ArrayList<>();
        for (int r = 0; r < rows.size(); r++) {
            Row row = rows.get(r);
            System.arraycopy(row.ids(), 0, ids, starts[r], row.ids().length);
            System.arraycopy(row.tokenTypes(), 0, types, starts[r], row.ids().length);
            pixels.addAll(row.pixels());
        }
        return new PackedBatch(ids, types, starts, pixels);
    }

    /**
     * The same with a last row of padding, if need be, that makes the number of tokens a multiple of {@value #MULTIPLE}:
     * few lengths then occur in a run, and what a matrix product prepares for one is used again. No other row sees it.
     *
     * @param padId the token that pads
     */
    public static PackedBatch padded(List<Row> rows, int padId) {
        int tokens = rows.stream().mapToInt(row -> row.ids().length).sum();
        int padding = Math.floorMod(-tokens, MULTIPLE);
        if (padding == 0) {
            return of(rows);
        }
        int[] ids = new int[padding];
        Arrays.fill(ids, padId);
        List<Row> all = new ArrayList<>(rows);
        all.add(new Row(ids, new int[padding], List.of()));
        return of(all);
    }

    public int tokens() {
        return ids.length;
    }

    public int rows() {
        return starts.length - 1;
    }

    public int longestRow() {
        int longest = 0;
        for (int r = 0; r < rows(); r++) {
            longest = Math.max(longest, starts[r + 1] - starts[r]);
        }
        return longest;
    }

    /** Position of each token in its row. */
    public int[] positions() {
        int[] positions = new int[ids.length];
        for (int r = 0; r < rows(); r++) {
            for (int t = starts[r]; t < starts[r + 1]; t++) {
                positions[t] = t - starts[r];
            }
        }
        return positions;
    }

    /** Number of the image run that each token belongs to, -1 for text: maximal runs of type 1 within a row. */
    public int[] spans() {
        int[] spans = new int[ids.length];
        Arrays.fill(spans, -1);
        int span = -1;
        for (int r = 0; r < rows(); r++) {
            for (int t = starts[r]; t < starts[r + 1]; t++) {
                if (tokenTypes[t] == 1) {
                    boolean begins = t == starts[r] || tokenTypes[t - 1] != 1;
                    span += begins ? 1 : 0;
                    spans[t] = span;
                }
            }
        }
        return spans;
    }

    /** Where image tokens stand. */
    int[] imageTokens() {
        return IntStream.range(0, ids.length).filter(t -> tokenTypes[t] == 1).toArray();
    }

    /** Where the given token stands. */
    public int[] positionsOf(int id) {
        int count = 0;
        for (int token : ids) {
            count += token == id ? 1 : 0;
        }
        int[] positions = new int[count];
        int next = 0;
        for (int t = 0; t < ids.length; t++) {
            if (ids[t] == id) {
                positions[next++] = t;
            }
        }
        return positions;
    }
}
