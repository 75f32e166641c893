package lapidary.nn;

import lapidary.autograd.Tape;
import lapidary.tensor.Tensor;

/**
 * {@code y = x weightᵀ + bias}.
 *
 * @param weight [out, in]
 * @param bias [out], or {@link Tensor#NONE}
 */
public record Linear(Tensor weight, Tensor bias) implements Layer {
    @Override
    public Tensor apply(Tape tape, Tensor x) {
        return tape.run(new lapidary.op.Linear(x, weight, bias));
    }
}
