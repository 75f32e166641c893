package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

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

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class LayerNormTest extends OpTest {
    private static final float EPS = 1e-6f;

    LayerNormTest(Device device) {
        super(device);
    }

    /** Rows whose variance is that of eps and less, zero among them. */
    @Test
    void epsilonCountsInSmallRows() {
        float[] x = random(5, DType.F32, 4 * 33);
        for (int i = 0; i < x.length; i++) {
            x[i] *= i / 33 * 4e-4f;
        }
        float[] w = random(6, DType.F32, 33);
        float[] b = random(7, DType.F32, 33);
        Tensor y =
                Tape.notRecording(frame).run(new LayerNorm(frame.of(x, 4, 33), frame.of(w, 33), frame.of(b, 33), EPS));
        double[] expected = LayerNormReference.forward(widen(x), widen(w), widen(b), EPS);
        assertClose(expected, y.toFloats(), tolerance(DType.F32, 33), 1, "layer_norm");
    }

    @ParameterizedTest
    @CsvSource({
        "F32,0,5,0",
        "F32,1,2,0",
        "F32,3,31,0",
        "F32,4,1152,0",
        "F32,300,257,3",
        "BF16,3,31,0",
        "BF16,2,4099,0",
        "BF16,700,1152,1"
    })
    void matchesReference(DType dtype, int rows, int cols, int offset) {
        float[] x = random(1, dtype, rows * cols);
        for (int i = 0; i < x.length; i++) {
            x[i] += offset;
            x[i] = dtype == DType.BF16 ? bf16(x[i]) : x[i];
        }
        float[] w = random(2, dtype, cols);
        float[] b = random(3, dtype, cols);
        float[] dy = random(4, dtype, rows * cols);
        Tensor tx = tensor(dtype, x, rows, cols);
        Tensor tw = tensor(dtype, w, cols);
        Tensor y = Tape.notRecording(frame).run(new LayerNorm(tx, tw, tensor(dtype, b, cols), EPS));
        double scale = 1 + offset;
        assertClose(
                LayerNormReference.forward(widen(x), widen(w), widen(b), EPS),
                y.toFloats(),
                tolerance(dtype, cols),
                cols == 2 ? 10 : scale, // two values apart by little: their distance to the mean cancels
                "layer_norm");

        Tensor mean = frame.empty(DType.F32, rows);
        Tensor rstd = frame.empty(DType.F32, rows);
        frame.kernels().layerNormForward(y, mean, rstd, tx, tw, tensor(dtype, b, cols), EPS);
        Tensor dx = frame.emptyLike(tx);
        Tensor dw = frame.empty(DType.F32, cols);
        Tensor db = frame.empty(DType.F32, cols);
        frame.kernels().layerNormBackward(dx, dw, db, tensor(dtype, dy, rows, cols), tx, tw, mean, rstd);
        double[][] expected = LayerNormReference.backward(widen(dy), widen(x), widen(w), EPS);
        assertClose(expected[0], dx.toFloats(), tolerance(dtype, cols), cols == 2 ? 100 : 4 * scale, "dx");
        assertClose(expected[1], dw.toFloats(), tolerance(DType.F32, rows), scale * Math.sqrt(rows) + 10, "dw");
        assertClose(expected[2], db.toFloats(), tolerance(DType.F32, rows), Math.sqrt(rows), "db");

        // What is left out changes nothing in the rest.
        Tensor again = frame.empty(DType.F32, cols);
        frame.kernels()
                .layerNormBackward(Tensor.NONE, again, Tensor.NONE, tensor(dtype, dy, rows, cols), tx, tw, mean, rstd);
        assertArrayEquals(dw.toFloats(), again.toFloats());
        frame.kernels()
                .layerNormBackward(Tensor.NONE, Tensor.NONE, again, tensor(dtype, dy, rows, cols), tx, tw, mean, rstd);
        assertArrayEquals(db.toFloats(), again.toFloats());
    }

    @ParameterizedTest
    @CsvSource({"1,3", "3,31", "5,130"})
    void gradientMatchesDifferences(int rows, int cols) {
        checkGradients(
                in -> new LayerNorm(in.get(0), in.get(1), in.get(2), EPS),
                List.of(random(5, DType.F32, rows * cols), random(6, DType.F32, cols), random(7, DType.F32, cols)),
                List.of(new long[] {rows, cols}, new long[] {cols}, new long[] {cols}),
                0,
                1,
                2);
    }

    /** A constant row has no variance: the result is the bias, not a NaN. */
    @Test
    void constantRowIsTheBias() {
        Tensor x = frame.of(new float[] {5, 5, 5, 5}, 1, 4);
        Tensor b = frame.of(new float[] {1, 2, 3, 4}, 4);
        Tensor y = Tape.notRecording(frame).run(new LayerNorm(x, frame.of(new float[] {1, 1, 1, 1}, 4), b, EPS));
        assertArrayEquals(new float[] {1, 2, 3, 4}, y.toFloats());
    }

    @Test
    void badWeightNamesBothShapes() {
        Tensor x = frame.empty(DType.F32, 4, 8);
        Tensor good = frame.empty(DType.F32, 8);
        Tensor bad = frame.empty(DType.F32, 7);
        var error = assertThrows(IllegalArgumentException.class, () -> new LayerNorm(x, bad, good, EPS));
        assertEquals("[layer_norm weight] is [7], expected [8]", error.getMessage());
        assertThrows(IllegalArgumentException.class, () -> new LayerNorm(x, good, bad, EPS));
        assertThrows(IllegalArgumentException.class, () -> new LayerNorm(x, good, frame.empty(DType.BF16, 8), EPS));
    }
}
