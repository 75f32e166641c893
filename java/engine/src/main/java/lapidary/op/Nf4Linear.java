package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.quant.Nf4Tensor;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Linear layer with a frozen NF4 matrix: {@code y = x weightᵀ + bias}. Restored values are rounded to the dtype of x, sums
 * run in F32 and are rounded once. Neither matrix nor bias has a gradient.
 */
public final class Nf4Linear implements Op {
    private final Tensor x; // [..., in]    BF16 or F32
    private final Nf4Tensor weight; // [out, in]
    private final Tensor bias; // [out]        dtype of x, frozen, or NONE

    /**
     * @param bias [out] or {@link Tensor#NONE}
     * @throws IllegalArgumentException where shapes or dtypes do not fit
     */
    public Nf4Linear(Tensor x, Nf4Tensor weight, Tensor bias) {
        Check.floating("nf4_linear x", x);
        Check.last("nf4_linear x", x, weight.in());
        if (!bias.isNone()) {
            Check.shape("nf4_linear bias", bias, weight.out());
            Check.dtype("nf4_linear bias", bias, x);
        }
        this.x = x;
        this.weight = weight;
        this.bias = bias;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = forwardUnread(frame);
        weight.multiply(y, x, bias, frame);
        return y;
    }

    @Override
    public Tensor forwardUnread(Frame frame) {
        return frame.empty(x.dtype(), x.shape().withLast(weight.out()));
    }

    @Override
    public boolean backwardReadsInputs() {
        return false;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        if (grads.wants(bias)) {
            throw new IllegalStateException("[nf4_linear] the bias is to be trained, expected a frozen one");
        }
        if (grads.wants(x)) {
            Tensor dx = frame.emptyLike(x);
            weight.multiplyBackward(dx, dy, false, frame);
            grads.add(x, dx);
        }
    }
}
