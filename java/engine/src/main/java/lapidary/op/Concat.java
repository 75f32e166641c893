package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/** The rows of several tensors, one after the other. Each gets its rows of the gradient. */
public final class Concat implements Op {
    private final List<Tensor> parts; // [rows of it, cols]  BF16 or F32

    /** @throws IllegalArgumentException where there is no part, or one differs in dtype or columns from the first */
    public Concat(List<Tensor> parts) {
        if (parts.isEmpty()) {
            throw new IllegalArgumentException("[concat] of no tensor, expected at least one");
        }
        for (Tensor part : parts) {
            Check.floating("concat part", part);
            Check.dtype("concat part", part, parts.get(0));
            Check.shape("concat part", part, part.rows(), parts.get(0).last());
        }
        this.parts = List.copyOf(parts);
    }

    @Override
    public List<Tensor> inputs() {
        return parts;
    }

    @Override
    public boolean backwardReadsInputs() {
        return false;
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = forwardUnread(frame);
        long row = 0;
        for (Tensor part : parts) {
            frame.kernels().convert(y.slice(row, row + part.rows()), part, 1);
            row += part.rows();
        }
        return y;
    }

    @Override
    public Tensor forwardUnread(Frame frame) {
        long rows = parts.stream().mapToLong(Tensor::rows).sum();
        return frame.empty(parts.get(0).dtype(), rows, parts.get(0).last());
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        long row = 0;
        for (Tensor part : parts) {
            grads.add(part, dy.slice(row, row + part.rows()));
            row += part.rows();
        }
    }
}
