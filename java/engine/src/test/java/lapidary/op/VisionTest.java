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

/** Patch embedding and pooling. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class VisionTest extends OpTest {
    VisionTest(Device device) {
        super(device);
    }

    @ParameterizedTest
    @CsvSource({"F32,0,3,4,2", "F32,1,1,1,1", "F32,2,3,6,2", "F32,1,2,51,17", "BF16,2,3,42,14", "BF16,1,3,224,14"})
    void unfolds(DType dtype, int images, int channels, int size, int patch) {
        float[] pixels = random(1, DType.F32, images * channels * size * size);
        int patches = images * (size / patch) * (size / patch);
        Tensor y = frame.empty(dtype, patches, (long) channels * patch * patch);
        frame.kernels().patchUnfold(y, frame.of(pixels, images, channels, size, size), images, channels, size, patch);
        double[] expected = VisionReference.unfold(widen(pixels), images, channels, size, patch);
        float[] actual = y.toFloats();
        for (int i = 0; i < actual.length; i++) {
            float value = (float) expected[i];
            assertEquals(dtype == DType.BF16 ? bf16(value) : value, actual[i]);
        }
    }

    @ParameterizedTest
    @CsvSource({"F32,1,4,2,3", "F32,2,6,2,17", "BF16,2,28,14,33", "BF16,1,112,14,96"})
    void patchEmbeddingMatchesReference(DType dtype, int images, int size, int patch, int out) {
        int in = 3 * patch * patch;
        int patches = (size / patch) * (size / patch);
        float[] pixels = random(2, dtype, images * 3 * size * size);
        float[] w = random(3, dtype, out * in);
        for (int i = 0; i < w.length; i++) {
            w[i] = w[i] / 16;
        }
        float[] bias = random(4, dtype, out);
        float[] table = random(5, dtype, patches * out);
        Tensor y = Tape.notRecording(frame)
                .run(new PatchEmbedding(
                        frame.of(pixels, images, 3, size, size),
                        tensor(dtype, w, out, in),
                        tensor(dtype, bias, out),
                        tensor(dtype, table, patches, out)));
        assertArrayEquals(new long[] {(long) images * patches, out}, y.shape().toArray());
        // Two roundings in BF16; the first one, of the product, may be of a larger value than the sum.
        assertClose(
                VisionReference.patchEmbedding(widen(pixels), widen(w), widen(bias), widen(table), images, size, patch),
                y.toFloats(),
                2 * tolerance(dtype, in),
                3,
                "patch_embedding");
    }

    @Test
    void patchEmbeddingGradientsMatchDifferences() {
        Tensor pixels = frame.of(random(6, DType.F32, 2 * 3 * 6 * 6), 2, 3, 6, 6);
        checkGradients(
                in -> new PatchEmbedding(pixels, in.get(0), in.get(1), in.get(2)),
                List.of(random(7, DType.F32, 5 * 12), random(8, DType.F32, 5), random(9, DType.F32, 9 * 5)),
                List.of(new long[] {5, 12}, new long[] {5}, new long[] {9, 5}),
                0,
                1,
                2);
    }

    @ParameterizedTest
    @CsvSource({
        "F32,0,4,2,3",
        "F32,1,1,1,1",
        "F32,2,6,2,31",
        "F32,1,7,3,5",
        "F32,1,8,4,2100",
        "BF16,2,16,4,96",
        "BF16,1,64,4,129",
        "BF16,1,9,2,40"
    })
    void averagePoolMatchesReference(DType dtype, int images, int side, int kernel, int cols) {
        float[] x = random(10, dtype, images * side * side * cols);
        Tensor tx = tensor(dtype, x, (long) images * side * side, cols);
        Tensor y = Tape.notRecording(frame).run(new AveragePool(tx, images, side, kernel));
        double[] expected = VisionReference.averagePool(widen(x), images, side, kernel, cols);
        assertClose(expected, y.toFloats(), tolerance(dtype, 1), 1, "average_pool");

        int out = side / kernel;
        float[] dy = random(11, dtype, images * out * out * cols);
        Tensor dx = frame.emptyLike(tx);
        frame.kernels().averagePoolBackward(dx, tensor(dtype, dy, images * out * out, cols), images, side, kernel);
        float[] actual = dx.toFloats();
        for (int i = 0; i < actual.length; i++) {
            int cell = i / cols;
            int row = cell / side % side / kernel;
            int col = cell % side / kernel;
            int from = ((cell / (side * side) * out + row) * out + col) * cols + i % cols;
            float value = row < out && col < out ? dy[from] / (kernel * kernel) : 0;
            assertEquals(dtype == DType.BF16 ? bf16(value) : value, actual[i], "dx " + i);
        }
    }

    @ParameterizedTest
    @CsvSource({"1,4,2,3", "2,5,2,2"})
    void averagePoolGradientMatchesDifferences(int images, int side, int kernel, int cols) {
        checkGradients(
                in -> new AveragePool(in.get(0), images, side, kernel),
                List.of(random(12, DType.F32, images * side * side * cols)),
                List.of(new long[] {(long) images * side * side, cols}),
                0);
    }

    @Test
    void badOperandsAreNamed() {
        Tensor pixels = frame.empty(DType.F32, 1, 3, 6, 6);
        Tensor weight = frame.empty(DType.F32, 5, 12);
        Tensor bias = frame.empty(DType.F32, 5);
        Tensor table = frame.empty(DType.F32, 9, 5);
        refused("[2, 3, 6, 5]", () -> new PatchEmbedding(frame.empty(DType.F32, 2, 3, 6, 5), weight, bias, table));
        refused("[1, 1, 6, 6]", () -> new PatchEmbedding(frame.empty(DType.F32, 1, 1, 6, 6), weight, bias, table));
        refused("[5, 13]", () -> new PatchEmbedding(pixels, frame.empty(DType.F32, 5, 13), bias, table));
        refused("[5, 48]", () -> new PatchEmbedding(pixels, frame.empty(DType.F32, 5, 48), bias, table));
        refused("[4]", () -> new PatchEmbedding(pixels, weight, frame.empty(DType.F32, 4), table));
        refused("[8, 5]", () -> new PatchEmbedding(pixels, weight, bias, frame.empty(DType.F32, 8, 5)));
        refused("BF16", () -> new PatchEmbedding(pixels, weight, bias, frame.empty(DType.BF16, 9, 5)));
        refused("BF16", () -> new PatchEmbedding(frame.empty(DType.BF16, 1, 3, 6, 6), weight, bias, table));
        Tensor x = frame.empty(DType.F32, 16, 2);
        refused("[16, 2]", () -> new AveragePool(x, 1, 5, 2));
        refused("kernel is 5", () -> new AveragePool(x, 1, 4, 5));
        refused("kernel is 0", () -> new AveragePool(x, 1, 4, 0));
    }

    private static void refused(String part, org.junit.jupiter.api.function.Executable make) {
        var error = assertThrows(IllegalArgumentException.class, make);
        assertTrue(error.getMessage().contains(part), error.getMessage());
    }
}
