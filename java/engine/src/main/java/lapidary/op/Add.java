package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/** Sum of two tensors: {@code y = a + b}, rounded once. Both get the gradient of the sum as theirs. */
public final class Add implements Op {
    private final Tensor a; // [...]  BF16 or F32
    private final Tensor b; // [...]  shape and dtype of a

    /** @throws IllegalArgumentException where shapes or dtypes differ */
    public Add(Tensor a, Tensor b) {
        Check.floating("add a", a);
        Check.same("add b", b, a);
        this.a = a;
        this.b = b;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(a, b);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = frame.emptyLike(a);
        frame.kernels().add(y, a, b);
        return y;
    }

    @Override
    public Tensor forwardUnread(Frame frame) {
        return frame.emptyLike(a);
    }

    @Override
    public boolean backwardReadsInputs() {
        return false;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        grads.add(a, dy);
        grads.add(b, dy);
    }
}
