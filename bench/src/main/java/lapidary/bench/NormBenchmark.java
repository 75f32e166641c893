package lapidary.bench;

import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.op.RopeTable;
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
 * RMS norm of 512 x 2560 (a layer of the 4b text model) and of 512 x 8 heads of 256 that are rotated, layer norm of 4096 x
 * 1152 (one image in the vision tower).
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class NormBenchmark {
    private Device device;
    private Frame frame;
    private Tensor x;
    private Tensor y;
    private Tensor dy;
    private Tensor w;
    private Tensor rstd;
    private Tensor dw;
    private Tensor heads;
    private Tensor headsY;
    private Tensor headsDy;
    private Tensor headsW;
    private Tensor headsRstd;
    private Tensor headsDw;
    private Tensor pos;
    private RopeTable table;
    private Tensor image;
    private Tensor imageY;
    private Tensor imageDy;
    private Tensor imageW;
    private Tensor imageMean;
    private Tensor imageRstd;
    private Tensor imageDw;
    private Tensor imageDb;

    @Setup
    public void open() {
        device = CpuDevice.open();
        frame = Frame.root(device, "bench");
        x = Inputs.random(frame, DType.BF16, 512, 2560);
        y = Inputs.random(frame, DType.BF16, 512, 2560);
        dy = Inputs.random(frame, DType.BF16, 512, 2560);
        w = Inputs.random(frame, DType.BF16, 2560);
        rstd = Inputs.random(frame, DType.F32, 512);
        dw = Inputs.random(frame, DType.F32, 2560);
        heads = Inputs.random(frame, DType.BF16, 512, 2048);
        headsY = Inputs.random(frame, DType.BF16, 512, 2048);
        headsDy = Inputs.random(frame, DType.BF16, 512, 2048);
        headsW = Inputs.random(frame, DType.BF16, 256);
        headsRstd = Inputs.random(frame, DType.F32, 4096);
        headsDw = Inputs.random(frame, DType.F32, 256);
        pos = frame.of(IntStream.range(0, 512).toArray(), 512);
        table = RopeTable.of(frame, DType.BF16, 512, 256, 1e6, 8);
        image = Inputs.random(frame, DType.BF16, 4096, 1152);
        imageY = Inputs.random(frame, DType.BF16, 4096, 1152);
        imageDy = Inputs.random(frame, DType.BF16, 4096, 1152);
        imageW = Inputs.random(frame, DType.BF16, 1152);
        imageMean = Inputs.random(frame, DType.F32, 4096);
        imageRstd = Inputs.random(frame, DType.F32, 4096);
        imageDw = Inputs.random(frame, DType.F32, 1152);
        imageDb = Inputs.random(frame, DType.F32, 1152);
    }

    @TearDown
    public void close() {
        frame.close();
        device.close();
    }

    @Benchmark
    public void rmsNormForward() {
        frame.kernels().rmsNormForward(y, rstd, x, w, 1e-6f);
    }

    @Benchmark
    public void rmsNormBackward() {
        frame.kernels().rmsNormBackward(y, Tensor.NONE, dy, x, w, rstd, false);
    }

    @Benchmark
    public void rmsNormBackwardWeight() {
        frame.kernels().rmsNormBackward(Tensor.NONE, dw, dy, x, w, rstd, false);
    }

    /** With the sum that follows it. */
    @Benchmark
    public void rmsNormAddForward() {
        frame.kernels().rmsNormAddForward(y, rstd, x, w, dy, 1e-6f);
    }

    /** Into a sum. */
    @Benchmark
    public void rmsNormBackwardAdding() {
        frame.kernels().rmsNormBackward(y, Tensor.NONE, dy, x, w, rstd, true);
    }

    @Benchmark
    public void rmsNormRopeForward() {
        frame.kernels().rmsNormRopeForward(headsY, headsRstd, heads, headsW, table.cos(), table.sin(), pos, 1e-6f);
    }

    @Benchmark
    public void rmsNormRopeBackward() {
        backward(headsY, Tensor.NONE);
    }

    @Benchmark
    public void rmsNormRopeBackwardWeight() {
        backward(Tensor.NONE, headsDw);
    }

    private void backward(Tensor dx, Tensor ofWeight) {
        frame.kernels()
                .rmsNormRopeBackward(dx, ofWeight, headsDy, heads, headsW, table.cos(), table.sin(), pos, headsRstd);
    }

    @Benchmark
    public void layerNormForward() {
        frame.kernels().layerNormForward(imageY, imageMean, imageRstd, image, imageW, imageW, 1e-6f);
    }

    @Benchmark
    public void layerNormBackward() {
        frame.kernels()
                .layerNormBackward(imageY, Tensor.NONE, Tensor.NONE, imageDy, image, imageW, imageMean, imageRstd);
    }

    @Benchmark
    public void layerNormBackwardWeights() {
        frame.kernels().layerNormBackward(Tensor.NONE, imageDw, imageDb, imageDy, image, imageW, imageMean, imageRstd);
    }
}
