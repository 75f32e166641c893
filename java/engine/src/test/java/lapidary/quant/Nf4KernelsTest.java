package lapidary.quant;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import lapidary.DeviceTest;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.Nf4Operand;
import lapidary.format.Safetensors;
import lapidary.format.TensorEntry;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The NF4 kernels against what bitsandbytes made (bench/reference/nf4_golden.py), and against plain loops. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#levels")
final class Nf4KernelsTest extends DeviceTest {
    private static final Safetensors GOLDEN =
            Safetensors.open(Path.of("src/test/resources/lapidary/quant/nf4.safetensors"));

    Nf4KernelsTest(Device device) {
        super(device);
    }

    static Stream<String> goldenCases() {
        return GOLDEN.names().stream()
                .filter(name -> name.endsWith("/x"))
                .map(name -> name.substring(0, name.length() - 2));
    }

    private static byte[] golden(String name) {
        return GOLDEN.entry(name).data().toArray(ValueLayout.JAVA_BYTE);
    }

    private Tensor load(String name) {
        TensorEntry entry = GOLDEN.entry(name);
        return frame.upload(entry.data(), DType.valueOf(entry.dtype()), Shape.of(entry.shape()));
    }

    private static byte[] bytes(Tensor x) {
        return x.toHost().toArray(ValueLayout.JAVA_BYTE);
    }

    /** Codes and scales of n quantised values. */
    private record Quantised(
            long n, Tensor packed, Tensor absmax, Tensor codes, Tensor nestedAbsmax, Tensor offset, Tensor map) {
        Nf4Operand plain() {
            return new Nf4Operand(packed, absmax, Tensor.NONE, Tensor.NONE, Tensor.NONE, 0, 1, n);
        }

        Nf4Operand nested() {
            return new Nf4Operand(packed, Tensor.NONE, codes, nestedAbsmax, map, offset.item(), 1, n);
        }
    }

    private Quantised quantise(Tensor x, DType weightDtype) {
        long n = x.elements();
        long blocks = Nf4Operand.blocks(n);
        Quantised q = new Quantised(
                n,
                frame.empty(DType.U8, Nf4Operand.packedBytes(n)),
                frame.empty(DType.F32, blocks),
                frame.empty(DType.U8, blocks),
                frame.empty(DType.F32, Nf4Operand.nestedBlocks(n)),
                frame.empty(DType.F32, 1),
                load("map"));
        frame.kernels().nf4Quantize(q.packed, q.absmax, x, weightDtype);
        frame.kernels().nf4QuantizeAbsmax(q.codes, q.nestedAbsmax, q.offset, q.absmax, q.map);
        return q;
    }

    /** What is said when it is quantised or when the result is read: a GPU finds a value out after the call has returned. */
    private String refusal(Tensor x, DType weightDtype) {
        return assertThrows(IllegalArgumentException.class, () -> bytes(quantise(x, weightDtype).packed))
                .getMessage();
    }

    private byte[] dequantise(Nf4Operand w, DType dtype, long first, long count) {
        // With zeros on both sides, which must stay.
        Tensor around = frame.zeros(dtype, count + 256);
        Tensor y = around.slice(128, 128 + count);
        frame.kernels().nf4Dequantize(y, w, first);
        byte[] before = bytes(around.slice(0, 128));
        assertArrayEquals(new byte[before.length], before, "written before the range");
        assertArrayEquals(new byte[before.length], bytes(around.slice(128 + count, 256 + count)), "written behind it");
        return bytes(y);
    }

    @ParameterizedTest
    @MethodSource("goldenCases")
    void equalsBitsandbytes(String name) {
        DType weightDtype = name.endsWith("/bf16") ? DType.BF16 : DType.F32;
        Tensor x = load(name + "/x");
        Quantised q = quantise(x, weightDtype);
        assertArrayEquals(golden(name + "/packed"), bytes(q.packed), "packed");
        assertArrayEquals(golden(name + "/absmax"), bytes(q.absmax), "absmax");
        assertArrayEquals(golden(name + "/offset"), bytes(q.offset), "offset");
        assertArrayEquals(golden(name + "/codes"), bytes(q.codes), "absmax codes");
        assertArrayEquals(golden(name + "/nested_absmax"), bytes(q.nestedAbsmax), "nested absmax");
        long n = x.elements();
        assertArrayEquals(golden(name + "/f32"), dequantise(q.plain(), DType.F32, 0, n), "F32");
        assertArrayEquals(golden(name + "/nested_f32"), dequantise(q.nested(), DType.F32, 0, n), "nested F32");
        assertArrayEquals(golden(name + "/nested_bf16"), dequantise(q.nested(), DType.BF16, 0, n), "nested BF16");
    }

    @Test
    void theCodesAreThoseOfBitsandbytes() {
        assertArrayEquals(Nf4Reference.CODE, load("code").toFloats());
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 63, 64, 65, 127, 128, 129, 12912, 100003, 400000})
    void equalsPlainLoops(int n) {
        float[] x = random(n, n);
        Quantised q = quantise(frame.of(x, n), DType.F32);
        float[] absmax = new float[(n + 63) / 64];
        assertArrayEquals(Nf4Reference.pack(Nf4Reference.codes(x, Nf4Reference.CODE, 64, absmax)), bytes(q.packed));
        assertArrayEquals(absmax, q.absmax.toFloats());
        float offset = q.offset.item();
        double mean = 0;
        for (float a : absmax) {
            mean += (double) a / absmax.length;
        }
        assertEquals(mean, offset, 1e-6 * Math.abs(mean), "offset");
        float[] differences = new float[absmax.length];
        for (int i = 0; i < absmax.length; i++) {
            differences[i] = absmax[i] - offset;
        }
        float[] nested = new float[(absmax.length + 255) / 256];
        float[] map = q.map.toFloats();
        byte[] codes = Nf4Reference.codes(differences, map, 256, nested);
        assertArrayEquals(codes, bytes(q.codes));
        assertArrayEquals(nested, q.nestedAbsmax.toFloats());

        Tensor scales = frame.empty(DType.F32, absmax.length);
        frame.kernels().nf4Scales(scales, q.plain(), 0);
        assertArrayEquals(absmax, scales.toFloats());
        frame.kernels().nf4Scales(scales, q.nested(), 0);
        float[] restored = scales.toFloats();
        for (int i = 0; i < restored.length; i++) {
            float product = map[codes[i] & 0xff] * nested[i / 256];
            assertEquals(product + offset, restored[i], "scale " + i);
        }
    }

    @Test
    void aShortBlockOfScalesDivides() {
        // With seed 10441 one value falls on another side of a midpoint when it is multiplied by the reciprocal.
        int n = 255;
        float[] map = load("map").toFloats();
        for (int seed = 10400; seed < 10500; seed++) {
            try (Frame scratch = frame.child("seed")) {
                float[] absmax = random(seed, n);
                Tensor codes = scratch.empty(DType.U8, n);
                Tensor nested = scratch.empty(DType.F32, 1);
                Tensor offset = scratch.empty(DType.F32, 1);
                frame.kernels().nf4QuantizeAbsmax(codes, nested, offset, scratch.of(absmax, n), scratch.of(map, 256));
                float[] differences = new float[n];
                for (int i = 0; i < n; i++) {
                    differences[i] = absmax[i] - offset.item();
                }
                float[] expected = new float[1];
                assertArrayEquals(Nf4Reference.codes(differences, map, 256, expected), bytes(codes), "seed " + seed);
                assertEquals(expected[0], nested.item());
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"F32,F32", "F32,BF16", "BF16,BF16", "BF16,F32"})
    void piecesEqualTheWhole(DType dtype, DType weightDtype) {
        int n = 64 * 700 + 31;
        Tensor x = frame.empty(dtype, n);
        frame.kernels().convert(x, frame.of(random(7, n), n), 1);
        Quantised whole = quantise(x, weightDtype);
        Tensor packed = frame.empty(DType.U8, Nf4Operand.packedBytes(n));
        Tensor absmax = frame.empty(DType.F32, Nf4Operand.blocks(n));
        int step = 64 * 129;
        for (int from = 0; from < n; from += step) {
            int to = Math.min(n, from + step);
            frame.kernels()
                    .nf4Quantize(
                            packed.slice(from / 2, (to + 1) / 2),
                            absmax.slice(from / 64, (to + 63) / 64),
                            x.slice(from, to),
                            weightDtype);
        }
        assertArrayEquals(bytes(whole.packed), bytes(packed));
        assertArrayEquals(bytes(whole.absmax), bytes(absmax));
    }

    @ParameterizedTest
    @CsvSource({"F32,4", "BF16,2"})
    void anyRangeIsThatPartOfTheWhole(DType dtype, int size) {
        int n = 64 * 600 + 22;
        Quantised q = quantise(frame.of(random(8, n), n), DType.F32);
        for (Nf4Operand w : List.of(q.plain(), q.nested())) {
            byte[] whole = dequantise(w, dtype, 0, n);
            Random random = new Random(9);
            for (int i = 0; i < 60; i++) {
                int first = random.nextInt(n + 1);
                int count = i % 2 == 0 ? random.nextInt(n - first + 1) : Math.min(n - first, random.nextInt(140));
                assertArrayEquals(
                        Arrays.copyOfRange(whole, first * size, (first + count) * size),
                        dequantise(w, dtype, first, count),
                        count + " from " + first);
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"F32,NaN,5", "F32,Infinity,100", "F32,-Infinity,129", "BF16,NaN,64", "BF16,Infinity,0"})
    void refusesWhatIsNotFinite(DType dtype, float value, int at) {
        float[] x = random(10, 130);
        x[at] = value;
        Tensor t = frame.empty(dtype, 130);
        frame.kernels().convert(t, frame.of(x, 130), 1);
        String refusal = refusal(t, DType.BF16);
        assertTrue(refusal.contains("value " + at + " is"), refusal);
    }

    @Test
    void refusesWhatOverflowsTheWeightsDtype() {
        Tensor x = frame.of(new float[] {1, Float.MAX_VALUE}, 2);
        String refusal = refusal(x, DType.BF16);
        assertTrue(refusal.contains("too large"), refusal);
    }

    @Test
    void refusesMaximaWithoutAMean() {
        float[] x = new float[64 * 9];
        Arrays.fill(x, 3e38f);
        String refusal = refusal(frame.of(x, x.length), DType.F32);
        assertTrue(refusal.contains("mean"), refusal);
    }

    @Test
    void refusesOperandsOfAnotherLength() {
        Tensor x = frame.of(random(1, 130), 130);
        Tensor packed = frame.empty(DType.U8, 65);
        Tensor absmax = frame.empty(DType.F32, 2);
        var error = assertThrows(
                IllegalArgumentException.class, () -> frame.kernels().nf4Quantize(packed, absmax, x, DType.F32));
        assertTrue(error.getMessage().contains("absmax") && error.getMessage().contains("F32 [3]"), error.getMessage());
        Quantised q = quantise(x, DType.F32);
        Tensor y = frame.empty(DType.F32, 10);
        assertThrows(IllegalArgumentException.class, () -> frame.kernels().nf4Dequantize(y, q.plain(), 121));
        assertThrows(IllegalArgumentException.class, () -> frame.kernels().nf4Dequantize(y, q.plain(), -1));
        assertThrows(
                IllegalArgumentException.class,
                () -> new Nf4Operand(q.packed, q.absmax, Tensor.NONE, Tensor.NONE, Tensor.NONE, 0, 2, 66));
        assertThrows(
                IllegalArgumentException.class,
                () -> new Nf4Operand(q.packed, q.absmax, q.codes, q.nestedAbsmax, q.map, 0, 2, 65));
        assertThrows(
                IllegalArgumentException.class,
                () -> new Nf4Operand(q.packed, Tensor.NONE, q.codes, q.nestedAbsmax, Tensor.NONE, 0, 2, 65));
    }

    @Test
    void halfPrecisionIsReadExactly() {
        // Every finite half, each beside a larger one, so that no value is lost to the block's scale: compare with F32.
        short[] halves = new short[2 * 0x7c00];
        float[] floats = new float[halves.length];
        for (int i = 0; i < halves.length; i++) {
            halves[i] = (short) (i % 2 == 0 ? i / 2 : 0x8000 | i / 2);
            floats[i] = Float.float16ToFloat(halves[i]);
        }
        Tensor half = frame.upload(MemorySegment.ofArray(halves), DType.F16, Shape.of(halves.length));
        Quantised fromHalf = quantise(half, DType.F32);
        Quantised fromFloat = quantise(frame.of(floats, floats.length), DType.F32);
        assertArrayEquals(bytes(fromFloat.packed), bytes(fromHalf.packed));
        assertArrayEquals(bytes(fromFloat.absmax), bytes(fromHalf.absmax));
    }

    private static float[] random(int seed, int n) {
        Random random = new Random(seed);
        float[] x = new float[n];
        for (int i = 0; i < n; i++) {
            x[i] = (float) (0.03 * random.nextGaussian());
        }
        return x;
    }
}
