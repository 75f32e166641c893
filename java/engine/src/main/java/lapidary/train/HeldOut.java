package lapidary.train;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import lapidary.train.MemoryEstimate.Row;

/**
 * The rows that a run is evaluated on, as far as memory depends on them, in their order.
 *
 * @param tokens of each row, its pictures' included
 * @param views of each row's pictures
 */
record HeldOut(int[] tokens, int[] views) {
    /** No evaluation. */
    static final HeldOut NONE = new HeldOut(new int[0], new int[0]);

    private static final Comparator<List<Row>> BY_VIEWS =
            Comparator.comparingInt(batch -> batch.stream().mapToInt(Row::views).sum());

    private static final Comparator<List<Row>> BY_TOKENS = Comparator.comparingInt(
            batch -> batch.stream().mapToInt(Row::tokens).sum());

    /**
     * Of all batches of this size that an evaluation makes, those that may take most: the longest of those with most pictures,
     * and the longest of all where that is another one. None without rows.
     */
    List<List<Row>> worst(int batchSize) {
        List<Row> shown = List.of();
        List<Row> longest = List.of();
        for (int from = 0; from < tokens.length; from += Math.min(batchSize, tokens.length)) {
            List<Row> batch = new ArrayList<>();
            for (int row = from; row < Math.min((long) from + batchSize, tokens.length); row++) {
                batch.add(new Row(tokens[row], views[row]));
            }
            shown = BY_VIEWS.thenComparing(BY_TOKENS).compare(batch, shown) > 0 ? batch : shown;
            longest = BY_TOKENS.compare(batch, longest) > 0 ? batch : longest;
        }
        if (longest.isEmpty()) {
            return List.of();
        }
        return longest == shown ? List.of(shown) : List.of(shown, longest);
    }
}
