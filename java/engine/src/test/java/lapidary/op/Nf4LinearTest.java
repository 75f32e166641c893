package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Random;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.Nf4Operand;
import lapidary.quant.Nf4Tensor;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** The oracle multiplies by the values that {@code nf4_dequantize} gives, which has an oracle of its own. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class Nf4LinearTest extends OpTest {
    private static final float[] NOTHING = {};

    Nf4LinearTest(Device device) {
        super(device);
    }

    /** A matrix of random codes, its scales near 0.01. */
    private Nf4Tensor matrix(int seed, boolean nested, int out, int in) {
        Random random = new Random(seed);
        int n = out * in;
        Tensor packed = bytes(random, Math.toIntExact(Nf4Operand.packedBytes(n)));
        float[] scales = new float[Math.toIntExact(nested ? Nf4Operand.nestedBlocks(n) : Nf4Operand.blocks(n))];
        for (int i = 0; i < scales.length; i++) {
            scales[i] = 0.005f + 0.01f * random.nextFloat();
        }
        if (!nested) {
            return Nf4Tensor.of(packed, frame.of(scales, scales.length), out, in);
        }
        float[] map = new float[Nf4Operand.NESTED_BLOCK];
        for (int i = 0; i < map.length; i++) {
            map[i] = (i - 127) / 128f;
        }
        Tensor codes = bytes(random, Math.toIntExact(Nf4Operand.blocks(n)));
        return Nf4Tensor.nested(
                packed, codes, frame.of(scales, scales.length), frame.of(map, map.length), 0.02f, out, in);
    }

    private Tensor bytes(Random random, int n) {
        byte[] bytes = new byte[n];
        random.nextBytes(bytes);
        return frame.upload(MemorySegment.ofArray(bytes), DType.U8, Shape.of(n));
    }

    private float[] values(Nf4Tensor w, DType dtype) {
        Tensor y = frame.empty(dtype, w.out(), w.in());
        w.dequantize(y, frame);
        return y.toFloats();
    }

    /** Blocks that cross row ends, odd rows, strips, depths and groups that are not full, more rows than one chunk. */
    @ParameterizedTest
    @CsvSource({
        "1,1,1",
        "1,64,64",
        "3,7,5",
        "33,129,47",
        "17,4304,31",
        "2,515,33",
        "70,1000,100",
        "600,96,40",
        "5,64,700",
        "1,2,300",
        "31,640,64",
        "16,321,16",
        "513,33,65"
    })
    void productsMatchReference(int rows, int in, int out) {
        for (DType dtype : List.of(DType.F32, DType.BF16)) {
            for (boolean nested : new boolean[] {false, true}) {
                String what = dtype + (nested ? " nested" : "");
                Nf4Tensor w = matrix(rows + in, nested, out, in);
                float[] values = values(w, dtype);
                float[] x = random(1, dtype, rows * in);
                float[] b = random(2, dtype, out);
                double scale = Math.sqrt(in) * 0.03;
                Tensor y = frame.empty(dtype, rows, out);
                w.multiply(y, tensor(dtype, x, rows, in), tensor(dtype, b, out), frame);
                double[] expected = GemmReference.multiply(rows, out, in, x, false, values, true, b, 1, NOTHING);
                assertClose(expected, y.toFloats(), tolerance(dtype, in), scale, what);
                w.multiply(y, tensor(dtype, x, rows, in), Tensor.NONE, frame);
                expected = GemmReference.multiply(rows, out, in, x, false, values, true, NOTHING, 1, NOTHING);
                assertClose(expected, y.toFloats(), tolerance(dtype, in), scale, what + " without bias");

                float[] dy = random(3, dtype, rows * out);
                float[] before = random(4, dtype, rows * in);
                double backScale = Math.sqrt(out) * 0.03;
                Tensor dx = tensor(dtype, before, rows, in);
                w.multiplyBackward(dx, tensor(dtype, dy, rows, out), false, frame);
                expected = GemmReference.multiply(rows, in, out, dy, false, values, false, NOTHING, 1, NOTHING);
                assertClose(expected, dx.toFloats(), tolerance(dtype, out), backScale, what + " backward");
                dx = tensor(dtype, before, rows, in);
                w.multiplyBackward(dx, tensor(dtype, dy, rows, out), true, frame);
                expected = GemmReference.multiply(rows, in, out, dy, false, values, false, NOTHING, 1, before);
                assertClose(expected, dx.toFloats(), tolerance(dtype, out), backScale, what + " added up");
            }
        }
    }

    @Test
    void equalInputsGiveEqualBits() {
        Nf4Tensor w = matrix(5, true, 700, 1152);
        Tensor x = tensor(DType.BF16, random(6, DType.BF16, 90 * 1152), 90, 1152);
        Tensor first = Tape.notRecording(frame).run(new Nf4Linear(x, w, Tensor.NONE));
        for (int i = 0; i < 5; i++) {
            Tensor again = Tape.notRecording(frame).run(new Nf4Linear(x, w, Tensor.NONE));
            assertArrayEquals(first.toFloats(), again.toFloats());
        }
    }

    @Test
    void noRowsGiveNone() {
        Nf4Tensor w = matrix(7, false, 5, 6);
        Tensor y = Tape.notRecording(frame).run(new Nf4Linear(frame.empty(DType.F32, 0, 6), w, Tensor.NONE));
        assertArrayEquals(new long[] {0, 5}, y.shape().toArray());
    }

    @ParameterizedTest
    @CsvSource({"1,1,1", "3,31,7", "70,64,20"})
    void gradientMatchesDifferences(int rows, int in, int out) {
        Nf4Tensor w = matrix(8, true, out, in);
        checkGradients(
                t -> new Nf4Linear(t.get(0), w, t.get(1)),
                List.of(random(9, DType.F32, rows * in), random(10, DType.F32, out)),
                List.of(new long[] {rows, in}, new long[] {out}),
                0);
    }

    @Test
    void mistakesNameBothShapes() {
        Nf4Tensor w = matrix(11, false, 6, 8);
        LinearTest.mistake(() -> new Nf4Linear(frame.empty(DType.F32, 4, 7), w, Tensor.NONE), "[4, 7]", "8");
        Tensor x = frame.empty(DType.F32, 4, 8);
        LinearTest.mistake(() -> new Nf4Linear(x, w, frame.empty(DType.F32, 5)), "[5]", "6");
        LinearTest.mistake(() -> w.multiply(frame.empty(DType.F32, 4, 5), x, Tensor.NONE, frame), "[4, 5]", "24");
        LinearTest.mistake(() -> w.multiply(frame.empty(DType.BF16, 4, 6), x, Tensor.NONE, frame), "BF16", "F32");
    }
}
