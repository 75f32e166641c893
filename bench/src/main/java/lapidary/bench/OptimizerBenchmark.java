package lapidary.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import lapidary.device.Adamw8bitTensor;
import lapidary.device.AdamwStep;
import lapidary.device.AdamwTensor;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.quant.DynamicMap;
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

/**
 * One step of a table of 3277 x 2560, an eightieth of Gemma 3 4b's output head, and of adapters of rank 16 in one call: as
 * many elements as 64 matrices of [16, 2560] have.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class OptimizerBenchmark {
    private static final long ROWS = 3277;
    private static final long COLS = 2560;
    private static final long BLOCK = 256;
    private static final AdamwStep STEP = new AdamwStep(1e-5, 0.9, 0.999, 1e-8, 0.01, 0.1, 0.001, 1);

    private Device device;
    private Frame frame;
    private Tensor whole;
    private Tensor high;
    private Tensor low;
    private Tensor m;
    private Tensor v;
    private Tensor grad;
    private Tensor codedM;
    private Tensor codedV;
    private Tensor absmaxM;
    private Tensor absmaxV;
    private Tensor signed;
    private Tensor unsigned;
    private final List<AdamwTensor> adapters = new ArrayList<>();

    @Setup
    public void open() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        whole = Inputs.random(frame, DType.F32, ROWS, COLS);
        grad = Inputs.random(frame, DType.F32, ROWS, COLS);
        high = Inputs.random(frame, DType.BF16, ROWS, COLS);
        low = frame.zeros(DType.I16, ROWS, COLS);
        m = frame.zeros(DType.F32, ROWS, COLS);
        v = frame.zeros(DType.F32, ROWS, COLS);
        codedM = frame.zeros(DType.U8, ROWS, COLS);
        codedV = frame.zeros(DType.U8, ROWS, COLS);
        absmaxM = frame.zeros(DType.F32, Math.ceilDiv(ROWS * COLS, BLOCK));
        absmaxV = frame.zeros(DType.F32, Math.ceilDiv(ROWS * COLS, BLOCK));
        signed = frame.of(DynamicMap.signed(), BLOCK);
        unsigned = frame.of(DynamicMap.unsigned(), BLOCK);
        for (int i = 0; i < 64; i++) {
            adapters.add(new AdamwTensor(
                    Inputs.random(frame, DType.F32, 16, COLS),
                    Tensor.NONE,
                    frame.zeros(DType.F32, 16, COLS),
                    frame.zeros(DType.F32, 16, COLS),
                    Inputs.random(frame, DType.F32, 16, COLS)));
        }
    }

    @TearDown
    public void close() {
        frame.close();
        device.close();
    }

    @Benchmark
    public void adamw() {
        frame.kernels().adamw(List.of(new AdamwTensor(whole, Tensor.NONE, m, v, grad)), STEP);
    }

    @Benchmark
    public void adamwSplitMaster() {
        frame.kernels().adamw(List.of(new AdamwTensor(high, low, m, v, grad)), STEP);
    }

    @Benchmark
    public void adamw8bitSplitMaster() {
        frame.kernels()
                .adamw8bit(
                        List.of(new Adamw8bitTensor(high, low, codedM, absmaxM, codedV, absmaxV, grad)),
                        signed,
                        unsigned,
                        STEP);
    }

    @Benchmark
    public void adamwOfAdapters() {
        frame.kernels().adamw(adapters, STEP);
    }

    /** The same, a call each. */
    @Benchmark
    public void adamwOfEachAdapter() {
        for (AdamwTensor adapter : adapters) {
            frame.kernels().adamw(List.of(adapter), STEP);
        }
    }

    @Benchmark
    public void sgdSplitMaster() {
        frame.kernels().sgd(high, low, grad, 1e-5, 0.01, 1);
    }
}
