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

    /** Of all batches of this size that an evaluation makes, the one with most pictures, of these the longest. */
    List<Row> worst(int batchSize) {
        List<Row> worst = List.of();
        for (int from = 0; from < tokens.length; from += Math.min(batchSize, tokens.length)) {
            List<Row> batch = new ArrayList<>();
            for (int row = from; row < Math.min((long) from + batchSize, tokens.length); row++) {
                batch.add(new Row(tokens[row], views[row]));
            }
            worst = BY_DEMAND.compare(batch, worst) > 0 ? batch : worst;
        }
        return worst;
    }

    private static final Comparator<List<Row>> BY_DEMAND = Comparator.<List<Row>>comparingInt(
                    batch -> batch.stream().mapToInt(Row::views).sum())
            .thenComparingInt(batch -> batch.stream().mapToInt(Row::tokens).sum());
}
