package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Linear layer: {@code y = x weightᵀ + bias}, sums in F32, rounded once. {@link #projection} takes a weight that lies the
 * other way round. The weight's gradient is F32 and adds up in place; a frozen weight costs none.
 */
public final class Linear implements Op {
    private final Tensor x; // [..., in]    BF16 or F32
    private final Tensor weight; // [out, in], or [in, out] of a projection; dtype of x
    private final Tensor bias; // [out]        dtype of x, or NONE
    private final boolean projection;

    /**
     * @param weight [out, in]
     * @param bias [out] or {@link Tensor#NONE}
     * @throws IllegalArgumentException where shapes or dtypes do not fit
     */
    public Linear(Tensor x, Tensor weight, Tensor bias) {
        this(x, weight, bias, false);
    }

    private Linear(Tensor x, Tensor weight, Tensor bias, boolean projection) {
        Check.floating("linear x", x);
        Check.matrix("linear weight", weight);
        Check.dtype("linear weight", weight, x);
        long out = projection ? weight.last() : weight.rows();
        if (x.last() != (projection ? weight.rows() : weight.last())) {
            throw new IllegalArgumentException("[linear] x is " + x.shape() + ", weight is " + weight.shape()
                    + (projection ? " [in, out]" : " [out, in]") + ": the last axis of x must be in");
        }
        if (!bias.isNone()) {
            Check.shape("linear bias", bias, out);
            Check.dtype("linear bias", bias, x);
        }
        this.x = x;
        this.weight = weight;
        this.bias = bias;
        this.projection = projection;
    }

    /** {@code y = x weight}, without bias. */
    public static Linear projection(Tensor x, Tensor weight) {
        return new Linear(x, weight, Tensor.NONE, true);
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x, weight, bias);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = forwardUnread(frame);
        frame.gemm().multiply(y, x, false, weight, !projection, bias, 1, false);
        return y;
    }

    @Override
    public Tensor forwardUnread(Frame frame) {
        return frame.empty(x.dtype(), x.shape().withLast(projection ? weight.last() : weight.rows()));
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        if (grads.wants(x)) {
            Tensor dx = frame.emptyLike(x);
            frame.gemm().multiply(dx, dy, false, weight, projection, Tensor.NONE, 1, false);
            grads.add(x, dx);
        }
        if (grads.wants(weight)) {
            Gradients.Accumulator dw = grads.accumulator(weight);
            Tensor left = projection ? x : dy;
            Tensor right = projection ? dy : x;
            frame.gemm().multiply(dw.sum(), left, true, right, false, Tensor.NONE, 1, dw.isBegun());
        }
        if (grads.wants(bias)) {
            Tensor db = frame.empty(DType.F32, bias.shape());
            frame.kernels().sumRows(db, dy);
            grads.add(bias, db);
        }
    }
}
