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

/** An adapter's products with its A of rank 16, dropout inside: x of 512 x 2560 (a layer of the 4b text model). */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class LoraDownBenchmark {
    private static final float P = 0.05f;

    private Device device;
    private Frame frame;
    private Tensor x;
    private Tensor a;
    private Tensor down;
    private Tensor da;

    @Setup
    public void open() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        x = Inputs.random(frame, DType.BF16, 512, 2560);
        a = Inputs.random(frame, DType.BF16, 16, 2560);
        down = Inputs.random(frame, DType.BF16, 512, 16);
        da = Inputs.random(frame, DType.F32, 16, 2560);
    }

    @TearDown
    public void close() {
        frame.close();
        device.close();
    }

    @Benchmark
    public void loraDownForward() {
        frame.kernels().loraDownForward(down, x, a, P, 1, 2);
    }

    @Benchmark
    public void loraDownBackwardWeight() {
        frame.kernels().loraDownBackwardWeight(da, down, x, P, 1, 2, false);
    }

    @Benchmark
    public void loraDownBackwardInput() {
        frame.kernels().loraDownBackwardInput(x, down, a, P, 1, 2);
    }
}
