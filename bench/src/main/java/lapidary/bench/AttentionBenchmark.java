package lapidary.bench;

import java.util.Arrays;
import java.util.concurrent.TimeUnit;
import lapidary.device.AttentionShape;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Frame;
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

/** Attention of one layer, at the shapes of the 4b and 270m text models and of vision towers. */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class AttentionBenchmark {
    /** Rows of equal length and how their tokens see each other. */
    public enum Case {
        SIGLIP_4096(1, 4096, new AttentionShape(16, 16, 72, 0.11785f, false, 0)),
        PATCHES_8X256(8, 256, new AttentionShape(6, 6, 64, 0.125f, false, 0)),
        TEXT_4B_1100_GLOBAL(1, 1100, new AttentionShape(8, 4, 256, 0.0625f, true, 0)),
        TEXT_4B_1100_WINDOW_512(1, 1100, new AttentionShape(8, 4, 256, 0.0625f, true, 512)),
        TEXT_4B_4X300(4, 300, new AttentionShape(8, 4, 256, 0.0625f, true, 1024)),
        TEXT_270M_2X500(2, 500, new AttentionShape(4, 1, 256, 0.0625f, true, 512));

        final int rows;
        final int length;
        final AttentionShape shape;

        Case(int rows, int length, AttentionShape shape) {
            this.rows = rows;
            this.length = length;
            this.shape = shape;
        }
    }

    @Param
    public Case layer;

    @Param({"BF16", "F32"})
    public DType dtype;

    private Device device;
    private Frame frame;
    private Tensor q;
    private Tensor k;
    private Tensor v;
    private Tensor y;
    private Tensor dy;
    private Tensor dq;
    private Tensor dk;
    private Tensor dv;
    private Tensor lse;
    private Tensor starts;

    @Setup
    public void open() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        long tokens = (long) layer.rows * layer.length;
        long wide = (long) layer.shape.heads() * layer.shape.headDim();
        long narrow = (long) layer.shape.kvHeads() * layer.shape.headDim();
        q = Inputs.random(frame, dtype, tokens, wide);
        k = Inputs.random(frame, dtype, tokens, narrow);
        v = Inputs.random(frame, dtype, tokens, narrow);
        dy = Inputs.random(frame, dtype, tokens, wide);
        y = frame.empty(dtype, tokens, wide);
        dq = frame.empty(dtype, tokens, wide);
        dk = frame.empty(dtype, tokens, narrow);
        dv = frame.empty(dtype, tokens, narrow);
        lse = frame.empty(DType.F32, tokens, layer.shape.heads());
        int[] first = new int[layer.rows + 1];
        Arrays.setAll(first, r -> r * layer.length);
        starts = frame.of(first, first.length);
        forward();
    }

    @TearDown
    public void close() {
        frame.close();
        device.close();
    }

    @Benchmark
    public void forward() {
        frame.kernels().attentionForward(y, lse, q, k, v, starts, Tensor.NONE, layer.shape);
    }

    @Benchmark
    public void backward() {
        frame.kernels().attentionBackward(dq, dk, dv, dy, q, k, v, y, lse, starts, Tensor.NONE, layer.shape);
    }
}
