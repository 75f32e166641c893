package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Normalisation of the last axis to mean 0 and variance 1, with weight and bias.
 *
 * <p>{@code y = (x - mean) / sqrt(variance + eps) * weight + bias}, variance over n. Sums run in F32 for every dtype, with
 * one rounding at the end. Saves mean and rstd for backward.
 *
 * @see <a href="https://arxiv.org/abs/1607.06450">Layer normalization</a>
 */
public final class LayerNorm implements Op {
    private final Tensor x; // [..., size]  BF16 or F32
    private final Tensor weight; // [size]  dtype of x
    private final Tensor bias; // [size]  dtype of x
    private final float eps;
    private Tensor mean; // [rows]  F32, written by forward
    private Tensor rstd; // [rows]  F32, written by forward

    /** @throws IllegalArgumentException where weight or bias is not the last axis of x */
    public LayerNorm(Tensor x, Tensor weight, Tensor bias, float eps) {
        Check.floating("layer_norm x", x);
        Check.shape("layer_norm weight", weight, x.last());
        Check.dtype("layer_norm weight", weight, x);
        Check.shape("layer_norm bias", bias, x.last());
        Check.dtype("layer_norm bias", bias, x);
        this.x = x;
        this.weight = weight;
        this.bias = bias;
        this.eps = eps;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x, weight, bias);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = frame.emptyLike(x);
        mean = frame.empty(DType.F32, x.rows());
        rstd = frame.empty(DType.F32, x.rows());
        frame.kernels().layerNormForward(y, mean, rstd, x, weight, bias, eps);
        return y;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        Tensor dx = grads.wants(x) ? frame.emptyLike(x) : Tensor.NONE;
        Tensor dw = grads.wants(weight) ? frame.empty(DType.F32, weight.shape()) : Tensor.NONE;
        Tensor db = grads.wants(bias) ? frame.empty(DType.F32, bias.shape()) : Tensor.NONE;
        frame.kernels().layerNormBackward(dx, dw, db, dy, x, weight, mean, rstd);
        grads.add(x, dx);
        grads.add(weight, dw);
        grads.add(bias, db);
    }
}
