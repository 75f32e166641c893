package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Means over square windows that do not overlap, of images whose cells are rows. Cells at the far edges that fill no window
 * are left out, as in the reference's pooling.
 */
public final class AveragePool implements Op {
    private final Tensor x; // [images * side * side, cols]  BF16 or F32
    private final int images;
    private final int side;
    private final int kernel;

    /**
     * @param side cells of an image's edge
     * @param kernel cells of a window's edge, at most side
     * @throws IllegalArgumentException where x is not that many images, or the kernel is larger than an image
     */
    public AveragePool(Tensor x, int images, int side, int kernel) {
        Check.floating("average_pool x", x);
        Check.shape("average_pool x", x, (long) images * side * side, x.last());
        if (kernel < 1 || kernel > side) {
            throw new IllegalArgumentException(
                    "[average_pool] kernel is " + kernel + ", expected 1 to " + side + " = the side of an image");
        }
        this.x = x;
        this.images = images;
        this.side = side;
        this.kernel = kernel;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x);
    }

    @Override
    public Tensor forward(Frame frame) {
        long cells = (long) (side / kernel) * (side / kernel);
        Tensor y = frame.empty(x.dtype(), images * cells, x.last());
        frame.kernels().averagePoolForward(y, x, images, side, kernel);
        return y;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        Tensor dx = frame.emptyLike(x);
        frame.kernels().averagePoolBackward(dx, dy, images, side, kernel);
        grads.add(x, dx);
    }
}
