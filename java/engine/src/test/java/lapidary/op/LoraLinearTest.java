package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
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
@MethodSource("lapidary.Devices#kernels")
final class LoraLinearTest extends OpTest {
    private static final float[] NOTHING = {};
    private static final long SEED = 42;
    private static final long STREAM = 7;

    LoraLinearTest(Device device) {
        super(device);
    }

    private LoraLinear.Adapter adapter(Tensor a, Tensor b, float scaling, float dropout) {
        return new LoraLinear.Adapter(a, b, scaling, dropout, SEED, STREAM);
    }

    /** x with the elements left out that (SEED, STREAM) leaves out. */
    private float[] dropped(float[] x, float p) {
        float[] ones = new float[x.length];
        Arrays.fill(ones, 1);
        Tensor mask = frame.of(ones, x.length);
        if (p > 0) {
            frame.kernels().dropout(mask, mask, p, SEED, STREAM);
        }
        float[] y = mask.toFloats().clone();
        for (int i = 0; i < y.length; i++) {
            y[i] *= x[i];
        }
        return y;
    }

    private static double[] reference(
            int rows,
            int in,
            int out,
            int rank,
            float[] x,
            float[] xd,
            float[] w,
            float[] bias,
            float[] a,
            float[] b,
            double scaling) {
        double[] base = GemmReference.multiply(rows, out, in, x, false, w, true, bias, 1, NOTHING);
        double[] down = GemmReference.multiply(rows, rank, in, xd, false, a, true, NOTHING, 1, NOTHING);
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < out; j++) {
                for (int l = 0; l < rank; l++) {
                    base[i * out + j] += scaling * down[i * rank + l] * b[j * rank + l];
                }
            }
        }
        return base;
    }

    @ParameterizedTest
    @CsvSource({
        "F32,F32,1,1,1,1,1,0",
        "F32,F32,5,31,17,3,0.5,0",
        "F32,F32,70,64,40,16,2,0.25",
        "BF16,F32,3,40,24,8,1,0",
        "BF16,F32,77,160,200,16,0.3,0.05",
        "BF16,BF16,77,160,200,16,2,0",
        "F32,BF16,9,16,24,4,1,0.5"
    })
    void matchesReference(
            DType dtype, DType master, int rows, int in, int out, int rank, float scaling, float dropout) {
        float[] x = random(1, dtype, rows * in);
        float[] w = random(2, dtype, out * in);
        float[] bias = random(3, dtype, out);
        float[] a = random(4, master, rank * in);
        float[] b = random(5, master, out * rank);
        Tensor y = Tape.notRecording(frame)
                .run(new LoraLinear(
                        tensor(dtype, x, rows, in),
                        tensor(dtype, w, out, in),
                        tensor(dtype, bias, out),
                        adapter(tensor(master, a, rank, in), tensor(master, b, out, rank), scaling, dropout)));
        double[] expected = reference(rows, in, out, rank, x, dropped(x, dropout), w, bias, a, b, scaling);
        // The inner values are rounded too: terms of sqrt(in), sqrt(rank) of them, each off by its own rounding.
        double inner = Math.sqrt((double) in * rank) * Math.max(1, scaling);
        double tolerance = tolerance(dtype, in) * (dtype == DType.BF16 ? 3 : 1);
        assertClose(expected, y.toFloats(), tolerance, inner, "lora_linear");
    }

    @ParameterizedTest
    @CsvSource({"1,1,1,1,1,0", "3,31,7,2,0.5,0", "70,9,20,4,1.5,0.3"})
    void gradientMatchesDifferences(int rows, int in, int out, int rank, float scaling, float dropout) {
        checkGradients(
                t -> new LoraLinear(t.get(0), t.get(1), t.get(2), adapter(t.get(3), t.get(4), scaling, dropout)),
                List.of(
                        random(6, DType.F32, rows * in),
                        random(7, DType.F32, out * in),
                        random(8, DType.F32, out),
                        random(9, DType.F32, rank * in),
                        random(10, DType.F32, out * rank)),
                List.of(
                        new long[] {rows, in},
                        new long[] {out, in},
                        new long[] {out},
                        new long[] {rank, in},
                        new long[] {out, rank}),
                0,
                3,
                4);
    }

    /** BF16 compute with F32 masters: gradients against double ones of the rounded values. */
    @ParameterizedTest
    @CsvSource({"77,160,72,16,1,0", "130,64,200,8,0.5,0.1"})
    void bf16GradientsMatchReference(int rows, int in, int out, int rank, float scaling, float dropout) {
        DType half = DType.BF16;
        float[] x = random(11, half, rows * in);
        float[] w = random(12, half, out * in);
        float[] a = random(13, half, rank * in); // what masters are rounded to
        float[] b = random(14, half, out * rank);
        float[] r = random(15, half, rows * out);
        Tensor ta = frame.of(a, rank, in);
        Tensor tb = frame.of(b, out, rank);
        Tensor tx = tensor(half, x, rows, in);
        float[] da;
        float[] db;
        try (Gradients grads = new Gradients(frame, List.of(ta, tb))) {
            Tape tape = Tape.recording(frame, List.of(ta, tb));
            Tensor y = tape.run(
                    new LoraLinear(tx, tensor(half, w, out, in), Tensor.NONE, adapter(ta, tb, scaling, dropout)));
            tape.backward(tape.run(new Dot(y, frame.of(r, rows, out))), grads);
            assertEquals(2, grads.all().size());
            assertEquals(DType.F32, grads.of(ta).dtype());
            da = grads.of(ta).toFloats().clone();
            db = grads.of(tb).toFloats().clone();
        }
        float[] xd = dropped(x, dropout);
        double[] down = GemmReference.multiply(rows, rank, in, xd, false, a, true, NOTHING, 1, NOTHING);
        double[] expectedB =
                GemmReference.multiply(out, rank, rows, r, true, narrow(down), false, NOTHING, scaling, NOTHING);
        double[] ddown = GemmReference.multiply(rows, rank, out, r, false, b, false, NOTHING, scaling, NOTHING);
        double[] expectedA =
                GemmReference.multiply(rank, in, rows, narrow(ddown), true, xd, false, NOTHING, 1, NOTHING);
        // One BF16 rounding of the saved product in each of the terms: five times the deviation of their sum.
        assertClose(expectedB, db, 0x1p-7, Math.sqrt((double) rows * in), "db");
        assertClose(expectedA, da, 0x1p-7, Math.sqrt((double) rows * out), "da");
    }

    private static float[] narrow(double[] x) {
        float[] y = new float[x.length];
        for (int i = 0; i < y.length; i++) {
            y[i] = (float) x[i];
        }
        return y;
    }

    /** The mask is drawn again in backward, so a second backward pass into the same gradients doubles them exactly. */
    @Test
    void repeatsItsMask() {
        Tensor x = tensor(DType.F32, random(16, DType.F32, 300), 20, 15);
        Tensor w = tensor(DType.F32, random(17, DType.F32, 150), 10, 15);
        Tensor a = frame.of(random(18, DType.F32, 45), 3, 15);
        Tensor b = frame.of(random(19, DType.F32, 30), 10, 3);
        Tensor r = frame.of(random(20, DType.F32, 200), 20, 10);
        float[] once;
        float[] twice;
        try (Gradients grads = new Gradients(frame, List.of(a))) {
            backward(x, w, a, b, r, grads);
            once = grads.of(a).toFloats().clone();
            backward(x, w, a, b, r, grads);
            twice = grads.of(a).toFloats().clone();
        }
        for (int i = 0; i < once.length; i++) {
            once[i] *= 2;
        }
        assertArrayEquals(once, twice, 1e-5f);
    }

    private void backward(Tensor x, Tensor w, Tensor a, Tensor b, Tensor r, Gradients grads) {
        Tape tape = Tape.recording(frame, List.of(a));
        Tensor y = tape.run(new LoraLinear(x, w, Tensor.NONE, adapter(a, b, 1, 0.5f)));
        tape.backward(tape.run(new Dot(y, r)), grads);
    }

    @Test
    void trainedBaseIsRefused() {
        Tensor x = tensor(DType.F32, random(1, DType.F32, 8), 2, 4);
        Tensor w = tensor(DType.F32, random(2, DType.F32, 12), 3, 4);
        Tensor a = tensor(DType.F32, random(3, DType.F32, 4), 1, 4);
        Tensor b = tensor(DType.F32, random(4, DType.F32, 3), 3, 1);
        try (Gradients grads = new Gradients(frame, List.of(a, w))) {
            Tape tape = Tape.recording(frame, List.of(a, w));
            Tensor y = tape.run(new LoraLinear(x, w, Tensor.NONE, adapter(a, b, 1, 0)));
            Tensor loss = tape.run(new Dot(y, frame.of(new float[6], 2, 3)));
            var error = assertThrows(IllegalStateException.class, () -> tape.backward(loss, grads));
            assertTrue(error.getMessage().contains("[3, 4]"), error.getMessage());
        }
    }

    @Test
    void mistakesNameBothShapes() {
        Tensor x = frame.empty(DType.F32, 4, 8);
        Tensor w = frame.empty(DType.F32, 6, 8);
        Tensor a = frame.empty(DType.F32, 2, 8);
        Tensor b = frame.empty(DType.F32, 6, 2);
        LinearTest.mistake(() -> adapter(a, frame.empty(DType.F32, 6, 3), 1, 0), "[2, 8]", "[6, 3]");
        LinearTest.mistake(() -> adapter(a, b, 1, 1), "1.0");
        LinearTest.mistake(() -> adapter(a, b, 1, Float.NaN), "NaN");
        LinearTest.mistake(
                () -> new LoraLinear(x, frame.empty(DType.F32, 6, 9), Tensor.NONE, adapter(a, b, 1, 0)), "[4, 8]", "9");
        LinearTest.mistake(
                () -> new LoraLinear(x, w, Tensor.NONE, adapter(frame.empty(DType.F32, 2, 7), b, 1, 0)), "[2, 7]", "8");
        LinearTest.mistake(
                () -> new LoraLinear(x, w, Tensor.NONE, adapter(a, frame.empty(DType.F32, 5, 2), 1, 0)),
                "[5, 2]",
                "[6, 2]");
    }
}
