package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * The gated unit of Gemma's MLP: {@code y = gelu(gate) * up}, gelu in its tanh form. The gelu is rounded to the dtype
 * before the product, as the reference does.
 *
 * @see <a href="https://arxiv.org/abs/2002.05202">GLU variants</a>
 */
public final class Geglu implements Op {
    private final Tensor gate; // [...]  BF16 or F32
    private final Tensor up; // [...]  shape and dtype of gate

    /** @throws IllegalArgumentException where shapes or dtypes differ */
    public Geglu(Tensor gate, Tensor up) {
        Check.floating("geglu gate", gate);
        Check.same("geglu up", up, gate);
        this.gate = gate;
        this.up = up;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(gate, up);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = frame.emptyLike(gate);
        frame.kernels().gegluForward(y, gate, up);
        return y;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        // One kernel makes both: reading gate costs more than writing what may not be wanted.
        Tensor dgate = frame.emptyLike(gate);
        Tensor dup = frame.emptyLike(up);
        frame.kernels().gegluBackward(dgate, dup, dy, gate, up);
        grads.add(gate, dgate);
        grads.add(up, dup);
    }
}
