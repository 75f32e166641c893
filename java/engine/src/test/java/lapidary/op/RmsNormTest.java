package lapidary.op;

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

    @Test
    void badWeightNamesBothShapes() {
        Tensor x = frame.empty(DType.F32, 4, 8);
        Tensor w = frame.empty(DType.F32, 7);
        var error = assertThrows(IllegalArgumentException.class, () -> new RmsNorm(x, w, EPS));
        assertTrue(error.getMessage().contains("[7]") && error.getMessage().contains("[8]"), error.getMessage());
    }
}
