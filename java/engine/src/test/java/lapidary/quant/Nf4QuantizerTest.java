package lapidary.quant;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import java.util.Random;
import lapidary.DeviceTest;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.Nf4Operand;
import lapidary.format.FormatException;
import lapidary.format.Safetensors;
import lapidary.format.SafetensorsWriter;
import lapidary.format.TensorEntry;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class Nf4QuantizerTest extends DeviceTest {

    @TempDir
    private Path folder;

    Nf4QuantizerTest(Device device) {
        super(device);
    }

    @Test
    void theDynamicMapIsThatOfBitsandbytes() {
        try (Safetensors golden = Safetensors.open(Path.of("src/test/resources/lapidary/quant/nf4.safetensors"))) {
            float[] map = golden.entry("map").data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
            assertArrayEquals(map, DynamicMap.signed());
            assertArrayEquals(golden.entry("code").data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED), Nf4.codes());
        }
    }

    private static MemorySegment values(String dtype, int n) {
        Random random = new Random(n);
        float[] x = new float[n];
        short[] halves = new short[n];
        for (int i = 0; i < n; i++) {
            x[i] = (float) (0.02 * random.nextGaussian());
            halves[i] = dtype.equals("F16") ? Float.floatToFloat16(x[i]) : (short) (Float.floatToIntBits(x[i]) >> 16);
        }
        return dtype.equals("F32") ? MemorySegment.ofArray(x) : MemorySegment.ofArray(halves);
    }

    /** A file of one tensor "w", whose data begin {@code shift} bytes behind a multiple of eight, as old writers' may. */
    private Safetensors file(String dtype, long[] shape, MemorySegment data, int shift) {
        Path path = folder.resolve("t.safetensors");
        if (shift > 0) {
            return shifted(path, dtype, shape, data, shift);
        }
        SafetensorsWriter.write(path, Map.of(), List.of(SafetensorsWriter.Item.of("w", dtype, shape, data)));
        return Safetensors.open(path);
    }

    private static Safetensors shifted(Path path, String dtype, long[] shape, MemorySegment data, int shift) {
        String header = "{\"a\":{\"dtype\":\"U8\",\"shape\":[" + shift + "],\"data_offsets\":[0," + shift
                + "]},\"w\":{\"dtype\":\""
                + dtype + "\",\"shape\":[" + shape[0] + "," + shape[1] + "],\"data_offsets\":[" + shift + ","
                + (shift + data.byteSize()) + "]}}";
        header += " ".repeat(Math.floorMod(-header.length(), 8));
        try (Arena arena = Arena.ofConfined();
                FileChannel out = FileChannel.open(
                        path, StandardOpenOption.CREATE, StandardOpenOption.WRITE, StandardOpenOption.READ)) {
            long start = 8 + header.length();
            MemorySegment whole = out.map(FileChannel.MapMode.READ_WRITE, 0, start + shift + data.byteSize(), arena);
            whole.set(ValueLayout.JAVA_LONG_UNALIGNED, 0, header.length());
            MemorySegment.copy(
                    MemorySegment.ofArray(header.getBytes(StandardCharsets.UTF_8)), 0, whole, 8, header.length());
            MemorySegment.copy(data, 0, whole, start + shift, data.byteSize());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return Safetensors.open(path);
    }

    private static byte[] bytes(Tensor x) {
        return x.isNone() ? new byte[0] : x.toHost().toArray(ValueLayout.JAVA_BYTE);
    }

    /** Equal to the kernels on the whole matrix, though it is longer than a piece; file data at any address. */
    @ParameterizedTest
    @CsvSource({
        "BF16,BF16,true,2100,2001,0",
        "F32,BF16,true,2100,2001,0",
        "F16,F32,false,2100,2001,0",
        "BF16,BF16,true,7,129,1",
        "F32,F32,false,7,129,2",
        "F32,F32,true,7,129,3",
        "F16,BF16,true,64,64,1"
    })
    void equalsTheKernelsOnTheWhole(String dtype, DType weight, boolean nested, int out, int in, int shift) {
        MemorySegment data = values(dtype, out * in);
        try (Safetensors file = file(dtype, new long[] {out, in}, data, shift)) {
            Nf4Tensor w = new Nf4Quantizer(frame, weight, nested).quantize(file.entry("w"));
            long n = (long) out * in;
            Tensor packed = frame.empty(DType.U8, Nf4Operand.packedBytes(n));
            Tensor absmax = frame.empty(DType.F32, Nf4Operand.blocks(n));
            Tensor x = frame.upload(data, DType.valueOf(dtype), Shape.of(out, in));
            frame.kernels().nf4Quantize(packed, absmax, x, weight);
            assertArrayEquals(bytes(packed), bytes(w.packed()));
            assertEquals(nested, w.isNested());
            if (nested) {
                Tensor codes = frame.empty(DType.U8, absmax.elements());
                Tensor nestedAbsmax = frame.empty(DType.F32, Nf4Operand.nestedBlocks(n));
                Tensor offset = frame.empty(DType.F32, 1);
                frame.kernels().nf4QuantizeAbsmax(codes, nestedAbsmax, offset, absmax, w.nestedMap());
                assertArrayEquals(bytes(codes), bytes(w.absmaxCodes()));
                assertArrayEquals(bytes(nestedAbsmax), bytes(w.nestedAbsmax()));
                assertEquals(offset.item(), w.nestedOffset());
            } else {
                assertArrayEquals(bytes(absmax), bytes(w.absmax()));
            }
            assertEquals("NF4 [" + out + ", " + in + "]", w.describe());
            double perValue = (double) w.bytes() / n;
            if (n > 100_000) {
                assertEquals(nested ? 0.516 : 0.5625, perValue, 1e-3, "bytes per value");
            }
        }
    }

    @Test
    void noMoreThanAPieceIsHeldInFullPrecision() {
        int out = 5000;
        int in = 3000;
        try (Safetensors file = file("F32", new long[] {out, in}, values("F32", out * in), 0)) {
            long before = device.pool().inUse();
            long peakBefore = device.pool().peak();
            Nf4Tensor w = new Nf4Quantizer(frame, DType.BF16, true).quantize(file.entry("w"));
            long held = device.pool().inUse() - before;
            assertTrue(held < 0.6 * out * in, held + " bytes are held for " + w.bytes());
            long transientBytes = device.pool().peak() - Math.max(peakBefore, before);
            assertTrue(transientBytes < 0.7 * out * in, transientBytes + " bytes were in use at once");
        }
    }

    @Test
    void refusalsNameFileAndTensor() {
        float[] x = new float[70];
        x[65] = Float.NaN;
        try (Safetensors file = file("F32", new long[] {2, 35}, MemorySegment.ofArray(x), 0)) {
            String message = refused(file.entry("w"));
            assertTrue(
                    message.contains("t.safetensors") && message.contains("\"w\"") && message.contains("value 65 is"),
                    message);
        }
        try (Safetensors file = file("F32", new long[] {70}, MemorySegment.ofArray(new float[70]), 0)) {
            assertTrue(refused(file.entry("w")).contains("expected a matrix"));
        }
        try (Safetensors file = file("I32", new long[] {2, 2}, MemorySegment.ofArray(new int[4]), 0)) {
            assertTrue(refused(file.entry("w")).contains("expected BF16, F16 or F32"));
        }
    }

    private String refused(TensorEntry entry) {
        Nf4Quantizer quantizer = new Nf4Quantizer(frame, DType.BF16, true);
        return assertThrows(FormatException.class, () -> quantizer.quantize(entry))
                .getMessage();
    }

    @Test
    void productsUseTheRestoredMatrix() {
        int out = 37;
        int in = 50;
        int rows = 5;
        try (Safetensors file = file("BF16", new long[] {out, in}, values("BF16", out * in), 0)) {
            Nf4Tensor w = new Nf4Quantizer(frame, DType.BF16, true).quantize(file.entry("w"));
            for (DType dtype : List.of(DType.F32, DType.BF16)) {
                Tensor dense = frame.empty(dtype, out, in);
                w.dequantize(dense, frame);
                DenseWeight same = new DenseWeight(dense);
                Tensor x = convert(dtype, random(1, rows * in), rows, in);
                Tensor dy = convert(dtype, random(2, rows * out), rows, out);
                Tensor bias = convert(dtype, random(3, out), out);
                for (boolean accumulate : new boolean[] {false, true}) {
                    Tensor[] results = new Tensor[4];
                    int i = 0;
                    for (LinearWeight weight : List.of(w, same)) {
                        results[i] = frame.empty(dtype, rows, out);
                        weight.multiply(results[i++], x, accumulate ? bias : Tensor.NONE, frame);
                        results[i] = convert(dtype, random(4, rows * in), rows, in);
                        weight.multiplyBackward(results[i++], dy, accumulate, frame);
                    }
                    assertClose(results[2].toFloats(), results[0].toFloats(), dtype);
                    assertClose(results[3].toFloats(), results[1].toFloats(), dtype);
                }
            }
        }
    }

    /** Sums of 50 terms of size about 0.02: within their rounding. */
    private static void assertClose(float[] expected, float[] actual, DType dtype) {
        assertArrayEquals(expected, actual, dtype == DType.F32 ? 1e-6f : 0x1p-7f);
    }

    private Tensor convert(DType dtype, float[] values, long... shape) {
        Tensor x = frame.empty(dtype, shape);
        frame.kernels().convert(x, frame.of(values, shape), 1);
        return x;
    }

    private static float[] random(int seed, int n) {
        Random random = new Random(seed);
        float[] x = new float[n];
        for (int i = 0; i < n; i++) {
            x[i] = (float) random.nextGaussian();
        }
        return x;
    }
}
