package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Rows of a table, scaled: {@code y[t] = table[ids[t]] * scale}, rounded once. The table's gradient is row-sparse; tokens of
 * the padding id add nothing to it.
 */
public final class Embedding implements Op {
    /** A padding id that no token has. */
    public static final int NO_PADDING = -1;

    private final Tensor table; // [vocab, cols]  BF16 or F32
    private final int[] ids; // [tokens]
    private final float scale;
    private final int padId;

    /**
     * @param scale already rounded to the table's dtype, as the reference holds it
     * @param padId id without a gradient, or {@link #NO_PADDING}
     * @throws IllegalArgumentException where an id is not a row of the table, naming the token
     */
    public Embedding(Tensor table, int[] ids, float scale, int padId) {
        Check.floating("embedding table", table);
        Check.matrix("embedding table", table);
        for (int t = 0; t < ids.length; t++) {
            if (ids[t] < 0 || ids[t] >= table.rows()) {
                throw new IllegalArgumentException("[embedding] id " + ids[t] + " of token " + t
                        + " is outside the table of " + table.rows() + " rows");
            }
        }
        this.table = table;
        this.ids = ids.clone();
        this.scale = scale;
        this.padId = padId;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(table);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = frame.empty(table.dtype(), ids.length, table.last());
        try (Frame scratch = frame.child("ids")) {
            frame.kernels().embeddingForward(y, table, scratch.of(ids, ids.length), scale);
        }
        return y;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        int[] rows = ids.clone();
        for (int t = 0; t < rows.length; t++) {
            rows[t] = rows[t] == padId ? -1 : rows[t];
        }
        grads.addRows(table, rows, dy, scale);
    }
}
