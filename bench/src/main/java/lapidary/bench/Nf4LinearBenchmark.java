package lapidary.bench;

import java.util.Random;
import java.util.concurrent.TimeUnit;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Nf4Operand;
import lapidary.quant.Nf4Tensor;
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

/** An NF4 linear layer with double quantisation beside the plain product of the same shape, and the restoring alone. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 3, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class Nf4LinearBenchmark {
    @Param({"BF16", "F32"})
    private String dtype;

    /** Rows, out, in. */
    @Param({
        "256 2048 640",
        "256 640 2048",
        "256 1024 640",
        "256 10240 2560",
        "256 2560 10240",
        "256 2560 2560",
        "1080 10240 2560",
        "4096 1152 1152",
        "4096 4304 1152",
        "4096 1152 4304"
    })
    private String shape;

    private CpuDevice device;
    private Frame frame;
    private Nf4Tensor weight;
    private Tensor plain;
    private Tensor x;
    private Tensor y;

    @Setup
    public void setUp() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        String[] parts = shape.split(" ");
        int rows = Integer.parseInt(parts[0]);
        int out = Integer.parseInt(parts[1]);
        int in = Integer.parseInt(parts[2]);
        DType type = DType.valueOf(dtype);
        Random random = new Random(1);
        int n = out * in;
        Tensor packed = bytes(random, Math.toIntExact(Nf4Operand.packedBytes(n)));
        Tensor codes = bytes(random, Math.toIntExact(Nf4Operand.blocks(n)));
        float[] scales = new float[Math.toIntExact(Nf4Operand.nestedBlocks(n))];
        float[] map = new float[Nf4Operand.NESTED_BLOCK];
        for (int i = 0; i < scales.length; i++) {
            scales[i] = 0.01f;
        }
        for (int i = 0; i < map.length; i++) {
            map[i] = (i - 127) / 128f;
        }
        weight = Nf4Tensor.nested(
                packed, codes, frame.of(scales, scales.length), frame.of(map, map.length), 0.02f, out, in);
        plain = frame.empty(type, out, in);
        weight.dequantize(plain, frame);
        float[] values = new float[rows * in];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) random.nextGaussian();
        }
        x = frame.empty(type, rows, in);
        frame.kernels().convert(x, frame.of(values, rows, in), 1);
        y = frame.zeros(type, rows, out);
    }

    private Tensor bytes(Random random, int n) {
        byte[] bytes = new byte[n];
        random.nextBytes(bytes);
        return frame.upload(java.lang.foreign.MemorySegment.ofArray(bytes), DType.U8, Shape.of(n));
    }

    @TearDown
    public void tearDown() {
        frame.close();
        device.close();
    }

    @Benchmark
    public void forward() {
        weight.multiply(y, x, Tensor.NONE, frame);
    }

    @Benchmark
    public void plainForward() {
        frame.gemm().linear(y, x, plain, Tensor.NONE);
    }

    @Benchmark
    public void backward() {
        weight.multiplyBackward(x, y, false, frame);
    }

    @Benchmark
    public void plainBackward() {
        frame.gemm().multiply(x, y, false, plain, false, Tensor.NONE, 1, false);
    }

    @Benchmark
    public void dequantize() {
        weight.dequantize(plain, frame);
    }
}
