package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** convert, add and accumulate: one rounding of F32 arithmetic, so equal bit for bit to the same in Java. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class ElementwiseTest extends OpTest {
    ElementwiseTest(Device device) {
        super(device);
    }

    /** Values at the edges: ties of the BF16 rounding both ways, subnormals, overflow to infinity, NaN. */
    private static final float[] EDGES = {
        0,
        -0f,
        1,
        -1,
        Float.MIN_VALUE,
        -Float.MIN_VALUE,
        Float.MIN_NORMAL,
        Float.MAX_VALUE,
        -Float.MAX_VALUE,
        Float.POSITIVE_INFINITY,
        Float.NEGATIVE_INFINITY,
        Float.NaN,
        1 + 0x1p-8f,
        1 + 0x3p-8f,
        1 + 0x1p-8f + 0x1p-23f,
        0x1.fep127f,
        0x1.ff7p127f,
        0x1.ffp127f,
        0x1p-133f,
        0x1.8p-134f,
        0x1p-134f,
        Float.intBitsToFloat(0x7f800001),
        Float.intBitsToFloat(0xffffffff)
    };

    private static float[] values(int seed, DType dtype, int n) {
        float[] x = random(seed, DType.F32, n);
        for (int i = 0; i < Math.min(n, EDGES.length); i++) {
            x[i] = EDGES[(i + seed) % EDGES.length];
        }
        return rounded(x, dtype);
    }

    private static float[] rounded(float[] x, DType dtype) {
        float[] y = x.clone();
        if (dtype == DType.BF16) {
            for (int i = 0; i < y.length; i++) {
                y[i] = Float.isNaN(y[i]) ? Float.NaN : bf16(y[i]);
            }
        }
        return y;
    }

    /** Kernels that move eight elements at once must see where that is not allowed. */
    @ParameterizedTest
    @EnumSource(
            value = DType.class,
            names = {"F32", "BF16"})
    void slicesMayBeginAnywhere(DType dtype) {
        float[] x = random(4, dtype, 60);
        for (int from = 0; from < 8; from++) {
            Tensor a = tensor(dtype, x, 60, 1).slice(from, from + 40);
            Tensor y = frame.empty(dtype, 60, 1);
            frame.kernels().convert(y.slice(0, 40), a, 1);
            assertArrayEquals(a.toFloats(), y.slice(0, 40).toFloats());
            frame.kernels().add(y.slice(from, from + 40), a, a);
            float[] twice = y.slice(from, from + 40).toFloats();
            for (int i = 0; i < 40; i++) {
                assertEquals(2 * x[from + i], twice[i]);
            }
        }
    }

    @ParameterizedTest
    @CsvSource({
        "F32,F32,1,1",
        "F32,BF16,40,1",
        "BF16,F32,40,1",
        "BF16,BF16,40,0.3",
        "BF16,F32,0,1",
        "F32,BF16,17,-2.5",
        "BF16,F32,100003,1",
        "BF16,BF16,100003,0.7",
        "F32,BF16,100003,1",
        "F32,F32,100003,3"
    })
    void convertRoundsOnce(DType to, DType from, int n, float factor) {
        float[] x = values(1, from, n);
        Tensor y = frame.empty(to, n);
        frame.kernels().convert(y, tensor(from, x, n), factor);
        float[] expected = new float[n];
        for (int i = 0; i < n; i++) {
            expected[i] = x[i] * factor;
        }
        assertArrayEquals(rounded(expected, to), y.toFloats());
    }

    @ParameterizedTest
    @CsvSource({"F32", "BF16"})
    void convertInPlace(DType dtype) {
        int n = 70001;
        float[] x = values(2, dtype, n);
        Tensor y = tensor(dtype, x, n);
        frame.kernels().convert(y, y, 0.5f);
        for (int i = 0; i < n; i++) {
            x[i] *= 0.5f;
        }
        assertArrayEquals(rounded(x, dtype), y.toFloats());
    }

    @ParameterizedTest
    @CsvSource({"F32,0", "F32,1", "F32,31", "F32,100003", "BF16,1", "BF16,33", "BF16,100003"})
    void addRoundsOnce(DType dtype, int n) {
        float[] a = values(3, dtype, n);
        float[] b = values(4, dtype, n);
        float[] expected = new float[n];
        for (int i = 0; i < n; i++) {
            expected[i] = a[i] + b[i];
        }
        expected = rounded(expected, dtype);
        Tensor ta = tensor(dtype, a, n);
        Tensor tb = tensor(dtype, b, n);
        assertArrayEquals(
                expected, Tape.notRecording(frame).run(new Add(ta, tb)).toFloats());
        frame.kernels().add(ta, ta, tb);
        assertArrayEquals(expected, ta.toFloats(), "y is a");
        frame.kernels().add(tb, tensor(dtype, a, n), tb);
        assertArrayEquals(expected, tb.toFloats(), "y is b");
    }

    @ParameterizedTest
    @CsvSource({
        "F32,F32,5",
        "F32,BF16,40",
        "BF16,F32,40",
        "BF16,BF16,40",
        "F32,F32,0",
        "F32,F32,100003",
        "F32,BF16,100003",
        "BF16,F32,100003",
        "BF16,BF16,100003"
    })
    void accumulateRoundsOnce(DType to, DType from, int n) {
        float[] y = values(5, to, n);
        float[] x = values(6, from, n);
        Tensor sum = tensor(to, y, n);
        frame.kernels().accumulate(sum, tensor(from, x, n));
        for (int i = 0; i < n; i++) {
            y[i] += x[i];
        }
        assertArrayEquals(rounded(y, to), sum.toFloats());
    }

    @Test
    void wholeNumbersAreRefused() {
        Tensor whole = frame.of(new int[] {1, 2}, 2);
        Tensor y = frame.empty(DType.F32, 2);
        var error = assertThrows(
                IllegalArgumentException.class, () -> frame.kernels().convert(y, whole, 1));
        assertTrue(error.getMessage().contains("[convert]"), error.getMessage());
        assertThrows(IllegalArgumentException.class, () -> frame.kernels().accumulate(y, whole));
        assertThrows(IllegalArgumentException.class, () -> frame.kernels().add(whole, whole, whole));
    }

    @Test
    void addGradientMatchesDifferences() {
        checkGradients(
                in -> new Add(in.get(0), in.get(1)),
                List.of(random(7, DType.F32, 12), random(8, DType.F32, 12)),
                List.of(new long[] {3, 4}, new long[] {3, 4}),
                0,
                1);
    }

    /** Both inputs being one tensor, the gradient arrives twice. */
    @Test
    void addToItselfDoublesTheGradient() {
        Tensor x = frame.of(random(9, DType.F32, 6), 6);
        float[] r = random(10, DType.F32, 6);
        try (var step = frame.child("step");
                Gradients grads = new Gradients(step, List.of(x))) {
            Tape tape = Tape.recording(step, List.of(x));
            Tensor y = tape.run(new Add(x, x));
            tape.backward(tape.run(new Dot(y, step.of(r, 6))), grads);
            float[] dx = grads.of(x).toFloats();
            for (int i = 0; i < 6; i++) {
                assertEquals(2 * r[i], dx[i]);
            }
        }
    }

    @Test
    void addNamesBothShapes() {
        Tensor a = frame.empty(DType.F32, 2, 3);
        Tensor b = frame.empty(DType.F32, 3, 2);
        var error = assertThrows(IllegalArgumentException.class, () -> new Add(a, b));
        assertTrue(error.getMessage().contains("[3, 2]") && error.getMessage().contains("[2, 3]"), error.getMessage());
        assertThrows(IllegalArgumentException.class, () -> new Add(a, frame.empty(DType.BF16, 2, 3)));
        Tensor ids = frame.empty(DType.I32, 2, 3);
        assertThrows(IllegalArgumentException.class, () -> new Add(ids, ids));
    }
}
