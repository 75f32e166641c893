package lapidary.bench;

import java.util.concurrent.TimeUnit;
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
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/** What moves a hidden state of 512 x 2560 once: bytes of a call are 2 or 4 an element read or written. */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class ElementwiseBenchmark {
    private static final long TOKENS = 512;
    private static final long HIDDEN = 2560;

    private Device device;
    private Frame frame;
    private Tensor a;
    private Tensor b;
    private Tensor y;
    private Tensor wide;
    private Tensor wideY;

    @Setup
    public void open() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        a = Inputs.random(frame, DType.BF16, TOKENS, HIDDEN);
        b = Inputs.random(frame, DType.BF16, TOKENS, HIDDEN);
        y = Inputs.random(frame, DType.BF16, TOKENS, HIDDEN);
        wideY = Inputs.random(frame, DType.F32, TOKENS, HIDDEN);
        wide = Inputs.random(frame, DType.F32, TOKENS, HIDDEN);
    }

    @TearDown
    public void close() {
        frame.close();
        device.close();
    }

    @Benchmark
    public void add() {
        frame.kernels().add(y, a, b);
    }

    @Benchmark
    public void accumulate() {
        frame.kernels().accumulate(y, a);
    }

    @Benchmark
    public void widen() {
        frame.kernels().convert(wide, a, 1);
    }

    @Benchmark
    public void narrow() {
        frame.kernels().convert(y, wide, 1);
    }

    @Benchmark
    public void dropout() {
        frame.kernels().dropout(y, a, 0.05f, 1, 2);
    }

    @Benchmark
    public void dropoutF32() {
        frame.kernels().dropout(wideY, wide, 0.05f, 1, 2);
    }
}
