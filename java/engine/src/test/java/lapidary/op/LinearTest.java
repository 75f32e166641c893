package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
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
import org.junit.jupiter.params.provider.MethodSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#levels")
final class LinearTest extends OpTest {
    private static final float[] NOTHING = {};

    LinearTest(Device device) {
        super(device);
    }

    @ParameterizedTest
    @CsvSource({"F32,1,1,1", "F32,3,31,17", "F32,70,130,65", "BF16,1,8,3", "BF16,77,160,200", "BF16,130,31,33"})
    void matchesReference(DType dtype, int rows, int in, int out) {
        float[] x = random(1, dtype, rows * in);
        float[] w = random(2, dtype, out * in);
        float[] b = random(3, dtype, out);
        Tape tape = Tape.notRecording(frame);
        Tensor tx = tensor(dtype, x, rows, in);
        double scale = Math.sqrt(in);
        double[] expected = GemmReference.multiply(rows, out, in, x, false, w, true, b, 1, NOTHING);
        Tensor y = tape.run(new Linear(tx, tensor(dtype, w, out, in), tensor(dtype, b, out)));
        // In BF16 CUDA may round the product before the bias is added, as Gemm says.
        int roundings = dtype == DType.BF16 && device.name().equals("cuda") ? 2 : 1;
        assertClose(expected, y.toFloats(), roundings * tolerance(dtype, in), scale, "linear");
        expected = GemmReference.multiply(rows, out, in, x, false, w, false, NOTHING, 1, NOTHING);
        y = tape.run(Linear.projection(tx, tensor(dtype, w, in, out)));
        assertClose(expected, y.toFloats(), tolerance(dtype, in), scale, "projection");
    }

    @Test
    void keepsTheAxesBefore() {
        Tensor x = tensor(DType.F32, random(1, DType.F32, 24), 2, 3, 4);
        Tensor w = tensor(DType.F32, random(2, DType.F32, 20), 5, 4);
        Tensor y = Tape.notRecording(frame).run(new Linear(x, w, Tensor.NONE));
        assertArrayEquals(new long[] {2, 3, 5}, y.shape().toArray());
    }

    @ParameterizedTest
    @CsvSource({"1,1,1", "3,31,7", "70,9,20"})
    void gradientMatchesDifferences(int rows, int in, int out) {
        checkGradients(
                t -> new Linear(t.get(0), t.get(1), t.get(2)),
                List.of(random(4, DType.F32, rows * in), random(5, DType.F32, out * in), random(6, DType.F32, out)),
                List.of(new long[] {rows, in}, new long[] {out, in}, new long[] {out}),
                0,
                1,
                2);
        checkGradients(
                t -> Linear.projection(t.get(0), t.get(1)),
                List.of(random(4, DType.F32, rows * in), random(5, DType.F32, out * in)),
                List.of(new long[] {rows, in}, new long[] {in, out}),
                0,
                1);
    }

    /** A weight that is used twice, as a tied one is: the gradients add up. BF16, to see their F32 sum. */
    @Test
    void gradientsOfTwoUsesAddUp() {
        int rows = 40;
        int size = 24;
        float[] x = random(7, DType.BF16, rows * size);
        float[] r = random(8, DType.BF16, rows * size);
        Tensor w = tensor(DType.BF16, random(9, DType.BF16, size * size), size, size);
        double[] once = GemmReference.multiply(size, size, rows, r, true, x, false, NOTHING, 1, NOTHING);
        for (int i = 0; i < once.length; i++) {
            once[i] *= 2;
        }
        try (Gradients grads = new Gradients(frame, List.of(w))) {
            for (int use = 0; use < 2; use++) {
                Tape tape = Tape.recording(frame, List.of(w));
                Tensor y = tape.run(new Linear(tensor(DType.BF16, x, rows, size), w, Tensor.NONE));
                Tensor loss = tape.run(new Dot(y, frame.of(r, rows, size)));
                tape.backward(loss, grads);
            }
            assertClose(once, grads.of(w).toFloats(), tolerance(DType.F32, rows), Math.sqrt(rows), "dw");
        }
    }

    @Test
    void mistakesNameBothShapes() {
        Tensor x = frame.empty(DType.F32, 4, 8);
        Tensor w = frame.empty(DType.F32, 6, 7);
        Tensor fits = frame.empty(DType.F32, 6, 8);
        mistake(() -> new Linear(x, w, Tensor.NONE), "[4, 8]", "[6, 7]");
        mistake(() -> Linear.projection(x, fits), "[4, 8]", "[6, 8]");
        mistake(() -> new Linear(x, fits, frame.empty(DType.F32, 5)), "[5]", "[6]");
        mistake(() -> new Linear(x, frame.empty(DType.BF16, 6, 8), Tensor.NONE), "BF16", "F32");
    }

    static void mistake(org.junit.jupiter.api.function.Executable call, String... parts) {
        var error = assertThrows(IllegalArgumentException.class, call);
        for (String part : parts) {
            assertTrue(error.getMessage().contains(part), error.getMessage());
        }
    }
}
