package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

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
final class EmbeddingTest extends OpTest {
    EmbeddingTest(Device device) {
        super(device);
    }

    private static int[] ids(int seed, int tokens, int vocab) {
        return new java.util.Random(seed).ints(tokens, 0, vocab).toArray();
    }

    @ParameterizedTest
    @CsvSource({"F32,0,5,3,1", "F32,1,1,1,2", "F32,700,50,129,11.3", "BF16,9,7,31,50.5", "BF16,700,300,640,25.25"})
    void matchesReference(DType dtype, int tokens, int vocab, int cols, float scale) {
        float[] table = random(1, dtype, vocab * cols);
        int[] ids = ids(2, tokens, vocab);
        float[] expected = new float[tokens * cols];
        for (int i = 0; i < expected.length; i++) {
            float product = table[ids[i / cols] * cols + i % cols] * scale;
            expected[i] = dtype == DType.BF16 ? bf16(product) : product;
        }
        Tensor y = Tape.notRecording(frame)
                .run(new Embedding(tensor(dtype, table, vocab, cols), ids, scale, Embedding.NO_PADDING));
        assertArrayEquals(new long[] {tokens, cols}, y.shape().toArray());
        assertArrayEquals(expected, y.toFloats());
    }

    /** Two passes, the second with rows that the first did not have; ids repeat; the padding id gets nothing. */
    @ParameterizedTest
    @CsvSource({"F32,1", "BF16,33", "BF16,640"})
    void gradientIsRowSparseAndAddsUp(DType dtype, int cols) {
        int vocab = 40;
        int pad = 3;
        float scale = 2.5f;
        Tensor table = tensor(dtype, random(3, dtype, vocab * cols), vocab, cols);
        double[] expected = new double[vocab * cols];
        try (var step = frame.child("step");
                Gradients grads = new Gradients(step, List.of(table))) {
            for (int pass = 0; pass < 2; pass++) {
                int[] ids = ids(4 + pass, 300, pass == 0 ? 20 : vocab);
                ids[0] = pad;
                ids[299] = ids[298];
                float[] r = random(6 + pass, dtype, ids.length * cols);
                Tape tape = Tape.recording(step, List.of(table));
                Tensor y = tape.run(new Embedding(table, ids, scale, pad));
                tape.backward(tape.run(new Dot(y, tensor(step, dtype, r, ids.length, cols))), grads);
                for (int i = 0; i < r.length; i++) {
                    int id = ids[i / cols];
                    expected[id * cols + i % cols] += id == pad ? 0 : (double) r[i] * scale;
                }
            }
            Gradients.RowGradient gradient = grads.rowsOf(table);
            float[] rows = gradient.rows().toFloats();
            assertTrue(!gradient.slots().containsKey(pad), "the padding id has a row");
            double[] dense = new double[vocab * cols];
            gradient.slots().forEach((id, slot) -> {
                for (int c = 0; c < cols; c++) {
                    dense[id * cols + c] = rows[slot * cols + c];
                }
            });
            for (int i = 0; i < dense.length; i++) {
                assertEquals(expected[i], dense[i], 1e-4 * (1 + Math.abs(expected[i])), "at " + i);
            }
        }
    }

    @Test
    void badIdNamesTokenAndId() {
        Tensor table = frame.empty(DType.F32, 5, 2);
        for (int bad : new int[] {5, -1, Integer.MIN_VALUE}) {
            var error = assertThrows(
                    IllegalArgumentException.class, () -> new Embedding(table, new int[] {0, 4, bad}, 1, 0));
            assertEquals("[embedding] id " + bad + " of token 2 is outside the table of 5 rows", error.getMessage());
        }
    }

    /** The kernel holds the line for callers that pass it by. */
    @Test
    void kernelRefusesBadIndices() {
        Tensor table = frame.zeros(DType.F32, 5, 2);
        Tensor y = frame.empty(DType.F32, 1, 2);
        Tensor bad = frame.of(new int[] {5}, 1);
        refusal(() -> {
            frame.kernels().embeddingForward(y, table, bad, 1);
            return y;
        });
        refusal(() -> {
            frame.kernels().embeddingBackward(table, y, bad, 1);
            return table;
        });
    }
}
