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

/** Geglu of 512 x 10240 (the 4b text model's MLP), gelu of 4096 x 4304 (one image in the vision tower's). */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class GeluBenchmark {
    private Device device;
    private Frame frame;
    private Tensor gate;
    private Tensor up;
    private Tensor y;
    private Tensor dup;
    private Tensor x;
    private Tensor dy;
    private Tensor dx;

    @Setup
    public void open() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        gate = Inputs.random(frame, DType.BF16, 512, 10240);
        up = Inputs.random(frame, DType.BF16, 512, 10240);
        y = Inputs.random(frame, DType.BF16, 512, 10240);
        dup = Inputs.random(frame, DType.BF16, 512, 10240);
        x = Inputs.random(frame, DType.BF16, 4096, 4304);
        dy = Inputs.random(frame, DType.BF16, 4096, 4304);
        dx = Inputs.random(frame, DType.BF16, 4096, 4304);
    }

    @TearDown
    public void close() {
        frame.close();
        device.close();
    }

    @Benchmark
    public void gegluForward() {
        frame.kernels().gegluForward(y, gate, up);
    }

    @Benchmark
    public void gegluBackward() {
        frame.kernels().gegluBackward(y, dup, up, gate, up);
    }

    @Benchmark
    public void geluForward() {
        frame.kernels().geluForward(dx, x);
    }

    @Benchmark
    public void geluBackward() {
        frame.kernels().geluBackward(dx, dy, x);
    }
}
