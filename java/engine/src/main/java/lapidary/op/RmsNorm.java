package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Root-mean-square normalisation of the last axis, with Gemma's offset weight.
 *
 * <p>{@code y = x / sqrt(mean(x * x) + eps) * (1 + weight)}. Sums run in F32 for every dtype. Saves {@code rstd} for
 * backward; a frozen weight costs no gradient.
 *
 * @see <a href="https://arxiv.org/abs/1910.07467">RMSNorm</a>; the 1 + is google/gemma_pytorch, model.py
 */
public final class RmsNorm implements Op {
    private final Tensor x; // [..., size]  BF16 or F32
    private final Tensor weight; // [size]       dtype of x
    private final float eps;
    private Tensor rstd; // [rows]       F32, written by forward

    /** @throws IllegalArgumentException where weight is not the last axis of x */
    public RmsNorm(Tensor x, Tensor weight, float eps) {
        Check.shape("rms_norm weight", weight, x.last());
        Check.dtype("rms_norm weight", weight, x);
        this.x = x;
        this.weight = weight;
        this.eps = eps;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x, weight);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = frame.emptyLike(x);
        rstd = frame.empty(DType.F32, x.rows());
        frame.kernels().rmsNormForward(y, rstd, x, weight, eps);
        return y;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        Tensor sum = grads.waiting(x); // what x has from a residual
        Tensor dx = !sum.isNone() ? sum : grads.wants(x) ? frame.emptyLike(x) : Tensor.NONE;
        Tensor dw = grads.wants(weight) ? frame.empty(DType.F32, weight.shape()) : Tensor.NONE;
        frame.kernels().rmsNormBackward(dx, dw, dy, x, weight, rstd, !sum.isNone());
        grads.add(x, sum.isNone() ? dx : Tensor.NONE);
        grads.add(weight, dw);
    }
}
