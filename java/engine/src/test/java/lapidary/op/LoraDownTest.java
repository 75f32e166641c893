package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** The kernels that drop an adapter's input on the way; the op that takes them on a CUDA device is the LoRA layer's. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class LoraDownTest extends OpTest {
    private static final float[] NOTHING = {};
    private static final long SEED = -42;
    private static final long STREAM = 1L << 40 | 7;

    LoraDownTest(Device device) {
        super(device);
    }

    /** With a unit matrix the products are the dropped operand: bit for bit what the kernel dropout makes of it. */
    @ParameterizedTest
    @CsvSource({
        "BF16,16,0.05",
        "BF16,64,0.5",
        "BF16,63,0.3",
        "BF16,31,0.05",
        "BF16,5,0.5",
        "BF16,100,0.1",
        "F32,64,0.3",
        "F32,13,0.5"
    })
    void unitMatrixShowsTheMaskOfDropout(DType dtype, int n, float p) {
        int rows = 37;
        float[] ones = new float[n * n];
        for (int i = 0; i < n; i++) {
            ones[i * n + i] = 1;
        }
        Tensor unit = tensor(dtype, ones, n, n);
        Tensor x = tensor(dtype, random(1, dtype, rows * n), rows, n);
        Tensor expected = frame.emptyLike(x);
        frame.kernels().dropout(expected, x, p, SEED, STREAM);
        Tensor y = frame.emptyLike(x);
        frame.kernels().loraDownForward(y, x, unit, p, SEED, STREAM);
        assertArrayEquals(expected.toFloats(), y.toFloats(), "forward");
        frame.kernels().loraDownBackwardInput(y, x, unit, p, SEED, STREAM);
        assertArrayEquals(expected.toFloats(), y.toFloats(), "backward, x");

        Tensor square = tensor(dtype, random(2, dtype, n * n), n, n);
        Tensor dropped = frame.emptyLike(square);
        frame.kernels().dropout(dropped, square, p, SEED, STREAM);
        Tensor da = frame.zeros(DType.F32, n, n);
        frame.kernels().loraDownBackwardWeight(da, unit, square, p, SEED, STREAM, true);
        assertArrayEquals(dropped.toFloats(), da.toFloats(), "backward, A");
    }

    /** The difference of two neighbours is exact, and one of values that were not rounded another. */
    @ParameterizedTest
    @CsvSource({"BF16,16,0.3", "BF16,9,0.05", "BF16,100,0.3", "F32,24,0.3"})
    void sumsRoundedValues(DType dtype, int n, float p) {
        int rows = 50;
        float[] difference = new float[n * n];
        for (int i = 0; i < n; i++) {
            difference[i * n + i] = 1;
            difference[i * n + (i + 1) % n] = -1;
        }
        float[] x = random(12, dtype, rows * n);
        float[] xd = dropped(dtype, x, p);
        float[] expected = new float[rows * n];
        for (int i = 0; i < expected.length; i++) {
            float value = xd[i] - xd[i / n * n + (i + 1) % n];
            expected[i] = dtype == DType.BF16 ? bf16(value) : value;
        }
        Tensor y = frame.empty(dtype, rows, n);
        Tensor a = tensor(dtype, difference, n, n);
        frame.kernels().loraDownForward(y, tensor(dtype, x, rows, n), a, p, SEED, STREAM);
        assertArrayEquals(expected, y.toFloats());
    }

    /** Whole numbers, half of them kept and doubled: every sum is exact, in whatever order. */
    @ParameterizedTest
    @CsvSource({
        "BF16,1,1,1",
        "BF16,3,31,3",
        "BF16,17,40,16",
        "BF16,33,1100,1",
        "BF16,70,1160,16",
        "BF16,100,72,20",
        "BF16,20,136,33",
        "BF16,20,136,34",
        "BF16,18,88,2",
        "BF16,35,264,64",
        "BF16,18,90,64",
        "BF16,9,70,100",
        "BF16,1100,24,16",
        "BF16,700,72,40",
        "BF16,580,4096,2",
        "F32,5,31,3",
        "F32,21,264,16",
        "F32,70,9,100"
    })
    void sumsEveryTermOnce(DType dtype, int rows, int in, int rank) {
        float[] x = whole(3, 3, rows * in);
        float[] a = whole(4, 31, rank * in);
        float[] ddown = whole(5, 3, rows * rank);
        float[] before = whole(6, 3, rank * in);
        float[] xd = dropped(dtype, x, 0.5f);
        Tensor tx = tensor(dtype, x, rows, in);
        Tensor ta = tensor(dtype, a, rank, in);
        Tensor tddown = tensor(dtype, ddown, rows, rank);

        Tensor down = frame.empty(dtype, rows, rank);
        frame.kernels().loraDownForward(down, tx, ta, 0.5f, SEED, STREAM);
        double[] expected = GemmReference.multiply(rows, rank, in, xd, false, a, true, NOTHING, 1, NOTHING);
        assertArrayEquals(rounded(dtype, expected), down.toFloats(), "forward");

        Tensor da = frame.of(before, rank, in);
        frame.kernels().loraDownBackwardWeight(da, tddown, tx, 0.5f, SEED, STREAM, true);
        expected = GemmReference.multiply(rank, in, rows, ddown, true, xd, false, NOTHING, 1, before);
        assertArrayEquals(rounded(DType.F32, expected), da.toFloats(), "backward, A");
        float[] nothing = new float[rank * in];
        Arrays.fill(nothing, Float.NaN);
        da = frame.of(nothing, rank, in);
        frame.kernels().loraDownBackwardWeight(da, tddown, tx, 0.5f, SEED, STREAM, false);
        expected = GemmReference.multiply(rank, in, rows, ddown, true, xd, false, NOTHING, 1, NOTHING);
        assertArrayEquals(rounded(DType.F32, expected), da.toFloats(), "backward, A, overwritten");

        Tensor dx = frame.empty(dtype, rows, in);
        frame.kernels().loraDownBackwardInput(dx, tddown, ta, 0.3f, SEED, STREAM);
        expected = GemmReference.multiply(rows, in, rank, ddown, false, a, false, NOTHING, 1, NOTHING);
        assertArrayEquals(dropped(dtype, rounded(dtype, expected), 0.3f), dx.toFloats(), "backward, x");
    }

    /** Each operand in turn at an address that is no multiple of 16 bytes: whole numbers, so that no order of sums counts. */
    @ParameterizedTest
    @CsvSource({"BF16,16,24,2", "BF16,20,40,3", "F32,5,16,4"})
    void operandsMayBeginAnywhere(DType dtype, int rows, int in, int rank) {
        Tensor x = tensor(dtype, whole(3, 3, rows * in), rows, in);
        Tensor a = tensor(dtype, whole(4, 3, rank * in), rank, in);
        Tensor ddown = tensor(dtype, whole(5, 3, rows * rank), rows, rank);
        List<float[]> expected = new ArrayList<>();
        for (int odd = 0; odd <= 6; odd++) {
            Tensor down = shifted(odd == 1, frame.zeros(dtype, rows, rank));
            Tensor sx = shifted(odd == 2, x);
            Tensor sa = shifted(odd == 3, a);
            frame.kernels().loraDownForward(down, sx, sa, 0.5f, SEED, STREAM);
            Tensor da = shifted(odd == 4, frame.zeros(DType.F32, rank, in));
            Tensor sddown = shifted(odd == 5, ddown);
            frame.kernels().loraDownBackwardWeight(da, sddown, sx, 0.5f, SEED, STREAM, true);
            Tensor dx = shifted(odd == 6, frame.zeros(dtype, rows, in));
            frame.kernels().loraDownBackwardInput(dx, sddown, sa, 0.5f, SEED, STREAM);
            if (odd == 0) {
                expected.addAll(List.of(down.toFloats(), da.toFloats(), dx.toFloats()));
            }
            assertArrayEquals(expected.get(0), down.toFloats(), "down, operand " + odd);
            assertArrayEquals(expected.get(1), da.toFloats(), "da, operand " + odd);
            assertArrayEquals(expected.get(2), dx.toFloats(), "dx, operand " + odd);
        }
    }

    /** Normal values and the usual dropout, against double. */
    @ParameterizedTest
    @CsvSource({"BF16,77,520,16,0.05", "BF16,130,68,8,0.1", "BF16,40,300,80,0.3", "F32,77,130,16,0.05"})
    void matchesReference(DType dtype, int rows, int in, int rank, float p) {
        float[] x = random(7, dtype, rows * in);
        float[] a = random(8, dtype, rank * in);
        float[] ddown = random(9, dtype, rows * rank);
        float[] xd = dropped(dtype, x, p);
        Tensor tx = tensor(dtype, x, rows, in);
        Tensor ta = tensor(dtype, a, rank, in);
        Tensor tddown = tensor(dtype, ddown, rows, rank);

        Tensor down = frame.empty(dtype, rows, rank);
        frame.kernels().loraDownForward(down, tx, ta, p, SEED, STREAM);
        double[] expected = GemmReference.multiply(rows, rank, in, xd, false, a, true, NOTHING, 1, NOTHING);
        close(expected, down.toFloats(), dtype, in, 1, "forward");

        Tensor da = frame.zeros(DType.F32, rank, in);
        frame.kernels().loraDownBackwardWeight(da, tddown, tx, p, SEED, STREAM, true);
        expected = GemmReference.multiply(rank, in, rows, ddown, true, xd, false, NOTHING, 1, NOTHING);
        close(expected, da.toFloats(), DType.F32, rows, 1, "backward, A");

        Tensor dx = frame.empty(dtype, rows, in);
        frame.kernels().loraDownBackwardInput(dx, tddown, ta, p, SEED, STREAM);
        expected = GemmReference.multiply(rows, in, rank, ddown, false, a, false, NOTHING, 1, NOTHING);
        for (int i = 0; i < expected.length; i++) {
            expected[i] = kept(i, p) ? expected[i] * factor(p) : 0;
        }
        close(expected, dx.toFloats(), dtype, rank, 2, "backward, x"); // rounded before the mask and after it
    }

    @Test
    void noTermsGiveZeroAndAddNothing() {
        for (DType dtype : new DType[] {DType.BF16, DType.F32}) {
            Tensor down = tensor(dtype, new float[] {9, 9, 9, 9}, 2, 2);
            frame.kernels()
                    .loraDownForward(down, frame.empty(dtype, 2, 0), frame.empty(dtype, 2, 0), 0.5f, SEED, STREAM);
            assertArrayEquals(new float[4], down.toFloats());
            Tensor dx = tensor(dtype, new float[] {9, 9, 9, 9}, 2, 2);
            frame.kernels()
                    .loraDownBackwardInput(dx, frame.empty(dtype, 2, 0), frame.empty(dtype, 0, 2), 0.5f, SEED, STREAM);
            assertArrayEquals(new float[4], dx.toFloats());
            Tensor da = frame.of(new float[] {1, 2, 3, 4}, 2, 2);
            frame.kernels()
                    .loraDownBackwardWeight(
                            da, frame.empty(dtype, 0, 2), frame.empty(dtype, 0, 2), 0.5f, SEED, STREAM, true);
            assertArrayEquals(new float[] {1, 2, 3, 4}, da.toFloats());
            frame.kernels()
                    .loraDownBackwardWeight(
                            da, frame.empty(dtype, 0, 2), frame.empty(dtype, 0, 2), 0.5f, SEED, STREAM, false);
            assertArrayEquals(new float[4], da.toFloats());
        }
    }

    @Test
    void extremesOfP() {
        float[] x = random(10, DType.BF16, 40);
        Tensor tx = tensor(DType.BF16, x, 5, 8);
        Tensor a = tensor(DType.BF16, whole(11, 3, 16), 2, 8);
        Tensor down = frame.empty(DType.BF16, 5, 2);
        frame.kernels().loraDownForward(down, tx, a, 1, SEED, STREAM);
        assertArrayEquals(new float[10], down.toFloats());
        for (float bad : new float[] {-0.1f, 1.1f, Float.NaN}) {
            assertThrows(IllegalArgumentException.class, () -> frame.kernels()
                    .loraDownForward(down, tx, a, bad, SEED, STREAM));
            assertThrows(IllegalArgumentException.class, () -> frame.kernels()
                    .loraDownBackwardInput(tx, down, a, bad, SEED, STREAM));
            Tensor da = frame.zeros(DType.F32, 2, 8);
            assertThrows(IllegalArgumentException.class, () -> frame.kernels()
                    .loraDownBackwardWeight(da, down, tx, bad, SEED, STREAM, true));
        }
    }

    /** From 1 to the largest and their negatives, so that no term is nothing. */
    private static float[] whole(int seed, int largest, int n) {
        java.util.Random random = new java.util.Random(seed);
        float[] y = new float[n];
        for (int i = 0; i < n; i++) {
            y[i] = (1 + random.nextInt(largest)) * (random.nextBoolean() ? 1 : -1);
        }
        return y;
    }

    private static boolean kept(int i, float p) {
        return Philox.half(i, SEED, STREAM) >= Math.rint(p * 65536);
    }

    private static float factor(float p) {
        return 1 / (1 - (float) Math.rint(p * 65536) / 65536);
    }

    private static float[] dropped(DType dtype, float[] x, float p) {
        float[] y = new float[x.length];
        for (int i = 0; i < x.length; i++) {
            float value = kept(i, p) ? x[i] * factor(p) : 0;
            y[i] = dtype == DType.BF16 ? bf16(value) : value;
        }
        return y;
    }

    private static float[] rounded(DType dtype, double[] x) {
        float[] y = new float[x.length];
        for (int i = 0; i < x.length; i++) {
            y[i] = dtype == DType.BF16 ? bf16((float) x[i]) : (float) x[i];
        }
        return y;
    }

    /** Within the error of an F32 sum of that many terms, and so many roundings to the dtype. */
    private static void close(double[] expected, float[] actual, DType dtype, int terms, int roundings, String what) {
        for (int i = 0; i < expected.length; i++) {
            double sum = tolerance(DType.F32, terms) * (Math.sqrt(terms) + Math.abs(expected[i]));
            double limit = sum + (dtype == DType.BF16 ? roundings * 0x1p-8 * Math.abs(expected[i]) : 0);
            assertTrue(
                    Math.abs(expected[i] - actual[i]) <= limit,
                    what + "[" + i + "] is " + actual[i] + ", expected " + expected[i] + " within " + limit);
        }
    }
}
