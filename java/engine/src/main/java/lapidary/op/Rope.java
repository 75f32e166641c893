package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Rotary position embedding, halves form: with a head's values {@code [a, b]} and the cosines and sines of its token's
 * position, {@code y = [a cos - b sin, b cos + a sin]}. Each product and the sum are rounded to the dtype, as the reference
 * does.
 *
 * @see <a href="https://arxiv.org/abs/2104.09864">RoFormer</a>
 */
public final class Rope implements Op {
    private final Tensor x; // [tokens, heads * headDim]  BF16 or F32
    private final RopeTable table;
    private final Tensor positions; // [tokens]  I32, rows of the table
    private final int heads;

    /** @throws IllegalArgumentException where x is not heads of the table's size, or positions not one a token */
    public Rope(Tensor x, RopeTable table, Tensor positions, int heads) {
        Check.floating("rope x", x);
        Check.shape("rope x", x, x.rows(), (long) heads * table.headDim());
        Check.dtype("rope positions", positions, DType.I32);
        Check.shape("rope positions", positions, x.rows());
        this.x = x;
        this.table = table;
        this.positions = positions;
        this.heads = heads;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = frame.emptyLike(x);
        frame.kernels().ropeForward(y, x, table.cos(), table.sin(), positions, heads);
        return y;
    }

    @Override
    public boolean backwardReadsInputs() {
        return false;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        Tensor dx = frame.emptyLike(x);
        frame.kernels().ropeBackward(dx, dy, table.cos(), table.sin(), positions, heads);
        grads.add(x, dx);
    }
}
