package lapidary.bench;

import java.util.Locale;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
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

/** Matrix products through {@code Gemm}; {@code bench/reference/gemm_torch.py} times torch at the same shapes. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 3, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class GemmBenchmark {
    @Param({"F32", "BF16"})
    private String dtype;

    /** Kind, m, n, k. nt: a linear layer; nn: its dx; tn: its dw, F32, added up. */
    @Param({
        "nt 2048 2048 2048",
        "nt 512 6912 1152",
        "nt 200 2048 640",
        "nt 547 2048 640",
        "nt 1080 2048 640",
        "nt 1080 640 2048",
        "nt 1080 1024 640",
        "nt 1080 640 1024",
        "nt 1080 256 640",
        "nn 1080 640 2048",
        "nn 1080 2048 640",
        "nt 1080 16 640",
        "nt 1080 2048 16",
        "tn 16 640 1080",
        "tn 2048 16 1080",
        "nt 547 10240 2560",
        "nt 547 2560 10240",
        "nt 4096 1152 1152",
        "nt 256 262144 640"
    })
    private String product;

    private CpuDevice device;
    private Frame frame;
    private Tensor a;
    private Tensor b;
    private Tensor c;
    private boolean transposeA;
    private boolean transposeB;

    @Setup
    public void setUp() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        String[] parts = product.split(" ");
        int m = Integer.parseInt(parts[1]);
        int n = Integer.parseInt(parts[2]);
        int k = Integer.parseInt(parts[3]);
        transposeA = parts[0].startsWith("t");
        transposeB = parts[0].endsWith("t");
        DType in = DType.valueOf(dtype.toUpperCase(Locale.ROOT));
        a = random(in, transposeA ? k : m, transposeA ? m : k);
        b = random(in, transposeB ? n : k, transposeB ? k : n);
        c = frame.zeros(transposeA ? DType.F32 : in, m, n);
    }

    private Tensor random(DType type, int rows, int cols) {
        Random random = new Random(1);
        float[] values = new float[rows * cols];
        for (int i = 0; i < values.length; i++) {
            values[i] = random.nextFloat() - 0.5f;
        }
        Tensor x = frame.empty(type, Shape.of(rows, cols));
        frame.kernels().convert(x, frame.of(values, rows, cols), 1);
        return x;
    }

    @Benchmark
    public void multiply() {
        frame.gemm().multiply(c, a, transposeA, b, transposeB, Tensor.NONE, 1, transposeA);
    }

    @TearDown
    public void tearDown() {
        frame.close();
        device.close();
    }
}
