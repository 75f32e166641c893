package lapidary.bench;

import java.util.Random;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/** Random operands of benchmarks. */
final class Inputs {
    /** Numbers that one generator makes. */
    private static final int CHUNK = 1 << 16;

    /** Makes a variance of 1 of uniform ints: an interval of sqrt(12). */
    private static final float PER_INT = (float) (Math.sqrt(12) * 0x1p-32);

    private Inputs() {}

    /** Uniform values of mean 0 and variance 1, the same for the same axes. */
    static Tensor random(Frame frame, DType dtype, long... axes) {
        float[] values = new float[Math.toIntExact(Shape.of(axes).elements())];
        IntStream.rangeClosed(0, values.length / CHUNK).parallel().forEach(chunk -> {
            SplittableRandom random = new SplittableRandom(axes[0] << 32 | chunk);
            int end = Math.min(values.length, (chunk + 1) * CHUNK);
            for (int i = chunk * CHUNK; i < end; i++) {
                values[i] = random.nextInt() * PER_INT;
            }
        });
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
