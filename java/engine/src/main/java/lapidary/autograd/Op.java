package lapidary.autograd;

import java.util.List;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * One differentiable operation: its inputs, the values that it chooses to save, forward and backward. An op object is
 * used once.
 */
public interface Op {
    /** Every tensor that may need a gradient. */
    List<Tensor> inputs();

    /** Computes the output, owned by the frame, and saves what backward reads. */
    Tensor forward(Frame frame);

    /**
     * Adds to {@code grads} the gradient of each input that it {@link Gradients#wants}, and computes no other.
     *
     * @param dy gradient of the output; shape and dtype of the output
     * @param frame for what this call needs; closed after it
     */
    void backward(Tensor dy, Frame frame, Gradients grads);

    /** For messages and frame paths. */
    default String name() {
        return getClass().getSimpleName();
    }
}
