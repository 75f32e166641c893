package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Root-mean-square normalisation of every head, as {@link RmsNorm}, then rotary position embedding, halves form: with a
 * normalised head's values {@code [a, b]} and the cosines and sines of its token's position,
 * {@code y = [a cos - b sin, b cos + a sin]}. What is normalised, each product and the sum are rounded to the dtype, as the
 * reference does.
 *
 * @see <a href="https://arxiv.org/abs/2104.09864">RoFormer</a>
 */
public final class RmsNormRope implements Op {
    private final Tensor x; // [tokens, heads * headDim]  BF16 or F32
    private final Tensor weight; // [headDim]                 dtype of x
    private final float eps;
    private final RopeTable table;
    private final Tensor positions; // [tokens]                  I32, rows of the table
    private Tensor rstd; // [tokens, heads]           F32, written by forward

    /** @throws IllegalArgumentException where x is not heads of the table's and weight's size, or positions not one a token */
    public RmsNormRope(Tensor x, Tensor weight, float eps, RopeTable table, Tensor positions) {
        Check.floating("rms_norm_rope x", x);
        Check.shape("rms_norm_rope weight", weight, table.headDim());
        Check.dtype("rms_norm_rope weight", weight, x);
        Check.shape("rms_norm_rope x", x, x.rows(), x.last() / table.headDim() * table.headDim());
        Check.dtype("rms_norm_rope positions", positions, DType.I32);
        Check.shape("rms_norm_rope positions", positions, x.rows());
        this.x = x;
        this.weight = weight;
        this.eps = eps;
        this.table = table;
        this.positions = positions;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x, weight);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = frame.emptyLike(x);
        rstd = frame.empty(DType.F32, x.rows(), x.last() / table.headDim());
        frame.kernels().rmsNormRopeForward(y, rstd, x, weight, table.cos(), table.sin(), positions, eps);
        return y;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        Tensor dx = grads.wants(x) ? frame.emptyLike(x) : Tensor.NONE;
        Tensor dw = grads.wants(weight) ? frame.empty(DType.F32, weight.shape()) : Tensor.NONE;
        frame.kernels().rmsNormRopeBackward(dx, dw, dy, x, weight, table.cos(), table.sin(), positions, rstd);
        grads.add(x, dx);
        grads.add(weight, dw);
    }
}
