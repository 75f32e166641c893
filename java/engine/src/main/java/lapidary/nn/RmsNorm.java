package lapidary.nn;

import lapidary.autograd.Tape;
import lapidary.op.RmsNormAdd;
import lapidary.op.RmsNormRope;
import lapidary.op.RopeTable;
import lapidary.tensor.Tensor;

/**
 * Root-mean-square norm over rows of the weight's length; a longer last axis holds several such rows (heads).
 *
 * @param weight [size], stored as weight - 1
 */
public record RmsNorm(Tensor weight, float eps) implements Layer {
    @Override
    public Tensor apply(Tape tape, Tensor x) {
        long size = weight.last();
        Tensor rows = x.last() == size ? x : x.reshape(x.elements() / size, size);
        return tape.run(new lapidary.op.RmsNorm(rows, weight, eps))
                .reshape(x.shape().toArray());
    }

    /** The residual plus x, normalised; both [..., size]. */
    public Tensor addTo(Tape tape, Tensor residual, Tensor x) {
        return tape.run(new RmsNormAdd(residual, x, weight, eps));
    }

    /**
     * Heads of the weight's length, normalised and then rotated.
     *
     * @param x [tokens, heads * size]
     * @param positions [tokens] I32, rows of the table
     */
    public Tensor rotated(Tape tape, Tensor x, RopeTable table, Tensor positions) {
        return tape.run(new RmsNormRope(x, weight, eps, table, positions));
    }
}
