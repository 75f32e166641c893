package lapidary.nn;

import lapidary.autograd.Tape;
import lapidary.tensor.Tensor;

/**
 * @param weight [size]
 * @param bias [size]
 */
public record LayerNorm(Tensor weight, Tensor bias, float eps) implements Layer {
    @Override
    public Tensor apply(Tape tape, Tensor x) {
        return tape.run(new lapidary.op.LayerNorm(x, weight, bias, eps));
    }
}
