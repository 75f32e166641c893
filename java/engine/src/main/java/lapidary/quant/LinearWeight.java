package lapidary.quant;

import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/** A linear layer's frozen matrix [out, in], as a tensor or in NF4: what an adapter stands beside. */
public sealed interface LinearWeight permits DenseWeight, Nf4Tensor {
    long out();

    long in();

    /** For messages, e.g. {@code NF4 [2560, 10240]}. */
    String describe();

    /**
     * {@code y = x weightᵀ + bias}.
     *
     * @param y [..., out], dtype of x
     * @param x [..., in] BF16 or F32
     * @param bias [out], dtype of x, or {@link Tensor#NONE}
     * @param frame for what is needed on the way
     */
    void multiply(Tensor y, Tensor x, Tensor bias, Frame frame);

    /**
     * {@code dx = dy weight}, added to what dx holds where {@code accumulate}.
     *
     * @param dx [..., in], dtype of dy
     * @param dy [..., out] BF16 or F32
     */
    void multiplyBackward(Tensor dx, Tensor dy, boolean accumulate, Frame frame);
}
