package lapidary.quant;

import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * A matrix that is kept as it is.
 *
 * @param tensor [out, in], dtype of what it is multiplied with
 */
public record DenseWeight(Tensor tensor) implements LinearWeight {
    /** @throws IllegalArgumentException where the tensor is no matrix */
    public DenseWeight {
        if (tensor.shape().rank() != 2) {
            throw new IllegalArgumentException("[linear weight] is " + tensor.describe() + ", expected [out, in]");
        }
    }

    @Override
    public long out() {
        return tensor.rows();
    }

    @Override
    public long in() {
        return tensor.last();
    }

    @Override
    public String describe() {
        return tensor.describe();
    }

    @Override
    public void multiply(Tensor y, Tensor x, Tensor bias, Frame frame) {
        frame.gemm().linear(y, x, tensor, bias);
    }

    @Override
    public void multiplyBackward(Tensor dx, Tensor dy, boolean accumulate, Frame frame) {
        frame.gemm().multiply(dx, dy, false, tensor, false, Tensor.NONE, 1, accumulate);
    }
}
