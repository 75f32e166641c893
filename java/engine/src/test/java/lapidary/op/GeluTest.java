package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Gelu and Geglu. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class GeluTest extends OpTest {
    /** Smaller numbers, or factors of a value, are not normal in F32. */
    private static final double SMALLEST = 0x1p-120;

    GeluTest(Device device) {
        super(device);
    }

    private float[] gelu(DType dtype, float[] x) {
        return Tape.notRecording(frame)
                .run(new Gelu(tensor(dtype, x, x.length)))
                .toFloats();
    }

    /** Normal values, stretched so that both tails are met. */
    private static float[] wide(int seed, DType dtype, int n) {
        float[] x = random(seed, dtype, n);
        for (int i = 0; i < n; i += 3) {
            x[i] *= 4;
        }
        return x;
    }

    /**
     * Each value within the errors of F32 beside itself, and the roundings to BF16. An error of the exponent z counts |z| times:
     * five halves of a spacing, of its two constants, three products and a sum, of which FMA saves one. CUDA's expf is within
     * two spacings, and what follows it, with a factor, is rounded five times.
     *
     * @param x what the gelu is of
     * @see <a href="https://docs.nvidia.com/cuda/cuda-c-programming-guide/#mathematical-functions-appendix">expf</a>
     */
    private static void assertClose(
            double[] expected, float[] actual, float[] x, DType dtype, int roundings, String what) {
        assertEquals(expected.length, actual.length, what + " length");
        for (int i = 0; i < x.length; i++) {
            double share = (5 * Math.abs(GeluReference.exponent(x[i])) + 4 + 5) * 0x1p-24
                    + (dtype == DType.BF16 ? roundings * 0x1p-8 : 0);
            double limit = share * Math.abs(expected[i]) + SMALLEST;
            assertTrue(
                    Math.abs(expected[i] - actual[i]) <= limit,
                    what + "[" + i + "] of " + x[i] + " is " + actual[i] + ", expected " + expected[i] + " within "
                            + limit);
        }
    }

    @ParameterizedTest
    @CsvSource({"F32,0", "F32,1", "F32,31", "F32,50021", "BF16,1", "BF16,47", "BF16,50021"})
    void geluMatchesReference(DType dtype, int n) {
        float[] x = wide(1, dtype, n);
        double[] expected = new double[n];
        for (int i = 0; i < n; i++) {
            expected[i] = GeluReference.gelu(x[i]);
        }
        assertClose(expected, gelu(dtype, x), x, dtype, 1, "gelu");
    }

    @Test
    void geluOfExtremes() {
        float[] y = gelu(DType.F32, new float[] {
            Float.POSITIVE_INFINITY, 1e30f, Float.MAX_VALUE, -1e30f, -100, -0f, Float.MIN_VALUE, Float.NaN
        });
        assertArrayEquals(
                new float[] {Float.POSITIVE_INFINITY, 1e30f, Float.MAX_VALUE, -0f, -0f, -0f, 0, Float.NaN},
                y,
                0x1p-148f);
        Tensor dx = frame.empty(DType.F32, 6);
        frame.kernels()
                .geluBackward(
                        dx,
                        frame.of(new float[] {1, 1, 1, 1, 1, 1}, 6),
                        frame.of(new float[] {1e30f, -1e30f, 50, -50, 0, Float.MAX_VALUE}, 6));
        assertArrayEquals(new float[] {1, 0, 1, 0, 0.5f, 1}, dx.toFloats(), 1e-7f);
    }

    @ParameterizedTest
    @CsvSource({"F32,1", "F32,31", "F32,50021", "BF16,47", "BF16,50021"})
    void geluBackwardMatchesReference(DType dtype, int n) {
        float[] x = wide(2, dtype, n);
        float[] dy = random(3, dtype, n);
        double[] expected = new double[n];
        for (int i = 0; i < n; i++) {
            expected[i] = dy[i] * GeluReference.derivative(x[i]);
        }
        Tensor dx = frame.empty(dtype, n);
        frame.kernels().geluBackward(dx, tensor(dtype, dy, n), tensor(dtype, x, n));
        assertClose(expected, dx.toFloats(), tolerance(dtype, 4), 1, "gelu dx");
    }

    @ParameterizedTest
    @CsvSource({"F32,0", "F32,1", "F32,31", "F32,50021", "BF16,1", "BF16,47", "BF16,50021"})
    void gegluMatchesReference(DType dtype, int n) {
        float[] gate = wide(4, dtype, n);
        float[] up = random(5, dtype, n);
        double[] expected = new double[n];
        for (int i = 0; i < n; i++) {
            expected[i] = GeluReference.gelu(gate[i]) * up[i];
        }
        float[] y = Tape.notRecording(frame)
                .run(new Geglu(tensor(dtype, gate, n), tensor(dtype, up, n)))
                .toFloats();
        // Two roundings in BF16: the gelu, then the product.
        assertClose(expected, y, gate, dtype, 2, "geglu");
    }

    /**
     * With the gelu rounded first, as the reference does, nearly every element is equal to the same in Java; without, one in
     * four is not.
     */
    @Test
    void gegluRoundsTheGeluFirst() {
        int n = 20000;
        float[] gate = random(6, DType.BF16, n);
        float[] up = random(7, DType.BF16, n);
        float[] y = Tape.notRecording(frame)
                .run(new Geglu(tensor(DType.BF16, gate, n), tensor(DType.BF16, up, n)))
                .toFloats();
        int different = 0;
        for (int i = 0; i < n; i++) {
            float rounded = bf16((float) GeluReference.gelu(gate[i]));
            different += y[i] == bf16(rounded * up[i]) ? 0 : 1;
        }
        assertTrue(different <= n / 1000, different + " of " + n + " differ");
    }

    @ParameterizedTest
    @CsvSource({"F32,1", "F32,31", "F32,50021", "BF16,47", "BF16,50021"})
    void gegluBackwardMatchesReference(DType dtype, int n) {
        float[] gate = wide(8, dtype, n);
        float[] up = random(9, dtype, n);
        float[] dy = random(10, dtype, n);
        double[] dgate = new double[n];
        double[] dup = new double[n];
        for (int i = 0; i < n; i++) {
            dgate[i] = dy[i] * up[i] * GeluReference.derivative(gate[i]);
            dup[i] = dy[i] * GeluReference.gelu(gate[i]);
        }
        Tensor gradGate = frame.empty(dtype, n);
        Tensor gradUp = frame.empty(dtype, n);
        frame.kernels()
                .gegluBackward(gradGate, gradUp, tensor(dtype, dy, n), tensor(dtype, gate, n), tensor(dtype, up, n));
        assertClose(dgate, gradGate.toFloats(), tolerance(dtype, 4), 1, "geglu dgate");
        assertClose(dup, gradUp.toFloats(), gate, dtype, 2, "geglu dup");
    }

    @Test
    void gradientsMatchDifferences() {
        checkGradients(in -> new Gelu(in.get(0)), List.of(random(11, DType.F32, 40)), List.of(new long[] {5, 8}), 0);
        checkGradients(
                in -> new Geglu(in.get(0), in.get(1)),
                List.of(random(12, DType.F32, 40), random(13, DType.F32, 40)),
                List.of(new long[] {5, 8}, new long[] {5, 8}),
                0,
                1);
    }

    @Test
    void badOperandsAreNamed() {
        Tensor gate = frame.empty(DType.F32, 2, 3);
        var error = assertThrows(IllegalArgumentException.class, () -> new Geglu(gate, frame.empty(DType.F32, 2, 4)));
        assertEquals("[geglu up] is [2, 4], expected [2, 3]", error.getMessage());
        assertThrows(IllegalArgumentException.class, () -> new Geglu(gate, frame.empty(DType.BF16, 2, 3)));
        assertThrows(IllegalArgumentException.class, () -> new Gelu(frame.empty(DType.I32, 2)));
    }
}
