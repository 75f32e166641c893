package lapidary.nn;

import lapidary.autograd.Tape;
import lapidary.quant.LinearWeight;
import lapidary.tensor.Tensor;

/**
 * A frozen linear layer with a low-rank adapter: {@code y = x weightᵀ + bias + scaling (dropout(x) aᵀ) bᵀ}.
 *
 * @param weight [out, in], frozen, as a tensor or in NF4
 * @param bias [out], frozen, or {@link Tensor#NONE}
 * @param a [r, in] F32 master, or BF16
 * @param b [out, r] F32 master, or BF16
 * @param scaling alpha / r
 * @param index number of this layer among all adapters, which keys its dropout masks
 * @see <a href="https://arxiv.org/abs/2106.09685">LoRA</a>
 */
public record LoraLinear(
        LinearWeight weight, Tensor bias, Tensor a, Tensor b, float scaling, Dropout dropout, int index)
        implements Layer {
    @Override
    public Tensor apply(Tape tape, Tensor x) {
        return tape.run(new lapidary.op.LoraLinear(
                x,
                weight,
                bias,
                new lapidary.op.LoraLinear.Adapter(
                        a, b, scaling, dropout.rate(), dropout.seed(), dropout.stream(index))));
    }
}
