package lapidary.bench;

import java.util.Random;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/** Random operands of benchmarks. */
final class Inputs {
    private Inputs() {}

    /** Normal values. */
    static Tensor random(Frame frame, DType dtype, long... axes) {
        Random random = new Random(axes[0]);
        float[] values = new float[Math.toIntExact(Shape.of(axes).elements())];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) random.nextGaussian();
        }
        Tensor f32 = frame.of(values, axes);
        Tensor y = frame.empty(dtype, Shape.of(axes));
        frame.kernels().convert(y, f32, 1);
        frame.release(f32);
        return y;
    }

    /** Whole numbers in [0, bound). */
    static Tensor indices(Frame frame, int n, int bound) {
        return frame.of(new Random(n).ints(n, 0, bound).toArray(), n);
    }
}
