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

/** Rows of 512 tokens x 2560, norm and rotation of 8 heads of 256, and what an image of 4096 x 1152 needs around its tower. */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class RowsBenchmark {
    private Device device;
    private Frame frame;
    private Tensor table;
    private Tensor ids;
    private Tensor slots;
    private Tensor x;
    private Tensor y;
    private Tensor drows;
    private Tensor heads;
    private Tensor rotated;
    private Tensor dHeads;
    private Tensor headWeight;
    private Tensor rstd;
    private Tensor cos;
    private Tensor sin;
    private Tensor pos;
    private Tensor image;
    private Tensor imageY;
    private Tensor pooled;
    private Tensor bias;
    private Tensor pixels;
    private Tensor patches;

    @Setup
    public void open() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        table = Inputs.random(frame, DType.BF16, 32768, 2560);
        ids = Inputs.indices(frame, 512, 32768);
        slots = Inputs.indices(frame, 512, 300);
        x = Inputs.random(frame, DType.BF16, 512, 2560);
        y = Inputs.random(frame, DType.BF16, 512, 2560);
        drows = Inputs.random(frame, DType.F32, 300, 2560);
        heads = Inputs.random(frame, DType.BF16, 512, 2048);
        rotated = Inputs.random(frame, DType.BF16, 512, 2048);
        dHeads = Inputs.random(frame, DType.BF16, 512, 2048);
        headWeight = Inputs.random(frame, DType.BF16, 256);
        rstd = Inputs.random(frame, DType.F32, 512 * 8);
        cos = Inputs.random(frame, DType.F32, 512, 128);
        sin = Inputs.random(frame, DType.F32, 512, 128);
        pos = Inputs.indices(frame, 512, 512);
        image = Inputs.random(frame, DType.BF16, 4096, 1152);
        imageY = Inputs.random(frame, DType.BF16, 4096, 1152);
        pooled = Inputs.random(frame, DType.BF16, 256, 1152);
        bias = Inputs.random(frame, DType.F32, 1152);
        pixels = Inputs.random(frame, DType.F32, 1, 3, 896, 896);
        patches = Inputs.random(frame, DType.BF16, 4096, 588);
    }

    @TearDown
    public void close() {
        frame.close();
        device.close();
    }

    @Benchmark
    public void embeddingForward() {
        frame.kernels().embeddingForward(y, table, ids, 50.5f);
    }

    @Benchmark
    public void embeddingBackward() {
        frame.kernels().embeddingBackward(drows, x, slots, 50.5f);
    }

    @Benchmark
    public void gatherRows() {
        frame.kernels().gatherRows(y, table, ids);
    }

    @Benchmark
    public void rmsNormRopeForward() {
        frame.kernels().rmsNormRopeForward(rotated, rstd, heads, headWeight, cos, sin, pos, 1e-6f);
    }

    @Benchmark
    public void rmsNormRopeBackward() {
        frame.kernels().rmsNormRopeBackward(dHeads, Tensor.NONE, rotated, heads, headWeight, cos, sin, pos, rstd);
    }

    @Benchmark
    public void addRows() {
        frame.kernels().addRows(imageY, image, imageY);
    }

    @Benchmark
    public void sumRows() {
        frame.kernels().sumRows(bias, image);
    }

    @Benchmark
    public void patchUnfold() {
        frame.kernels().patchUnfold(patches, pixels, 1, 3, 896, 14);
    }

    @Benchmark
    public void averagePoolForward() {
        frame.kernels().averagePoolForward(pooled, image, 1, 64, 4);
    }

    @Benchmark
    public void averagePoolBackward() {
        frame.kernels().averagePoolBackward(imageY, pooled, 1, 64, 4);
    }
}
