package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import lapidary.device.AttentionShape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Attention over what is cached, and products of few rows: the kernels of decoding, against plain loops in double. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#levels")
final class CachedAttentionTest extends OpTest {
    CachedAttentionTest(Device device) {
        super(device);
    }

    /** y of one query [heads, dim] over keys and values [n, kvHeads, dim], all of which it sees. */
    private static double[] attend(float[] q, float[] k, float[] v, int n, AttentionShape shape) {
        int dim = shape.headDim();
        double[] y = new double[shape.heads() * dim];
        for (int h = 0; h < shape.heads(); h++) {
            int kv = h / (shape.heads() / shape.kvHeads());
            double[] s = new double[n];
            double sum = 0;
            for (int i = 0; i < n; i++) {
                for (int c = 0; c < dim; c++) {
                    s[i] += (double) q[h * dim + c] * k[(i * shape.kvHeads() + kv) * dim + c] * shape.scale();
                }
            }
            double max = Arrays.stream(s).max().orElse(0);
            for (int i = 0; i < n; i++) {
                s[i] = Math.exp(s[i] - max);
                sum += s[i];
            }
            for (int i = 0; i < n; i++) {
                for (int c = 0; c < dim; c++) {
                    y[h * dim + c] += s[i] / sum * v[(i * shape.kvHeads() + kv) * dim + c];
                }
            }
        }
        return y;
    }

    private static float[] rows(float[] x, int width, int from, int n) {
        return Arrays.copyOfRange(x, from * width, (from + n) * width);
    }

    @ParameterizedTest
    @CsvSource({
        "F32, 4, 2, 24, 6",
        "F32, 1, 1, 40, 0",
        "F32, 8, 1, 256, 50",
        "BF16, 4, 1, 256, 0",
        "BF16, 6, 3, 72, 17",
        "BF16, 7, 1, 33, 0",
        "BF16, 10, 2, 40, 60",
        "F32, 5, 5, 2, 1"
    })
    void oneTokenOfEachSequenceSeesItsCache(DType dtype, int heads, int kvHeads, int dim, int window) {
        AttentionShape shape = new AttentionShape(heads, kvHeads, dim, 0.3f, true, window);
        int width = kvHeads * dim;
        long[] positions = {0, 5, 63, 130, 131};
        int[] capacities =
                window == 0 ? new int[] {1, 9, 64, 200, 132} : new int[] {window, window, window + 3, 200, window};
        int rows = positions.length;
        float[] q = random(1, dtype, rows * heads * dim);
        float[] fresh = random(2, dtype, rows * width);
        float[] freshValues = random(3, dtype, rows * width);
        List<Tensor> keys = new ArrayList<>();
        List<Tensor> values = new ArrayList<>();
        double[] expected = new double[rows * heads * dim];
        for (int r = 0; r < rows; r++) {
            int n = (int) positions[r] + 1;
            float[] k = random(10 + r, dtype, n * width);
            float[] v = random(20 + r, dtype, n * width);
            System.arraycopy(fresh, r * width, k, (n - 1) * width, width);
            System.arraycopy(freshValues, r * width, v, (n - 1) * width, width);
            float[] ringK = new float[capacities[r] * width];
            float[] ringV = new float[capacities[r] * width];
            for (int p = 0; p < n - 1; p++) { // the newest is the kernel's to store
                System.arraycopy(k, p * width, ringK, p % capacities[r] * width, width);
                System.arraycopy(v, p * width, ringV, p % capacities[r] * width, width);
            }
            keys.add(tensor(dtype, ringK, capacities[r], width));
            values.add(tensor(dtype, ringV, capacities[r], width));
            int first = window == 0 ? 0 : Math.max(0, n - window);
            double[] y = attend(
                    rows(q, heads * dim, r, 1),
                    rows(k, width, first, n - first),
                    rows(v, width, first, n - first),
                    n - first,
                    shape);
            System.arraycopy(y, 0, expected, r * y.length, y.length);
        }
        Tensor qs = tensor(dtype, q, rows, heads * dim);
        Tensor y = frame.emptyLike(qs);
        frame.kernels()
                .attentionDecode(
                        y,
                        keys,
                        values,
                        positions,
                        qs,
                        tensor(dtype, fresh, rows, width),
                        tensor(dtype, freshValues, rows, width),
                        shape);
        assertClose(expected, y.toFloats(), tolerance(dtype, 4L * dim), 1, "y");
        for (int r = 0; r < rows; r++) {
            long at = positions[r] % capacities[r];
            assertArrayEquals(
                    rows(fresh, width, r, 1), keys.get(r).slice(at, at + 1).toFloats(), "stored key");
            assertArrayEquals(
                    rows(freshValues, width, r, 1),
                    values.get(r).slice(at, at + 1).toFloats(),
                    "stored value");
        }
    }

    /** Longer than what a device might cut a row into at most. */
    @ParameterizedTest
    @CsvSource({"F32", "BF16"})
    void aLongSequence(DType dtype) {
        AttentionShape shape = new AttentionShape(2, 1, 4, 0.3f, true, 0);
        int n = 20_001;
        float[] q = random(1, dtype, 2 * 4);
        float[] k = random(2, dtype, n * 4);
        float[] v = random(3, dtype, n * 4);
        Tensor qs = tensor(dtype, q, 1, 8);
        Tensor y = frame.emptyLike(qs);
        frame.kernels()
                .attentionDecode(
                        y,
                        List.of(tensor(dtype, k, n, 4)),
                        List.of(tensor(dtype, v, n, 4)),
                        new long[] {n - 1},
                        qs,
                        tensor(dtype, rows(k, 4, n - 1, 1), 1, 4),
                        tensor(dtype, rows(v, 4, n - 1, 1), 1, 4),
                        shape);
        assertClose(attend(q, k, v, n, shape), y.toFloats(), tolerance(dtype, n), 1, "y");
    }

    /** So that what is answered does not depend on who else asks. */
    @ParameterizedTest
    @CsvSource({"F32", "BF16"})
    void aRowIsTheSameInEveryBatch(DType dtype) {
        AttentionShape shape = new AttentionShape(4, 2, 24, 0.3f, true, 0);
        long[] positions = {3, 299, 77};
        Tensor q = tensor(dtype, random(1, dtype, 3 * 96), 3, 96);
        Tensor k = tensor(dtype, random(2, dtype, 3 * 48), 3, 48);
        Tensor v = tensor(dtype, random(3, dtype, 3 * 48), 3, 48);
        List<Tensor> keys = new ArrayList<>();
        List<Tensor> values = new ArrayList<>();
        for (int r = 0; r < 3; r++) {
            keys.add(tensor(dtype, random(10 + r, dtype, 300 * 48), 300, 48));
            values.add(tensor(dtype, random(20 + r, dtype, 300 * 48), 300, 48));
        }
        Tensor together = frame.emptyLike(q);
        frame.kernels().attentionDecode(together, keys, values, positions, q, k, v, shape);
        for (int r = 0; r < 3; r++) {
            Tensor alone = frame.empty(dtype, 1, 96);
            frame.kernels()
                    .attentionDecode(
                            alone,
                            keys.subList(r, r + 1),
                            values.subList(r, r + 1),
                            new long[] {positions[r]},
                            q.slice(r, r + 1),
                            k.slice(r, r + 1),
                            v.slice(r, r + 1),
                            shape);
            assertArrayEquals(rows(together.toFloats(), 96, r, 1), alone.toFloats(), "row " + r);
        }
    }

    @Test
    void aCacheThatIsTooSmallIsRefused() {
        AttentionShape shape = new AttentionShape(1, 1, 4, 1, true, 0);
        Tensor q = frame.zeros(DType.F32, 1, 4);
        List<Tensor> cache = List.of(frame.zeros(DType.F32, 5, 4));
        assertThrows(IllegalArgumentException.class, () -> frame.kernels()
                .attentionDecode(q, cache, cache, new long[] {5}, q, q, q, shape));
    }

    /** The last tokens of a row get what they get where all of its tokens are asked. */
    @ParameterizedTest
    @CsvSource({
        "F32, 40, 40, 0",
        "F32, 40, 1, 0",
        "F32, 300, 37, 0",
        "F32, 300, 137, 20",
        "BF16, 300, 130, 0",
        "BF16, 200, 3, 9"
    })
    void theLastTokensAsAmongAll(DType dtype, int tokens, int last, int window) {
        AttentionShape shape = new AttentionShape(4, 2, 40, 0.2f, true, window);
        Tensor q = tensor(dtype, random(1, dtype, tokens * 160), tokens, 160);
        Tensor k = tensor(dtype, random(2, dtype, tokens * 80), tokens, 80);
        Tensor v = tensor(dtype, random(3, dtype, tokens * 80), tokens, 80);
        int[] spans = new int[tokens];
        Arrays.fill(spans, -1);
        Arrays.fill(spans, tokens - Math.min(last, 30), tokens - Math.min(last, 30) / 2, 4);
        Tensor spanTensor = frame.of(spans, tokens);
        Tensor all = frame.emptyLike(q);
        frame.kernels()
                .attentionForward(all, Tensor.NONE, q, k, v, frame.of(new int[] {0, tokens}, 2), spanTensor, shape);
        Tensor y = frame.empty(dtype, last, 160);
        frame.kernels().attentionExtend(y, q.slice(tokens - last, tokens), k, v, spanTensor, shape);
        float[] expected = all.slice(tokens - last, tokens).toFloats();
        assertClose(widen(expected), y.toFloats(), 2 * tolerance(dtype, tokens), 1, "y");
        assertThrows(IllegalArgumentException.class, () -> frame.kernels()
                .attentionExtend(q, q, k.slice(0, 3), v.slice(0, 3), Tensor.NONE, shape));
    }

    @ParameterizedTest
    @CsvSource({
        "F32, F32, 1, 3, 5",
        "F32, F32, 8, 37, 130",
        "BF16, BF16, 1, 64, 256",
        "BF16, F32, 7, 61, 333",
        "BF16, BF16, 3, 2, 1",
        "F32, F32, 2, 5, 0",
        "BF16, F32, 4, 9, 16",
        "BF16, BF16, 5, 143, 1030",
        "BF16, BF16, 5, 143, 410",
        "BF16, F32, 2, 203, 330",
        "F32, F32, 3, 203, 340"
    })
    void fewRowsTimesAMatrix(DType dtype, DType yType, int rows, int out, int in) {
        float[] x = random(1, dtype, rows * in);
        float[] w = random(2, dtype, out * in);
        float[] bias = random(3, dtype, out);
        float[] before = random(4, yType, rows * out);
        Tensor xs = tensor(dtype, x, rows, in);
        Tensor ws = tensor(dtype, w, out, in);
        for (boolean accumulate : new boolean[] {false, true}) {
            double[] expected = new double[rows * out];
            for (int r = 0; r < rows; r++) {
                for (int o = 0; o < out; o++) {
                    double sum = accumulate ? before[r * out + o] : bias[o];
                    for (int i = 0; i < in; i++) {
                        sum += (double) x[r * in + i] * w[o * in + i];
                    }
                    expected[r * out + o] = sum;
                }
            }
            Tensor y = tensor(yType, before, rows, out);
            frame.kernels().linearFew(y, xs, ws, accumulate ? Tensor.NONE : tensor(dtype, bias, out), accumulate);
            assertClose(expected, y.toFloats(), tolerance(yType, in), Math.sqrt(in + 1), "y");
            for (int r = 0; r < rows; r++) { // alone, to the bit
                Tensor one = tensor(yType, rows(before, out, r, 1), 1, out);
                frame.kernels()
                        .linearFew(
                                one,
                                xs.slice(r, r + 1),
                                ws,
                                accumulate ? Tensor.NONE : tensor(dtype, bias, out),
                                accumulate);
                assertArrayEquals(rows(y.toFloats(), out, r, 1), one.toFloats(), "row " + r);
            }
        }
    }
}
