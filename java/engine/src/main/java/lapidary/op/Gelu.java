package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Gaussian error linear unit in its tanh form: {@code y = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))}.
 *
 * @see <a href="https://arxiv.org/abs/1606.08415">GELU</a>
 */
public final class Gelu implements Op {
    private final Tensor x; // [...]  BF16 or F32

    public Gelu(Tensor x) {
        Check.floating("gelu x", x);
        this.x = x;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = frame.emptyLike(x);
        frame.kernels().geluForward(y, x);
        return y;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        Tensor dx = frame.emptyLike(x);
        frame.kernels().geluBackward(dx, dy, x);
        grads.add(x, dx);
    }
}
