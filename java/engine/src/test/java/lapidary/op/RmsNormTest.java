package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.function.BiFunction;
import lapidary.autograd.Gradients;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class RmsNormTest extends OpTest {
    private static final float EPS = 1e-6f;

    RmsNormTest(Device device) {
        super(device);
    }

    @ParameterizedTest
    @CsvSource({
        "F32,1,1",
        "F32,3,31",
        "F32,4,2560",
        "F32,2,4099",
        "F32,300,257",
        "BF16,1,1",
        "BF16,3,31",
        "BF16,700,640"
    })
    void matchesReference(DType dtype, int rows, int cols) {
        float[] x = random(1, dtype, rows * cols);
        float[] w = random(2, dtype, cols);
        Tensor y = Tape.notRecording(frame).run(new RmsNorm(tensor(dtype, x, rows, cols), tensor(dtype, w, cols), EPS));
        assertClose(Reference.rmsNorm(widen(x), widen(w), EPS), y.toFloats(), tolerance(dtype, cols), 1e-3, "rms_norm");
    }

    /** Rows whose mean square is that of eps and less, zero among them. */
    @Test
    void epsilonCountsInSmallRows() {
        float[] x = random(5, DType.F32, 4 * 33);
        for (int i = 0; i < x.length; i++) {
            x[i] *= i / 33 * 4e-4f;
        }
        float[] w = random(6, DType.F32, 33);
        Tensor y = Tape.notRecording(frame).run(new RmsNorm(frame.of(x, 4, 33), frame.of(w, 33), EPS));
        assertClose(
                Reference.rmsNorm(widen(x), widen(w), EPS), y.toFloats(), tolerance(DType.F32, 33), 1e-3, "rms_norm");
    }

    @ParameterizedTest
    @CsvSource({"1,1", "3,31", "5,130"})
    void gradientMatchesDifferences(int rows, int cols) {
        checkGradients(
                in -> new RmsNorm(in.get(0), in.get(1), EPS),
                List.of(random(3, DType.F32, rows * cols), random(4, DType.F32, cols)),
                List.of(new long[] {rows, cols}, new long[] {cols}),
                0,
                1);
    }

    /** A sum is the norm's kernel and then the one that adds, bit for bit; forward without an output has the same rstd. */
    @ParameterizedTest
    @CsvSource({"F32,1,1", "F32,3,31", "F32,4,2560", "F32,30,257", "BF16,1,1", "BF16,3,31", "BF16,90,640", "BF16,2,2561"
    })
    void sumsAreTheNormAndThenTheSum(DType dtype, int rows, int cols) {
        Tensor x = tensor(dtype, random(1, dtype, rows * cols), rows, cols);
        Tensor w = tensor(dtype, random(2, dtype, cols), cols);
        Tensor residual = tensor(dtype, random(3, dtype, rows * cols), rows, cols);
        Tensor n = frame.emptyLike(x);
        Tensor y = frame.emptyLike(x);
        Tensor[] rstd = {frame.empty(DType.F32, rows), frame.empty(DType.F32, rows), frame.empty(DType.F32, rows)};
        frame.kernels().rmsNormForward(n, rstd[0], x, w, EPS);
        frame.kernels().rmsNormForward(Tensor.NONE, rstd[1], x, w, EPS);
        frame.kernels().rmsNormAddForward(y, rstd[2], x, w, residual, EPS);
        frame.kernels().add(n, n, residual);
        assertArrayEquals(n.toFloats(), y.toFloats());
        assertArrayEquals(rstd[0].toFloats(), rstd[1].toFloats(), "rstd alone");
        assertArrayEquals(rstd[0].toFloats(), rstd[2].toFloats(), "rstd");

        Tensor dy = tensor(dtype, random(4, dtype, rows * cols), rows, cols);
        Tensor dx = frame.emptyLike(x);
        Tensor sum = frame.emptyLike(x);
        frame.kernels().convert(sum, residual, 1);
        frame.kernels().rmsNormBackward(dx, Tensor.NONE, dy, x, w, rstd[0], false);
        frame.kernels().rmsNormBackward(sum, Tensor.NONE, dy, x, w, rstd[0], true);
        frame.kernels().accumulate(residual, dx);
        assertArrayEquals(residual.toFloats(), sum.toFloats(), "dx");
    }

    /** Each operand in turn at an address that is no multiple of 16 bytes: the same bits. */
    @ParameterizedTest
    @CsvSource({"F32,40", "BF16,40", "BF16,1040"})
    void operandsMayBeginAnywhere(DType dtype, int cols) {
        Tensor x = tensor(dtype, random(1, dtype, 3 * cols), 3, cols);
        Tensor w = tensor(dtype, random(2, dtype, cols), cols);
        List<float[]> expected = new ArrayList<>();
        for (int odd = 0; odd <= 8; odd++) {
            Tensor y = shifted(odd == 1, frame.zeros(dtype, 3, cols));
            Tensor sx = shifted(odd == 2, x);
            Tensor sw = shifted(odd == 3, w);
            Tensor dx = shifted(odd == 5, frame.zeros(dtype, 3, cols));
            Tensor rstd = shifted(odd == 7, frame.zeros(DType.F32, 3));
            Tensor dw = shifted(odd == 8, frame.zeros(DType.F32, cols));
            frame.kernels().rmsNormAddForward(y, rstd, sx, sw, shifted(odd == 4, x), EPS);
            frame.kernels().rmsNormBackward(dx, dw, shifted(odd == 6, x), sx, sw, rstd, true);
            List<Tensor> actual = List.of(y, dx, rstd, dw);
            for (int i = 0; i < actual.size(); i++) {
                if (odd == 0) {
                    expected.add(actual.get(i).toFloats());
                }
                assertArrayEquals(expected.get(i), actual.get(i).toFloats(), "result " + i + ", operand " + odd);
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"F32,3,31", "F32,4,2560", "BF16,3,31", "BF16,90,640"})
    void aResidualIsAdded(DType dtype, int rows, int cols) {
        float[] x = random(1, dtype, rows * cols);
        float[] w = random(2, dtype, cols);
        float[] residual = random(3, dtype, rows * cols);
        Tensor y = Tape.notRecording(frame)
                .run(new RmsNormAdd(
                        tensor(dtype, residual, rows, cols),
                        tensor(dtype, x, rows, cols),
                        tensor(dtype, w, cols),
                        EPS));
        double[] expected = Reference.rmsNorm(widen(x), widen(w), EPS);
        for (int i = 0; i < expected.length; i++) {
            expected[i] += residual[i];
        }
        // What is normalised is rounded before the sum is: its size counts, which here is up to a few of the sum's.
        assertClose(expected, y.toFloats(), 2 * tolerance(dtype, cols), 8, "rms_norm_add");
    }

    @ParameterizedTest
    @CsvSource({"1,1", "3,31", "5,130"})
    void gradientOfASumMatchesDifferences(int rows, int cols) {
        checkGradients(
                in -> new RmsNormAdd(in.get(2), in.get(0), in.get(1), EPS),
                List.of(
                        random(3, DType.F32, rows * cols),
                        random(4, DType.F32, cols),
                        random(5, DType.F32, rows * cols)),
                List.of(new long[] {rows, cols}, new long[] {cols}, new long[] {rows, cols}),
                0,
                1,
                2);
    }

    /** A norm's gradient joins what its input has from a residual. */
    @ParameterizedTest
    @CsvSource({"F32,false", "BF16,false", "F32,true", "BF16,true"})
    void gradientJoinsTheResiduals(DType dtype, boolean checkpointed) {
        Tensor x = tensor(dtype, random(6, dtype, 6 * 16), 6, 16);
        Tensor w = tensor(dtype, random(7, dtype, 16), 16);
        float[] r = random(8, DType.F32, 6 * 16);
        List<float[]> found = new ArrayList<>();
        for (boolean fused : new boolean[] {true, false}) {
            try (Frame step = frame.child("step");
                    Gradients grads = new Gradients(step, List.of(x))) {
                Tape tape = Tape.recording(step.child("tape"), List.of(x));
                BiFunction<Tape, Tensor, Tensor> block = (t, in) -> {
                    Tensor h = t.run(new Add(in, in)); // a residual's own gradient
                    Tensor n = t.run(new RmsNorm(h, w, EPS));
                    return fused
                            ? t.run(new RmsNormAdd(h, n, w, EPS))
                            : t.run(new Add(h, t.run(new RmsNorm(n, w, EPS))));
                };
                Tensor y = checkpointed ? tape.checkpoint("block", x, List.of(), block) : block.apply(tape, x);
                tape.backward(tape.run(new Dot(y, step.of(r, 6, 16))), grads);
                found.add(y.toFloats());
                found.add(grads.of(x).toFloats());
                tape.frame().close();
            }
        }
        assertArrayEquals(found.get(2), found.get(0), "y");
        assertArrayEquals(found.get(3), found.get(1), "dx");
    }

    @Test
    void aSumOfUnlikeTensorsIsRefused() {
        Tensor x = frame.empty(DType.F32, 4, 8);
        Tensor w = frame.empty(DType.F32, 8);
        assertThrows(IllegalArgumentException.class, () -> new RmsNormAdd(frame.empty(DType.F32, 4, 7), x, w, EPS));
        assertThrows(IllegalArgumentException.class, () -> new RmsNormAdd(frame.empty(DType.BF16, 4, 8), x, w, EPS));
        assertThrows(IllegalArgumentException.class, () -> new RmsNormAdd(x, x, frame.empty(DType.F32, 4), EPS));
    }

    @Test
    void badWeightNamesBothShapes() {
        Tensor x = frame.empty(DType.F32, 4, 8);
        Tensor w = frame.empty(DType.F32, 7);
        var error = assertThrows(IllegalArgumentException.class, () -> new RmsNorm(x, w, EPS));
        assertTrue(error.getMessage().contains("[7]") && error.getMessage().contains("[8]"), error.getMessage());
    }
}
