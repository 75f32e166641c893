package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertEquals;
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
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class LinearCrossEntropyTest extends OpTest {
    private static final int IGNORED = LinearCrossEntropy.IGNORED;

    LinearCrossEntropyTest(Device device) {
        super(device);
    }

    /** Loss, statistics and both gradients in double, with all logits at once. */
    private static final class Oracle {
        double loss;
        double entropy;
        long correct;
        final double[] dHidden;
        final double[] dHead;

        Oracle(double[] hidden, double[] head, int size, int[] targets, double normaliser, double cap) {
            int vocab = head.length / size;
            dHidden = new double[hidden.length];
            dHead = new double[head.length];
            for (int t = 0; t < targets.length; t++) {
                if (targets[t] == IGNORED) {
                    continue;
                }
                double[] raw = new double[vocab];
                double[] z = new double[vocab];
                double max = Double.NEGATIVE_INFINITY;
                int best = 0;
                for (int v = 0; v < vocab; v++) {
                    for (int c = 0; c < size; c++) {
                        raw[v] += hidden[t * size + c] * head[v * size + c];
                    }
                    z[v] = cap > 0 ? cap * Math.tanh(raw[v] / cap) : raw[v];
                    if (z[v] > max) {
                        max = z[v];
                        best = v;
                    }
                }
                double sum = 0;
                for (double x : z) {
                    sum += Math.exp(x - max);
                }
                loss += (Math.log(sum) + max - z[targets[t]]) / normaliser;
                correct += best == targets[t] ? 1 : 0;
                for (int v = 0; v < vocab; v++) {
                    double p = Math.exp(z[v] - max) / sum;
                    entropy -= p * (z[v] - max - Math.log(sum));
                    double slope = cap > 0 ? 1 - Math.pow(z[v] / cap, 2) : 1;
                    double d = (p - (v == targets[t] ? 1 : 0)) / normaliser * slope;
                    for (int c = 0; c < size; c++) {
                        dHidden[t * size + c] += d * head[v * size + c];
                        dHead[v * size + c] += d * hidden[t * size + c];
                    }
                }
            }
        }
    }

    private static int[] targets(int seed, int tokens, int vocab, int everyIgnored) {
        Random random = new Random(seed);
        int[] targets = new int[tokens];
        for (int t = 0; t < tokens; t++) {
            targets[t] = t % everyIgnored == 1 ? IGNORED : random.nextInt(vocab);
        }
        return targets;
    }

    @ParameterizedTest
    @CsvSource({
        "F32,1,3,5,0",
        "F32,7,31,17,0",
        "F32,300,9,1000,0",
        "F32,600,4,33,0",
        "F32,12,8,9001,0",
        "F32,20,16,77,3",
        "BF16,7,32,64,0",
        "BF16,300,8,4099,0",
        "BF16,2,32,2,0",
        "BF16,1,32,33,0",
        "BF16,70,64,511,0",
        "BF16,33,96,513,0",
        "BF16,150,544,1537,0",
        "BF16,2100,32,1100,0",
        "BF16,20,16,77,3"
    })
    void matchesReference(DType dtype, int tokens, int size, int vocab, float cap) {
        float[] hidden = random(1, dtype, tokens * size);
        float[] head = random(2, dtype, vocab * size);
        int[] targets = targets(3, tokens, vocab, 4);
        Oracle oracle = new Oracle(widen(hidden), widen(head), size, targets, 7, cap);
        Tensor h = tensor(dtype, hidden, tokens, size);
        Tensor w = tensor(dtype, head, vocab, size);
        try (Gradients grads = new Gradients(frame, List.of(h, w));
                Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(h, w));
            LinearCrossEntropy op = new LinearCrossEntropy(h, w, targets, 7, cap, grads);
            Tensor loss = tape.run(op);
            tape.backward(loss, grads);
            // Logits are rounded to the dtype: their spacing at their largest size is what the loss can be off by.
            double logit = 4 * Math.sqrt(size);
            double tolerance = dtype == DType.BF16 ? 0x1p-8 * logit : 0x1p-22 * logit * Math.sqrt(size);
            assertEquals(oracle.loss, loss.item(), tolerance * Math.max(1, oracle.loss), "loss");
            assertEquals(oracle.loss, op.statistics().loss(), tolerance * Math.max(1, oracle.loss));
            assertEquals(oracle.entropy, op.statistics().entropy(), tolerance * Math.max(1, oracle.entropy) * 2);
            if (dtype == DType.F32) {
                assertEquals(oracle.correct, op.statistics().correct());
            }
            assertGradient(oracle.dHidden, grads.of(h).toFloats(), tolerance, "dHidden");
            assertGradient(oracle.dHead, grads.of(w).toFloats(), tolerance, "dHead");
        }
    }

    /** Norm of the difference against the norm: logits' rounding errors are independent across the elements. */
    private static void assertGradient(double[] expected, float[] actual, double tolerance, String what) {
        double difference = 0;
        double norm = 0;
        for (int i = 0; i < expected.length; i++) {
            difference += Math.pow(expected[i] - actual[i], 2);
            norm += expected[i] * expected[i];
        }
        double limit = 2 * tolerance * Math.sqrt(norm) + 1e-12;
        assertTrue(Math.sqrt(difference) <= limit, what + " off by " + Math.sqrt(difference) + ", allowed " + limit);
    }

    @Test
    void aFrozenHeadGetsNoGradient() {
        Tensor h = tensor(DType.F32, random(1, DType.F32, 12), 3, 4);
        Tensor w = tensor(DType.F32, random(2, DType.F32, 20), 5, 4);
        try (Gradients grads = new Gradients(frame, List.of(h));
                Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(h));
            tape.backward(tape.run(new LinearCrossEntropy(h, w, new int[] {1, IGNORED, 4}, 2, 0, grads)), grads);
            assertTrue(grads.of(w).isNone());
            assertEquals(12, grads.of(h).elements());
        }
    }

    @Test
    void withoutATargetLossAndGradientAreZero() {
        Tensor h = tensor(DType.F32, random(1, DType.F32, 12), 3, 4);
        Tensor w = tensor(DType.F32, random(2, DType.F32, 20), 5, 4);
        try (Gradients grads = new Gradients(frame, List.of(h, w));
                Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(h, w));
            Tensor loss = tape.run(new LinearCrossEntropy(h, w, new int[] {IGNORED, IGNORED, IGNORED}, 0, 0, grads));
            tape.backward(loss, grads);
            assertEquals(0, loss.item());
            for (float g : grads.of(h).toFloats()) {
                assertEquals(0, g);
            }
        }
    }

    /** The other one lies among the same thread's, another lane's, another warp's and another round's of a GPU's block. */
    @ParameterizedTest
    @ValueSource(ints = {2, 9, 300, 5000})
    void theFirstOfEqualLogitsIsThePrediction(int other) {
        Tensor h = tensor(DType.F32, new float[] {1, 1}, 2, 1);
        float[] logits = new float[other + 1];
        logits[1] = logits[other] = 3;
        Tensor w = tensor(DType.F32, logits, logits.length, 1);
        LinearCrossEntropy op = new LinearCrossEntropy(h, w, new int[] {1, 1}, 2, 0, null);
        Tape.notRecording(frame).run(op);
        assertEquals(2, op.statistics().correct());
    }

    @Test
    void hugeLogitsDoNotOverflow() {
        Tensor h = tensor(DType.F32, new float[] {1e4f}, 1, 1);
        Tensor w = tensor(DType.F32, new float[] {-1, 1, 0.5f}, 3, 1);
        LinearCrossEntropy op = new LinearCrossEntropy(h, w, new int[] {0}, 1, 0, null);
        assertEquals(2e4f, Tape.notRecording(frame).run(op).item(), 1);
    }

    @Test
    void aNonFiniteLogitMakesTheLossNotFinite() {
        Tensor h = tensor(DType.F32, new float[] {Float.NaN}, 1, 1);
        Tensor w = tensor(DType.F32, new float[] {-1, 1, 0.5f}, 3, 1);
        LinearCrossEntropy op = new LinearCrossEntropy(h, w, new int[] {0}, 1, 0, null);
        assertTrue(Float.isNaN(Tape.notRecording(frame).run(op).item()));
    }

    @Test
    void aTargetOutsideTheVocabularyIsNamed() {
        Tensor h = tensor(DType.F32, new float[] {1}, 1, 1);
        Tensor w = tensor(DType.F32, new float[] {1, 2}, 2, 1);
        LinearCrossEntropy op = new LinearCrossEntropy(h, w, new int[] {2}, 1, 0, null);
        String refusal = refusal(() -> Tape.notRecording(frame).run(op));
        assertTrue(refusal.contains("target 2"), refusal);
    }
}
