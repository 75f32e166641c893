package lapidary.bench;

import java.util.concurrent.TimeUnit;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Nf4Operand;
import lapidary.quant.DynamicMap;
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

/** Quantising a matrix of the 4b model, its scales, and restoring it: memory in and out. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 3, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class Nf4QuantizeBenchmark {
    private static final long VALUES = 10240 * 2560;

    @Param({"BF16", "F32"})
    private String dtype;

    private CpuDevice device;
    private Frame frame;
    private Tensor x;
    private Tensor packed;
    private Tensor absmax;
    private Tensor codes;
    private Tensor nestedAbsmax;
    private Tensor offset;
    private Tensor map;
    private Nf4Operand nested;

    @Setup
    public void setUp() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        x = Inputs.random(frame, DType.valueOf(dtype), VALUES);
        packed = frame.empty(DType.U8, Nf4Operand.packedBytes(VALUES));
        absmax = frame.empty(DType.F32, Nf4Operand.blocks(VALUES));
        codes = frame.empty(DType.U8, absmax.elements());
        nestedAbsmax = frame.empty(DType.F32, Nf4Operand.nestedBlocks(VALUES));
        offset = frame.empty(DType.F32, 1);
        map = frame.of(DynamicMap.signed(), Nf4Operand.NESTED_BLOCK);
        quantize();
        quantizeScales();
        nested = new Nf4Operand(packed, Tensor.NONE, codes, nestedAbsmax, map, offset.item(), 1, VALUES);
    }

    @TearDown
    public void tearDown() {
        frame.close();
        device.close();
    }

    @Benchmark
    public void quantize() {
        frame.kernels().nf4Quantize(packed, absmax, x, DType.BF16);
    }

    @Benchmark
    public void quantizeScales() {
        frame.kernels().nf4QuantizeAbsmax(codes, nestedAbsmax, offset, absmax, map);
    }

    @Benchmark
    public void dequantize() {
        frame.kernels().nf4Dequantize(x, nested, 0);
    }
}
