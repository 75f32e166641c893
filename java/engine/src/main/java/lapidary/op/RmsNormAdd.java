package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * A residual and what {@link RmsNorm} makes of x: {@code y = residual + rmsNorm(x)}, what is normalised rounded to the dtype
 * before the sum, as the reference does.
 */
public final class RmsNormAdd implements Op {
    private final Tensor residual; // [..., size]  BF16 or F32
    private final Tensor x; // [..., size]  shape and dtype of residual
    private final Tensor weight; // [size]       dtype of x
    private final float eps;
    private Tensor rstd; // [rows]       F32, written by forward

    /** @throws IllegalArgumentException where shapes or dtypes differ, or weight is not the last axis of x */
    public RmsNormAdd(Tensor residual, Tensor x, Tensor weight, float eps) {
        Check.floating("rms_norm_add residual", residual);
        Check.same("rms_norm_add x", x, residual);
        Check.shape("rms_norm_add weight", weight, x.last());
        Check.dtype("rms_norm_add weight", weight, x);
        this.residual = residual;
        this.x = x;
        this.weight = weight;
        this.eps = eps;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(residual, x, weight);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = frame.emptyLike(x);
        rstd = frame.empty(DType.F32, x.rows());
        frame.kernels().rmsNormAddForward(y, rstd, x, weight, residual, eps);
        return y;
    }

    @Override
    public Tensor forwardUnread(Frame frame) {
        rstd = frame.empty(DType.F32, x.rows());
        frame.kernels().rmsNormForward(Tensor.NONE, rstd, x, weight, eps);
        return frame.emptyLike(x);
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        Tensor dx = grads.wants(x) ? frame.emptyLike(x) : Tensor.NONE;
        Tensor dw = grads.wants(weight) ? frame.empty(DType.F32, weight.shape()) : Tensor.NONE;
        frame.kernels().rmsNormBackward(dx, dw, dy, x, weight, rstd, false);
        grads.add(x, dx);
        grads.add(weight, dw);
        grads.add(residual, dy);
    }
}
