package lapidary.bench;

import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import lapidary.autograd.Gradients;
import lapidary.autograd.Tape;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.op.LinearCrossEntropy;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/** The head of the 270m shape with its loss, over 1080 tokens with a target. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 1, time = 2)
@Measurement(iterations = 3, time = 3)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class LinearCrossEntropyBenchmark {
    private static final int TOKENS = 1080;
    private static final int SIZE = 640;
    private static final int VOCAB = 262144;

    @Param({"F32", "BF16"})
    private String dtype;

    @Param({"loss", "frozen head", "trained head"})
    private String mode;

    private CpuDevice device;
    private Frame frame;
    private Tensor hidden;
    private Tensor head;
    private int[] targets;

    @Setup
    public void setUp() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        hidden = random(TOKENS, 1);
        head = random(VOCAB, 0.1f);
        targets = new Random(2).ints(TOKENS, 0, VOCAB).toArray();
    }

    private Tensor random(int rows, float deviation) {
        Tensor x = frame.empty(DType.valueOf(dtype), Shape.of(rows, SIZE));
        Random random = new Random(1);
        float[] row = new float[SIZE];
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < SIZE; c++) {
                row[c] = (random.nextFloat() - 0.5f) * deviation;
            }
            try (Frame scratch = frame.child("row")) {
                frame.kernels().convert(x.slice(r, r + 1), scratch.of(row, 1, SIZE), 1);
            }
        }
        return x;
    }

    @Benchmark
    public float step() {
        List<Tensor> trained = mode.equals("trained head") ? List.of(hidden, head) : List.of(hidden);
        try (Frame step = frame.child("step")) {
            if (mode.equals("loss")) {
                return Tape.notRecording(step)
                        .run(new LinearCrossEntropy(hidden, head, targets, TOKENS, 0, null))
                        .item();
            }
            try (Gradients grads = new Gradients(step, trained);
                    Frame inner = step.child("tape")) {
                Tape tape = Tape.recording(inner, trained);
                Tensor loss = tape.run(new LinearCrossEntropy(hidden, head, targets, TOKENS, 0, grads));
                tape.backward(loss, grads);
                return loss.item();
            }
        }
    }

    @TearDown
    public void tearDown() {
        frame.close();
        device.close();
    }
}
