package lapidary.nn;

import lapidary.autograd.Tape;
import lapidary.quant.Nf4Tensor;
import lapidary.tensor.Tensor;

/**
 * {@code y = x weightᵀ + bias} with a frozen matrix in NF4.
 *
 * @param weight [out, in]
 * @param bias [out], frozen, or {@link Tensor#NONE}
 */
public record Nf4Linear(Nf4Tensor weight, Tensor bias) implements Layer {
    @Override
    public Tensor apply(Tape tape, Tensor x) {
        return tape.run(new lapidary.op.Nf4Linear(x, weight, bias));
    }
}
