package lapidary.optim;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import lapidary.DeviceTest;
import lapidary.autograd.Gradients;
import lapidary.device.Adamw8bitTensor;
import lapidary.device.AdamwStep;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.EmulatedDevice;
import lapidary.nn.Parameter;
import lapidary.quant.DynamicMap;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class OptimizerTest extends DeviceTest {

    OptimizerTest(Device device) {
        super(device);
    }

    /** The paper's algorithm in double. */
    private static final class Oracle {
        final double[] p;
        final double[] m;
        final double[] v;
        int t;

        Oracle(float[] start) {
            p = new double[start.length];
            m = new double[start.length];
            v = new double[start.length];
            for (int i = 0; i < start.length; i++) {
                p[i] = start[i];
            }
        }

        void step(float[] grad, double scale, double lr, double decay) {
            t++;
            for (int i = 0; i < p.length; i++) {
                double g = grad[i] * scale;
                p[i] -= lr * decay * p[i];
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                p[i] -= lr
                        / (1 - Math.pow(0.9, t))
                        * m[i]
                        / (Math.sqrt(v[i]) / Math.sqrt(1 - Math.pow(0.999, t)) + 1e-8);
            }
        }
    }

    private static float[] normal(int seed, int n) {
        Random random = new Random(seed);
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    private static void assertClose(double[] expected, float[] actual, double tolerance) {
        for (int i = 0; i < expected.length; i++) {
            assertEquals(expected[i], actual[i], tolerance * Math.max(1, Math.abs(expected[i])), "at " + i);
        }
    }

    private Optimizer adamw(List<Parameter> parameters, double weightDecay, boolean bf16State) {
        return new Optimizer(frame, parameters, OptimizerOptions.adamw(weightDecay), bf16State);
    }

    private Tensor bf16(float[] values, long... axes) {
        Tensor tensor = frame.empty(DType.BF16, Shape.of(axes));
        frame.kernels().convert(tensor, frame.of(values, axes), 1);
        return tensor;
    }

    private double step(Optimizer adamw, Tensor param, float[] grad, float lr, float maxNorm) {
        try (Gradients grads = new Gradients(frame, List.of(param));
                Frame scratch = frame.child("step")) {
            grads.add(param, scratch.of(grad, param.shape().toArray()));
            double norm = adamw.clip(grads, maxNorm);
            adamw.step(grads, lr);
            return norm;
        }
    }

    @ParameterizedTest
    @CsvSource({"1,0", "17,0.1", "40001,0.01"})
    void f32FollowsThePaper(int n, float decay) {
        float[] start = normal(1, n);
        Tensor param = frame.of(start, n);
        Oracle oracle = new Oracle(start);
        Optimizer adamw = adamw(List.of(new Parameter("p", param)), decay, false);
        for (int t = 0; t < 10; t++) {
            float[] grad = normal(10 + t, n);
            step(adamw, param, grad, 1e-2f, 0);
            oracle.step(grad, 1, 1e-2, decay);
        }
        assertClose(oracle.p, param.toFloats(), 10 * 0x1p-22);
    }

    @Test
    void aSplitMasterIsAnF32MasterToTheBit() {
        int n = 1003;
        Tensor split = bf16(normal(1, n), n);
        Tensor whole = frame.of(split.toFloats(), n);
        Optimizer a = adamw(List.of(new Parameter("p", split)), 0.1f, false);
        Optimizer b = adamw(List.of(new Parameter("p", whole)), 0.1f, false);
        for (int t = 0; t < 20; t++) {
            float[] grad = normal(50 + t, n);
            step(a, split, grad, 2e-5f, 1);
            step(b, whole, grad, 2e-5f, 1);
        }
        float[] master = whole.toFloats();
        float[] high = split.toFloats();
        for (int i = 0; i < n; i++) {
            // The BF16 half is the F32 master rounded to nearest; a tie may go either way.
            int difference = Float.floatToRawIntBits(master[i]) - Float.floatToRawIntBits(high[i]);
            assertEquals(0, difference < -0x8000 || difference > 0x8000 ? difference : 0, "at " + i);
        }
    }

    @Test
    void smallStepsAreNotLostInBf16() {
        Tensor param = bf16(new float[] {1}, 1);
        Optimizer adamw = adamw(List.of(new Parameter("p", param)), 0, false);
        for (int t = 0; t < 400; t++) {
            step(adamw, param, new float[] {1}, 2e-5f, 0);
        }
        assertEquals(1 - 400 * 2e-5f, param.toFloats()[0], 0x1p-8);
        assertFalse(param.toFloats()[0] == 1f);
    }

    @Test
    void clippingScalesToTheNorm() {
        float[] start = normal(1, 100);
        float[] grad = normal(2, 100);
        Tensor param = frame.of(start, 100);
        Oracle oracle = new Oracle(start);
        double norm = 0;
        for (float g : grad) {
            norm += (double) g * g;
        }
        norm = Math.sqrt(norm);
        Optimizer adamw = adamw(List.of(new Parameter("p", param)), 0, false);
        assertEquals(norm, step(adamw, param, grad, 1e-2f, 1), 1e-5 * norm);
        oracle.step(grad, 1 / (norm + 1e-6), 1e-2, 0);
        assertClose(oracle.p, param.toFloats(), 0x1p-20);
    }

    @Test
    void aNonFiniteGradientIsSeenInTheNorm() {
        Tensor param = frame.of(normal(1, 70000), 70000);
        Optimizer adamw = adamw(List.of(new Parameter("p", param)), 0, false);
        float[] grad = normal(2, 70000);
        grad[69999] = Float.NaN;
        assertFalse(Double.isFinite(step(adamw, param, grad, 0, 1)));
    }

    /** The NaN of a card's arithmetic has all bits set: rounded to BF16 as a number is, it would be -0. */
    @ParameterizedTest
    @CsvSource({"adamw_torch_fused,17", "adamw_8bit,4099", "sgd,17"})
    void aMasterThatIsNoNumberStaysNone(String optim, int n) {
        Tensor param = bf16(normal(1, n), n);
        float[] grad = normal(2, n);
        grad[n - 2] = Float.intBitsToFloat(0x7fffffff);
        step(optimizer(optim, param, "p", 0, false), param, grad, 1e-2f, 0);
        float[] moved = param.toFloats();
        assertTrue(Float.isNaN(moved[n - 2]), moved[n - 2] + "");
        assertTrue(Float.isFinite(moved[n - 1]) && Float.isFinite(moved[0]));
    }

    @Test
    void aParameterWithoutGradientIsLeftAlone() {
        Tensor param = frame.of(normal(1, 5), 5);
        float[] before = param.toFloats().clone();
        Optimizer adamw = adamw(List.of(new Parameter("p", param)), 0.1f, false);
        try (Gradients grads = new Gradients(frame, List.of(param))) {
            assertEquals(0, adamw.clip(grads, 1));
            adamw.step(grads, 1);
        }
        assertArrayEquals(before, param.toFloats());
    }

    @ParameterizedTest
    @CsvSource({"F32,0", "F32,0.1", "BF16,0.1"})
    void aRowSparseGradientIsADenseOneWithZeros(DType dtype, float decay) {
        int vocab = 9;
        int cols = 33;
        Tensor sparse = dtype == DType.F32
                ? frame.of(normal(1, vocab * cols), vocab, cols)
                : bf16(normal(1, vocab * cols), vocab, cols);
        Tensor dense = frame.empty(dtype, vocab, cols);
        frame.kernels().convert(dense, sparse, 1);
        Optimizer a = adamw(List.of(new Parameter("p", sparse)), decay, false);
        Optimizer b = adamw(List.of(new Parameter("p", dense)), decay, false);
        int[][] ids = {{3, 5, 3}, {5, -1, 8}, {0, 0, 0}, {3, 4, 5}};
        for (int t = 0; t < ids.length; t++) {
            float[] dy = normal(20 + t, 3 * cols);
            float[] full = new float[vocab * cols];
            for (int r = 0; r < 3; r++) {
                for (int c = 0; c < cols && ids[t][r] >= 0; c++) {
                    full[ids[t][r] * cols + c] += dy[r * cols + c] * 2;
                }
            }
            try (Gradients grads = new Gradients(frame, List.of(sparse));
                    Frame scratch = frame.child("step")) {
                grads.addRows(sparse, ids[t], scratch.of(dy, 3, cols), 2);
                a.clip(grads, 1);
                a.step(grads, 1e-2f);
            }
            step(b, dense, full, 1e-2f, 1);
        }
        float[] expected = dense.toFloats();
        float[] actual = sparse.toFloats();
        for (int i = 0; i < expected.length; i++) {
            assertEquals(
                    expected[i],
                    actual[i],
                    (dtype == DType.F32 ? 0x1p-20 : 0x1p-7) * Math.max(1, Math.abs(expected[i])),
                    "at " + i);
        }
    }

    @Test
    void bf16StateIsWhatTrlTrains() {
        float[] start = normal(1, 64);
        Tensor param = bf16(start, 64);
        float[] rounded = param.toFloats().clone();
        Oracle oracle = new Oracle(rounded);
        Optimizer adamw = adamw(List.of(new Parameter("p", param)), 0, true);
        float[] grad = normal(2, 64);
        step(adamw, param, grad, 1e-2f, 0);
        oracle.step(grad, 1, 1e-2, 0);
        assertClose(oracle.p, param.toFloats(), 0x1p-8);
    }

    private Optimizer optimizer(String optim, Tensor param, String name, double decay, boolean bf16State) {
        OptimizerOptions options = new OptimizerOptions(optim, 0.9, 0.999, 1e-8, decay);
        return new Optimizer(frame, List.of(new Parameter(name, param)), options, bf16State);
    }

    /** Steps that 8 bits make go the way of steps that 32 bits make. */
    @ParameterizedTest
    @CsvSource({"F32,4096", "F32,70001", "BF16,4099"})
    void momentsOf8BitsFollowThoseOf32(DType dtype, int n) {
        Tensor coded = dtype == DType.F32 ? frame.of(normal(1, n), n) : bf16(normal(1, n), n);
        Tensor exact = frame.empty(dtype, n);
        frame.kernels().convert(exact, coded, 1);
        float[] start = coded.toFloats().clone();
        Optimizer a = optimizer(OptimizerOptions.ADAMW_8BIT, coded, "p", 0, false);
        Optimizer b = optimizer(OptimizerOptions.ADAMW, exact, "p", 0, false);
        float[] grad = normal(2, n);
        for (int t = 0; t < 20; t++) {
            step(a, coded, grad, 1e-2f, 1);
            step(b, exact, grad, 1e-2f, 1);
        }
        float[] moved = coded.toFloats();
        float[] expected = exact.toFloats();
        double difference = 0;
        double way = 0;
        for (int i = 0; i < n; i++) {
            difference += Math.abs(moved[i] - expected[i]);
            way += Math.abs(expected[i] - start[i]);
        }
        assertTrue(difference < 0.1 * way, difference + " of " + way);
        assertTrue(difference > 0, "8 bits were used");
    }

    /** The codes' search needs it. A GPU finds it out after the call has returned. */
    @ParameterizedTest
    @CsvSource({"true,0", "true,254", "false,0", "false,254"})
    void aMapThatDoesNotRiseIsRefused(boolean first, int at) {
        float[] rising = new float[256];
        for (int i = 0; i < 256; i++) {
            rising[i] = i / 255f * 2 - 1;
        }
        float[] level = rising.clone();
        level[at + 1] = level[at];
        Tensor good = frame.of(rising, 256);
        Tensor bad = frame.of(level, 256);
        Tensor codes = frame.zeros(DType.U8, 300);
        Tensor absmax = frame.zeros(DType.F32, 2);
        Tensor param = frame.zeros(DType.F32, 300);
        Adamw8bitTensor tensor = new Adamw8bitTensor(param, Tensor.NONE, codes, absmax, codes, absmax, param);
        AdamwStep step = new AdamwStep(1e-3, 0.9, 0.999, 1e-8, 0, 0.1, 0.001, 1);
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> {
            frame.kernels().adamw8bit(List.of(tensor), first ? bad : good, first ? good : bad, step);
            param.toFloats();
        });
        assertTrue(e.getMessage().contains("do not rise"), e.getMessage());
    }

    /** Which the step hardly shows: AdamW divides a gradient's size out. */
    @Test
    void momentsOf8BitsAreOfTheScaledGradient() {
        Tensor signed = frame.of(DynamicMap.signed(), 256);
        Tensor unsigned = frame.of(DynamicMap.unsigned(), 256);
        List<float[]> states = new ArrayList<>();
        for (float scale : new float[] {1, 0.5f}) {
            float[] grad = normal(1, 300);
            for (int i = 0; i < grad.length; i++) {
                grad[i] /= scale;
            }
            Tensor m = frame.zeros(DType.F32, 2);
            Tensor v = frame.zeros(DType.F32, 2);
            Adamw8bitTensor tensor = new Adamw8bitTensor(
                    frame.zeros(DType.F32, 300),
                    Tensor.NONE,
                    frame.zeros(DType.U8, 300),
                    m,
                    frame.zeros(DType.U8, 300),
                    v,
                    frame.of(grad, 300));
            frame.kernels()
                    .adamw8bit(
                            List.of(tensor),
                            signed,
                            unsigned,
                            new AdamwStep(1e-3, 0.9, 0.999, 1e-8, 0, 0.1, 0.001, scale));
            states.addAll(List.of(m.toFloats(), v.toFloats()));
        }
        assertArrayEquals(states.get(0), states.get(2));
        assertArrayEquals(states.get(1), states.get(3));
    }

    @Test
    void aSumOfSquaresMayBeginAnywhere() {
        float[] values = new float[4099];
        Arrays.fill(values, 3);
        for (DType dtype : List.of(DType.F32, DType.BF16)) {
            Tensor x = dtype == DType.F32 ? frame.of(values, 4099, 1) : bf16(values, 4099, 1);
            Tensor out = frame.zeros(DType.F32, 3);
            frame.kernels().sumSquares(out, List.of(x.slice(1, 4099), x.slice(0, 4096), x.slice(3, 4)));
            assertArrayEquals(new float[] {9 * 4098, 9 * 4096, 9}, out.toFloats());
        }
    }

    @ParameterizedTest
    @CsvSource({"p, 4095", "base_model.model.model.embed_tokens.weight, 8192"})
    void smallParametersAndEmbeddingsKeep32Bits(String name, int n) {
        Tensor coded = frame.of(normal(1, n), n);
        Tensor exact = frame.of(normal(1, n), n);
        Optimizer a = optimizer(OptimizerOptions.ADAMW_8BIT, coded, name, 0.1, false);
        Optimizer b = optimizer("adamw_torch", exact, name, 0.1, false);
        for (int t = 0; t < 3; t++) {
            step(a, coded, normal(5 + t, n), 1e-2f, 1);
            step(b, exact, normal(5 + t, n), 1e-2f, 1);
        }
        assertArrayEquals(exact.toFloats(), coded.toFloats());
    }

    /**
     * Parameters that move together are those that move alone, bit for bit, in few launches: of many lengths, some frozen by
     * now, some with other decay, more than fit into a launch.
     */
    @ParameterizedTest
    @CsvSource({"adamw_torch_fused,F32", "adamw_torch_fused,BF16", "adamw_8bit,F32", "adamw_8bit,BF16"})
    void manyParametersMoveAsEachAlone(String optim, DType dtype) {
        OptimizerOptions options = new OptimizerOptions(optim, 0.9, 0.999, 1e-8, 0.1);
        List<Parameter> many = new ArrayList<>();
        List<Tensor> alone = new ArrayList<>();
        boolean coded = optim.equals(OptimizerOptions.ADAMW_8BIT);
        for (int i = 0; i < (coded ? 120 : 160); i++) {
            int n = i == 7 ? 70000 : coded && i % 2 == 0 ? 4096 + i : 1 + i;
            Tensor start = dtype == DType.F32 ? frame.of(normal(i, n), n) : bf16(normal(i, n), n);
            Tensor copy = frame.empty(dtype, n);
            frame.kernels().convert(copy, start, 1);
            many.add(new Parameter(i % 50 == 49 ? i + ".bias" : "p" + i, start)); // biases do not decay
            alone.add(copy);
        }
        List<Tensor> tensors = many.stream().map(Parameter::value).toList();
        Optimizer together = new Optimizer(frame, many, options, false);
        List<Optimizer> singly = new ArrayList<>();
        for (int i = 0; i < many.size(); i++) {
            Parameter parameter = new Parameter(many.get(i).name(), alone.get(i));
            singly.add(new Optimizer(frame, List.of(parameter), options, false));
        }
        for (int t = 0; t < 2; t++) {
            try (Gradients grads = new Gradients(frame, tensors);
                    Frame scratch = frame.child("step")) {
                double squares = 0;
                for (int i = 0; i < many.size(); i++) {
                    if (t == 0 || i % 9 != 0) {
                        float[] grad = normal(1000 * t + i, (int) tensors.get(i).elements());
                        grads.add(tensors.get(i), scratch.of(grad, grad.length));
                        step(singly.get(i), alone.get(i), grad, 1e-3f, 0);
                        for (float g : grad) {
                            squares += (double) g * g;
                        }
                    }
                }
                long before = launches();
                // The sums come back as F32: a rounding each, halved by the root.
                assertEquals(Math.sqrt(squares), together.clip(grads, 0), 0x1p-23 * Math.sqrt(squares));
                together.step(grads, 1e-3f);
                // A launch for each 56 of 8 bits or 73 others, of equal scalars; two for each 137 sums. One by one it
                // were 360.
                assertTrue(launches() - before <= 16, launches() - before + " launches");
            }
        }
        for (int i = 0; i < many.size(); i++) {
            assertArrayEquals(alone.get(i).toFloats(), tensors.get(i).toFloats(), "parameter " + i);
        }
    }

    /** 0 on a device that does not count. */
    private long launches() {
        return device.name().equals("emulated") ? EmulatedDevice.launches() : 0;
    }

    @ParameterizedTest
    @CsvSource({"F32,0,0", "F32,0.1,0", "BF16,0.1,0", "F32,0.1,1"})
    void aRowSparseGradientOfSgdIsADenseOneWithZeros(DType dtype, float decay, float maxNorm) {
        int vocab = 9;
        int cols = 33;
        Tensor sparse = dtype == DType.F32
                ? frame.of(normal(1, vocab * cols), vocab, cols)
                : bf16(normal(1, vocab * cols), vocab, cols);
        Tensor dense = frame.empty(dtype, vocab, cols);
        frame.kernels().convert(dense, sparse, 1);
        Optimizer a = optimizer(OptimizerOptions.SGD, sparse, "p", decay, false);
        Optimizer b = optimizer(OptimizerOptions.SGD, dense, "p", decay, false);
        float[] dy = normal(2, 2 * cols);
        float[] full = new float[vocab * cols];
        System.arraycopy(dy, 0, full, 7 * cols, cols);
        System.arraycopy(dy, cols, full, 2 * cols, cols);
        for (int t = 0; t < 3; t++) {
            try (Gradients grads = new Gradients(frame, List.of(sparse));
                    Frame scratch = frame.child("step")) {
                grads.addRows(sparse, new int[] {7, 2}, scratch.of(dy, 2, cols), 1);
                a.clip(grads, maxNorm);
                a.step(grads, 1e-1f);
            }
            step(b, dense, full, 1e-1f, maxNorm);
        }
        // Norms of rows and of a table are sums of another order.
        assertArrayEquals(dense.toFloats(), sparse.toFloats(), maxNorm == 0 ? 0 : 0x1p-20f);
    }

    @Test
    void sgdGoesDownTheClippedGradient() {
        float[] start = normal(1, 100);
        float[] grad = normal(2, 100);
        Tensor param = frame.of(start, 100);
        double norm = step(optimizer(OptimizerOptions.SGD, param, "p", 0, false), param, grad, 1e-2f, 1);
        double[] expected = new double[100];
        for (int i = 0; i < 100; i++) {
            expected[i] = start[i] - 1e-2 * grad[i] / (norm + 1e-6);
        }
        assertClose(expected, param.toFloats(), 0x1p-22);
    }

    @ParameterizedTest
    @CsvSource({
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight, 0.1",
        "base_model.model.lm_head.weight, 0.1",
        "model.normal.weight, 0.1",
        "model.norm.weight, 0",
        "norm.weight, 0",
        "layers.0.self_attn.q_norm.weight, 0",
        "layers.0.post_attention_layernorm.weight, 0",
        "a.RMSNorm.weight, 0",
        "vision_tower.encoder.layers.0.mlp.fc1.bias, 0"
    })
    void biasesAndNormsDoNotDecay(String name, double decay) {
        assertEquals(decay, OptimizerOptions.adamw(0.1).weightDecayOf(name));
        Tensor param = frame.of(new float[] {1}, 1);
        step(optimizer(OptimizerOptions.ADAMW, param, name, 0.1, false), param, new float[] {0}, 1, 0);
        assertEquals(1 - decay, param.toFloats()[0], 1e-6);
    }

    @ParameterizedTest
    @CsvSource({
        "adamw_hf,0.9,0.999,1e-8,0,--optim is adamw_hf",
        "sgd,1,0.999,1e-8,0,--adam_beta1 is 1.0",
        "sgd,0.9,-0.1,1e-8,0,--adam_beta2 is -0.1",
        "sgd,0.9,0.999,NaN,0,--adam_epsilon is NaN",
        "sgd,0.9,0.999,1e-8,-1,--weight_decay is -1.0"
    })
    void whatCannotBeNamesItsOption(String optim, double b1, double b2, double eps, double decay, String message) {
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> new OptimizerOptions(optim, b1, b2, eps, decay));
        assertTrue(e.getMessage().startsWith(message), e.getMessage());
    }
}
