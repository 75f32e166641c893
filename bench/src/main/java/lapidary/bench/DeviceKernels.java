package lapidary.bench;

import java.io.PrintStream;
import java.util.Arrays;
import java.util.Locale;
import java.util.Random;
import lapidary.device.AttentionShape;
import lapidary.device.CpuDevice;
import lapidary.device.CudaDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.Kernels;
import lapidary.device.Nf4Operand;
import lapidary.quant.Nf4Tensor;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/**
 * The kernels that a step of gemma-3-4b-it is made of, at the guide's shapes, on the device that the first argument names
 * ({@code cuda} or {@code cpu}); a second argument divides the sizes, for a try on a small machine. A line of JSON each:
 * median milliseconds of a call, GFLOP/s, and GB/s of what must be read and written. Calls are queued in batches and
 * waited for once, so that a device that works behind the host's back is timed right.
 */
public final class DeviceKernels {
    private static final int BATCHES = 7;
    private static final float DROPOUT = 0.05f;

    private final Frame frame;
    private final int divisor;
    private final PrintStream out;
    private final Tensor witness;

    private DeviceKernels(Frame frame, int divisor, PrintStream out) {
        this.frame = frame;
        this.divisor = divisor;
        this.out = out;
        this.witness = frame.zeros(DType.F32, 1);
    }

    /** See the class. */
    public static void main(String[] args) {
        int divisor = args.length > 1 ? Integer.parseInt(args[1]) : 1;
        try (Device device = args[0].equals("cuda") ? CudaDevice.open() : CpuDevice.open();
                Frame frame = Frame.root(device, "bench")) {
            System.out.printf("{\"device\": \"%s\"}%n", device.describe());
            new DeviceKernels(frame, divisor, System.out).run();
        }
    }

    private void run() {
        copy();
        for (int[] shape : new int[][] {
            {8192, 8192, 8192},
            {4096, 10240, 2560},
            {4096, 2560, 10240},
            {4096, 16, 2560},
            {4096, 2560, 16},
            {256, 262208, 2560}
        }) {
            product(shape[0], shape[1], shape[2]);
        }
        nf4(10240, 2560);
        nf4(4304, 1152);
        for (long tokens : new long[] {4096, 32768}) {
            for (long in : new long[] {2560, 10240, 1152}) {
                adapter(tokens, in);
            }
        }
        attention("vision", 8, 4096, new AttentionShape(16, 16, 72, 0.11785f, false, 0));
        attention("text global", 8, 600, new AttentionShape(8, 4, 256, 0.0625f, true, 0));
        attention("text window 1024", 1, 4096, new AttentionShape(8, 4, 256, 0.0625f, true, 1024));
        attention("text global long", 1, 4096, new AttentionShape(8, 4, 256, 0.0625f, true, 0));
        elementwise();
    }

    /** F32 to F32: what memory gives at best. */
    private void copy() {
        long n = (1L << 28) / divisor;
        try (Frame inner = frame.child("copy")) {
            Tensor x = inner.empty(DType.F32, n);
            Tensor y = inner.empty(DType.F32, n);
            frame.kernels().zero(x);
            measure("copy", "F32 " + n, 0, 8 * n, () -> frame.kernels().convert(y, x, 1));
        }
    }

    private void product(long m, long n, long k) {
        long rows = Math.max(1, m / divisor);
        long cols = Math.max(1, n / divisor);
        try (Frame inner = frame.child("product")) {
            Tensor x = random(inner, rows, k);
            Tensor w = random(inner, cols, k);
            Tensor y = inner.empty(DType.BF16, rows, cols);
            measure(
                    "gemm",
                    "BF16 " + rows + "x" + cols + "x" + k,
                    2.0 * rows * cols * k,
                    2 * (rows * k + cols * k + rows * cols),
                    () -> frame.gemm().linear(y, x, w, Tensor.NONE));
        }
    }

    private void nf4(long out, long in) {
        long rows = Math.max(1, 4096 / divisor);
        long n = out * in;
        Random random = new Random(1);
        try (Frame inner = frame.child("nf4")) {
            float[] scales = new float[Math.toIntExact(Nf4Operand.nestedBlocks(n))];
            Arrays.fill(scales, 0.01f);
            float[] map = new float[Nf4Operand.NESTED_BLOCK];
            for (int i = 0; i < map.length; i++) {
                map[i] = (i - 127) / 128f;
            }
            Nf4Tensor w = Nf4Tensor.nested(
                    bytes(inner, random, Nf4Operand.packedBytes(n)),
                    bytes(inner, random, Nf4Operand.blocks(n)),
                    inner.of(scales, scales.length),
                    inner.of(map, map.length),
                    0.02f,
                    out,
                    in);
            Tensor plain = inner.empty(DType.BF16, out, in);
            measure("nf4 dequantize", out + "x" + in, 0, w.bytes() + 2 * n, () -> w.dequantize(plain, inner));
            Tensor x = random(inner, rows, in);
            Tensor y = inner.empty(DType.BF16, rows, out);
            double flops = 2.0 * rows * n;
            String shape = "BF16 " + rows + "x" + out + "x" + in;
            measure("nf4 linear", shape, flops, 0, () -> w.multiply(y, x, Tensor.NONE, inner));
            measure("nf4 linear backward", shape, flops, 0, () -> w.multiplyBackward(x, y, false, inner));
            Tensor one = x.slice(0, 1);
            Tensor few = y.slice(0, 1);
            measure(
                    "nf4 linear",
                    "BF16 1x" + out + "x" + in,
                    2.0 * n,
                    w.bytes(),
                    () -> w.multiply(few, one, Tensor.NONE, inner));
        }
    }

    /** An adapter's products with A: dropout drawn on the way, and of a dropped copy, each with the bytes that it moves. */
    private void adapter(long tokens, long in) {
        long rows = Math.max(1, tokens / divisor);
        long rank = 16;
        try (Frame inner = frame.child("adapter")) {
            Tensor x = random(inner, rows, in);
            Tensor copy = inner.emptyLike(x);
            Tensor a = random(inner, rank, in);
            Tensor down = inner.empty(DType.BF16, rows, rank);
            Tensor ddown = random(inner, rows, rank);
            Tensor da = inner.zeros(DType.F32, rank, in);
            String shape = "BF16 " + rows + "x" + in + " rank " + rank;
            double flops = 2.0 * rows * in * rank;
            long wide = 2 * rows * in;
            long narrow = 2 * (rows + in) * rank;
            long gradient = 2 * rows * rank + 8 * in * rank;
            Kernels kernels = frame.kernels();
            measure(
                    "lora down joined",
                    shape,
                    flops,
                    wide + narrow,
                    () -> kernels.loraDownForward(down, x, a, DROPOUT, 1, 2));
            measure("lora down of a copy", shape, flops, 3 * wide + narrow, () -> {
                kernels.dropout(copy, x, DROPOUT, 1, 2);
                frame.gemm().linear(down, copy, a, Tensor.NONE);
            });
            measure(
                    "lora da joined",
                    shape,
                    flops,
                    wide + gradient,
                    () -> kernels.loraDownBackwardWeight(da, ddown, x, DROPOUT, 1, 2, true));
            measure("lora da of a copy", shape, flops, 3 * wide + gradient, () -> {
                kernels.dropout(copy, x, DROPOUT, 1, 2);
                frame.gemm().multiply(da, ddown, true, copy, false, Tensor.NONE, 1, true);
            });
            measure(
                    "lora dx joined",
                    shape,
                    flops,
                    wide + narrow,
                    () -> kernels.loraDownBackwardInput(copy, ddown, a, DROPOUT, 1, 2));
            measure("lora dx in two passes", shape, flops, 3 * wide + narrow, () -> {
                frame.gemm().multiply(copy, ddown, false, a, false, Tensor.NONE, 1, false);
                kernels.dropout(copy, copy, DROPOUT, 1, 2);
            });
        }
    }

    private void attention(String name, int rows, int length, AttentionShape shape) {
        int each = Math.max(1, length / divisor);
        long tokens = (long) rows * each;
        try (Frame inner = frame.child("attention")) {
            long wide = (long) shape.heads() * shape.headDim();
            long narrow = (long) shape.kvHeads() * shape.headDim();
            Tensor q = random(inner, tokens, wide);
            Tensor k = random(inner, tokens, narrow);
            Tensor v = random(inner, tokens, narrow);
            Tensor dy = random(inner, tokens, wide);
            Tensor y = inner.empty(DType.BF16, tokens, wide);
            Tensor dq = inner.empty(DType.BF16, tokens, wide);
            Tensor dk = inner.empty(DType.BF16, tokens, narrow);
            Tensor dv = inner.empty(DType.BF16, tokens, narrow);
            Tensor lse = inner.empty(DType.F32, tokens, shape.heads());
            int[] starts = new int[rows + 1];
            Arrays.setAll(starts, r -> r * each);
            Tensor first = inner.of(starts, starts.length);
            double pairs = 0; // that the mask lets through
            for (int i = 0; i < each; i++) {
                pairs += !shape.causal() ? each : shape.window() == 0 ? i + 1 : Math.min(i + 1, shape.window());
            }
            double flops = 4.0 * rows * pairs * wide;
            String what = "BF16 " + rows + "x" + each + " heads " + shape.heads() + "/" + shape.kvHeads() + " of "
                    + shape.headDim();
            measure("attention " + name, what, flops, 0, () -> frame.kernels()
                    .attentionForward(y, lse, q, k, v, first, Tensor.NONE, shape));
            measure("attention backward " + name, what, 2.5 * flops, 0, () -> frame.kernels()
                    .attentionBackward(dq, dk, dv, dy, q, k, v, y, lse, first, Tensor.NONE, shape));
        }
    }

    private void elementwise() {
        long rows = Math.max(1, 4096 / divisor);
        try (Frame inner = frame.child("elementwise")) {
            Tensor x = random(inner, rows, 2560);
            Tensor y = inner.emptyLike(x);
            Tensor weight = random(inner, 1, 2560);
            Tensor rstd = inner.empty(DType.F32, rows);
            measure("rms norm", "BF16 " + rows + "x2560", 0, 4 * rows * 2560, () -> frame.kernels()
                    .rmsNormForward(y, rstd, x, weight.reshape(2560), 1e-6f));
            Tensor gate = random(inner, rows, 10240);
            Tensor up = random(inner, rows, 10240);
            Tensor product = inner.emptyLike(gate);
            measure("geglu", "BF16 " + rows + "x10240", 0, 6 * rows * 10240, () -> frame.kernels()
                    .gegluForward(product, gate, up));
        }
    }

    private Tensor random(Frame owner, long... axes) {
        return Inputs.random(owner, DType.BF16, axes);
    }

    private static Tensor bytes(Frame owner, Random random, long n) {
        byte[] bytes = new byte[Math.toIntExact(n)];
        random.nextBytes(bytes);
        return owner.upload(java.lang.foreign.MemorySegment.ofArray(bytes), DType.U8, Shape.of(n));
    }

    private void measure(String kernel, String shape, double flops, long bytes, Runnable call) {
        call.run();
        witness.item();
        long start = System.nanoTime();
        call.run();
        witness.item();
        double once = (System.nanoTime() - start) / 1e9;
        int calls = (int) Math.max(1, Math.min(100, 0.05 / Math.max(once, 1e-6)));
        double[] seconds = new double[BATCHES];
        for (int batch = 0; batch < BATCHES; batch++) {
            start = System.nanoTime();
            for (int i = 0; i < calls; i++) {
                call.run();
            }
            witness.item(); // waits for all of them
            seconds[batch] = (System.nanoTime() - start) / 1e9 / calls;
        }
        Arrays.sort(seconds);
        double median = seconds[BATCHES / 2];
        out.printf(
                Locale.ROOT,
                "{\"kernel\": \"%s\", \"shape\": \"%s\", \"ms\": %.4f, \"gflops\": %.1f, \"gbytes\": %.1f, \"spread\": %.3f}%n",
                kernel,
                shape,
                median * 1e3,
                flops / median / 1e9,
                bytes / median / 1e9,
                (seconds[BATCHES - 1] - seconds[0]) / median);
        out.flush();
    }
}
