package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Random;
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
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernels that move and add rows, and the op that puts image features among text. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class RowsTest extends OpTest {
    RowsTest(Device device) {
        super(device);
    }

    private static int[] distinct(int seed, int n, int of) {
        List<Integer> all = new java.util.ArrayList<>();
        for (int i = 0; i < of; i++) {
            all.add(i);
        }
        java.util.Collections.shuffle(all, new Random(seed));
        return all.subList(0, n).stream().mapToInt(i -> i).toArray();
    }

    private static float[] row(float[] x, int row, int cols) {
        return java.util.Arrays.copyOfRange(x, row * cols, (row + 1) * cols);
    }

    @ParameterizedTest
    @CsvSource({"F32,0,4,3", "F32,1,1,1", "F32,600,50,129", "BF16,7,9,31", "BF16,700,300,640"})
    void gathers(DType dtype, int n, int rows, int cols) {
        float[] x = random(1, dtype, rows * cols);
        int[] index = new Random(2).ints(n, 0, rows).toArray();
        Tensor y = frame.empty(dtype, n, cols);
        frame.kernels().gatherRows(y, tensor(dtype, x, rows, cols), frame.of(index, n));
        float[] actual = y.toFloats();
        for (int i = 0; i < n; i++) {
            assertArrayEquals(row(x, index[i], cols), row(actual, i, cols));
        }
    }

    @ParameterizedTest
    @CsvSource({"F32,0,4,3", "F32,1,1,1", "F32,200,500,129", "BF16,7,9,31", "BF16,256,300,640"})
    void scatters(DType dtype, int n, int rows, int cols) {
        float[] before = random(3, dtype, rows * cols);
        float[] x = random(4, dtype, n * cols);
        int[] index = distinct(5, n, rows);
        for (boolean zeros : new boolean[] {false, true}) {
            Tensor y = tensor(dtype, before, rows, cols);
            frame.kernels().scatterRows(y, zeros ? Tensor.NONE : tensor(dtype, x, n, cols), frame.of(index, n));
            float[] expected = before.clone();
            for (int i = 0; i < n * cols; i++) {
                expected[index[i / cols] * cols + i % cols] = zeros ? 0 : x[i];
            }
            assertArrayEquals(expected, y.toFloats());
        }
    }

    @ParameterizedTest
    @EnumSource(
            value = DType.class,
            names = {"F32", "BF16"})
    void concatenates(DType dtype) {
        float[] a = random(8, dtype, 3 * 7);
        float[] b = random(9, dtype, 7);
        float[] c = random(10, dtype, 2 * 7);
        List<Tensor> parts = List.of(tensor(dtype, a, 3, 7), tensor(dtype, b, 1, 7), tensor(dtype, c, 2, 7));
        float[] dy = random(11, dtype, 6 * 7);
        try (Gradients grads = new Gradients(frame, parts);
                Frame step = frame.child("step")) {
            Concat concat = new Concat(parts);
            Tensor y = concat.forward(step);
            float[] expected = new float[6 * 7];
            System.arraycopy(a, 0, expected, 0, a.length);
            System.arraycopy(b, 0, expected, a.length, b.length);
            System.arraycopy(c, 0, expected, a.length + b.length, c.length);
            assertArrayEquals(expected, y.toFloats());
            concat.backward(tensor(step, dtype, dy, 6, 7), step, grads);
            int from = 0;
            for (Tensor part : parts) {
                int to = from + (int) part.elements();
                assertArrayEquals(
                        java.util.Arrays.copyOfRange(dy, from, to),
                        grads.of(part).toFloats());
                from = to;
            }
        }
        assertThrows(IllegalArgumentException.class, () -> new Concat(List.of()));
        assertThrows(
                IllegalArgumentException.class,
                () -> new Concat(List.of(parts.get(0), tensor(dtype, random(12, dtype, 6), 1, 6))));
    }

    @ParameterizedTest
    @CsvSource({"F32,0,4,3", "F32,1,1,1", "F32,6,2,31", "F32,7,3,5", "BF16,800,100,129", "BF16,300,1,640"})
    void addsRows(DType dtype, int rows, int tableRows, int cols) {
        float[] x = random(6, dtype, rows * cols);
        float[] table = random(7, dtype, tableRows * cols);
        Tensor y = tensor(dtype, x, rows, cols);
        Tensor other = frame.emptyLike(y);
        frame.kernels().addRows(other, y, tensor(dtype, table, tableRows, cols));
        frame.kernels().addRows(y, y, tensor(dtype, table, tableRows, cols));
        for (int i = 0; i < x.length; i++) {
            float sum = x[i] + table[i / cols % tableRows * cols + i % cols];
            x[i] = dtype == DType.BF16 ? bf16(sum) : sum;
        }
        assertArrayEquals(x, y.toFloats(), "in place");
        assertArrayEquals(x, other.toFloats());
    }

    @ParameterizedTest
    @CsvSource({
        "F32,0,4,3",
        "F32,1,1,1",
        "F32,6,2,31",
        "F32,7,3,5",
        "F32,2,5,4",
        "F32,5000,1,70",
        "F32,300,2,2100",
        "BF16,800,100,129",
        "BF16,300,1,1153",
        "BF16,512,256,96"
    })
    void sumsRows(DType dtype, int rows, int tableRows, int cols) {
        float[] dy = random(8, dtype, rows * cols);
        double[] expected = new double[tableRows * cols];
        for (int i = 0; i < dy.length; i++) {
            expected[i / cols % tableRows * cols + i % cols] += dy[i];
        }
        Tensor dtable = frame.of(random(9, DType.F32, tableRows * cols), tableRows, cols);
        frame.kernels().sumRows(dtable, tensor(dtype, dy, rows, cols));
        int length = rows / tableRows + 1;
        assertClose(expected, dtable.toFloats(), tolerance(DType.F32, length), Math.sqrt(length), "sum_rows");
    }

    @Test
    void indicesOutsideAreRefused() {
        Tensor x = frame.zeros(DType.F32, 5, 2);
        Tensor y = frame.zeros(DType.F32, 1, 2);
        for (int bad : new int[] {-1, 5}) {
            Tensor index = frame.of(new int[] {bad}, 1);
            String gather = refusal(() -> {
                frame.kernels().gatherRows(y, x, index);
                return y;
            });
            assertTrue(gather.contains("index " + bad + " at 0"), gather);
            String scatter = refusal(() -> {
                frame.kernels().scatterRows(x, y, index);
                return x;
            });
            assertTrue(scatter.contains("index " + bad + " at 0"), scatter);
        }
        Tensor none = frame.empty(DType.F32, 0, 2);
        assertThrows(IllegalArgumentException.class, () -> frame.kernels().addRows(x, x, none));
        assertThrows(IllegalArgumentException.class, () -> frame.kernels().sumRows(none, x));
    }

    @ParameterizedTest
    @CsvSource({"F32,1,1,3", "F32,12,4,5", "BF16,300,256,64", "F32,4,0,3", "F32,4,4,3"})
    void featuresReplaceTheirTokens(DType dtype, int tokens, int n, int cols) {
        float[] x = random(10, dtype, tokens * cols);
        float[] features = random(11, dtype, n * cols);
        int[] positions = distinct(12, n, tokens);
        Tensor tx = tensor(dtype, x, tokens, cols);
        Tensor y =
                Tape.notRecording(frame).run(new ScatterImageFeatures(tx, tensor(dtype, features, n, cols), positions));
        float[] expected = x.clone();
        for (int i = 0; i < n * cols; i++) {
            expected[positions[i / cols] * cols + i % cols] = features[i];
        }
        assertArrayEquals(expected, y.toFloats());
        assertArrayEquals(x, tx.toFloats(), "x itself is left alone");
    }

    @Test
    void featureGradientsMatchDifferences() {
        checkGradients(
                in -> new ScatterImageFeatures(in.get(0), in.get(1), new int[] {4, 1}),
                List.of(random(13, DType.F32, 18), random(14, DType.F32, 6)),
                List.of(new long[] {6, 3}, new long[] {2, 3}),
                0,
                1);
    }

    @Test
    void featuresThatDoNotMatchAreRefused() {
        Tensor x = frame.empty(DType.F32, 6, 3);
        Tensor features = frame.empty(DType.F32, 2, 3);
        var error = assertThrows(
                IllegalArgumentException.class, () -> new ScatterImageFeatures(x, features, new int[] {1, 2, 3}));
        assertEquals("Image features and image tokens do not match, tokens: 3, features: 2", error.getMessage());
        for (int bad : new int[] {-1, 6, 2}) {
            assertThrows(
                    IllegalArgumentException.class, () -> new ScatterImageFeatures(x, features, new int[] {2, bad}));
        }
        assertThrows(
                IllegalArgumentException.class,
                () -> new ScatterImageFeatures(x, frame.empty(DType.F32, 2, 4), new int[] {1, 2}));
        assertThrows(
                IllegalArgumentException.class,
                () -> new ScatterImageFeatures(x, frame.empty(DType.BF16, 2, 3), new int[] {1, 2}));
    }
}
