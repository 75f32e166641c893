package lapidary.autograd;

import java.util.List;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * One differentiable operation: its inputs, the values that it chooses to save, forward and backward. An op object is
 * used once.
 */
public interface Op {
    /**
     * Every tensor that may need a gradient, and every output of another op of the same block that forward or backward reads:
     * a checkpointed block does not compute again what nobody lists.
     */
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

    /** Whether backward reads the values of any input; where not, nobody need compute them for its sake. */
    default boolean backwardReadsInputs() {
        return true;
    }

    /** What a checkpointed block keeps of forward for {@link #resume}: of ops whose work costs more than it weighs. */
    default List<Tensor> kept() {
        return List.of();
    }

    /** Forward in a checkpointed block's second run, which has what the first one {@link #kept}. */
    default Tensor resume(List<Tensor> kept) {
        throw new IllegalStateException("[" + name() + "] kept nothing to resume from");
    }

    /**
     * Forward where nobody reads the output: saves what backward reads. The output's content is unspecified, shape and
     * dtype are forward's.
     */
    default Tensor forwardUnread(Frame frame) {
        return forward(frame);
    }

    /** For messages and frame paths. */
    default String name() {
        return getClass().getSimpleName();
    }
}
