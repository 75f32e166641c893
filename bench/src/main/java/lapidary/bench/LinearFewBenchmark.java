package lapidary.bench;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Nf4Operand;
import lapidary.quant.DenseWeight;
import lapidary.quant.LinearWeight;
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

/**
 * Linear layers of few rows, as decoding runs them: BF16 and F32 matrices, and NF4 with BF16 activations. The matrices come in
 * turn from 256 MiB, so that they come from memory.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 3, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class LinearFewBenchmark {
    private static final long BYTES = 256L << 20;

    @Param({"BF16", "F32", "NF4"})
    private String weights;

    @Param({"1", "4", "8", "16"})
    private int rows;

    /** Out, in. */
    @Param({"2048 640", "640 2048", "10240 2560"})
    private String shape;

    private CpuDevice device;
    private Frame frame;
    private final List<LinearWeight> matrices = new ArrayList<>();
    private int next;
    private Tensor x;
    private Tensor y;

    @Setup
    public void setUp() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        String[] parts = shape.split(" ");
        int out = Integer.parseInt(parts[0]);
        int in = Integer.parseInt(parts[1]);
        boolean nf4 = weights.equals("NF4");
        DType type = nf4 ? DType.BF16 : DType.valueOf(weights);
        long bytes = nf4 ? (long) out * in / 2 : (long) out * in * type.bytes();
        Random random = new Random(1);
        for (long held = 0; held < BYTES; held += bytes) {
            matrices.add(nf4 ? nf4(random, out, in) : new DenseWeight(dense(type, out, in)));
        }
        x = dense(type, rows, in);
        y = frame.zeros(type, rows, out);
    }

    private Tensor dense(DType type, int rows, int cols) {
        float[] values = new float[rows * cols];
        for (int i = 0; i < values.length; i++) {
            values[i] = (i % 1009 - 504) / 504f;
        }
        Tensor tensor = frame.empty(type, rows, cols);
        try (Frame scratch = frame.child("values")) {
            scratch.kernels().convert(tensor, scratch.of(values, rows, cols), 1);
        }
        return tensor;
    }

    private Nf4Tensor nf4(Random random, int out, int in) {
        int n = out * in;
        float[] scales = new float[Math.toIntExact(Nf4Operand.nestedBlocks(n))];
        float[] map = new float[Nf4Operand.NESTED_BLOCK];
        Arrays.fill(scales, 0.01f);
        for (int i = 0; i < map.length; i++) {
            map[i] = (i - 127) / 128f;
        }
        return Nf4Tensor.nested(
                bytes(random, Math.toIntExact(Nf4Operand.packedBytes(n))),
                bytes(random, Math.toIntExact(Nf4Operand.blocks(n))),
                frame.of(scales, scales.length),
                frame.of(map, map.length),
                0.02f,
                out,
                in);
    }

    private Tensor bytes(Random random, int n) {
        byte[] bytes = new byte[n];
        random.nextBytes(bytes);
        return frame.upload(MemorySegment.ofArray(bytes), DType.U8, Shape.of(n));
    }

    @TearDown
    public void tearDown() {
        frame.close();
        device.close();
    }

    @Benchmark
    public void multiply() {
        matrices.get(next).multiply(y, x, Tensor.NONE, frame);
        next = (next + 1) % matrices.size();
    }
}
