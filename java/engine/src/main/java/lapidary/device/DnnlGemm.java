package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import lapidary.ffi.dnnl.Dnnl;
import lapidary.ffi.dnnl.dnnl_exec_arg_t;
import lapidary.ffi.dnnl.dnnl_version_t;

/**
 * Matrix products of oneDNN on the host's processor. Operands lie as they are: a transposed one is described by its
 * strides. Primitives are kept by shape, the least recently used go; which primitive computes a product depends on its
 * shape alone, so equal inputs give equal bits.
 *
 * <p>A primitive for BF16 on AMX costs 2 to 20 ms and up to 1.8 MiB (2 vCPU Xeon with AMX, 2026-11-25; F32: 1 ms and
 * 20 KiB), and the number of tokens differs from step to step. So, where rows come from tokens and the weight is not
 * large, one primitive serves any number of rows; and an F32 sum over tokens is cut at a multiple of {@value #CUT}, so
 * that few lengths occur. Measurements: {@code bench/results/gemm.md}.
 */
final class DnnlGemm implements Gemm, AutoCloseable {
    /**
     * What kept primitives may weigh together, in units of about 100 KiB: the shapes of a model at some dozen sequence
     * lengths.
     */
    private static final int CAPACITY = 1024;

    /** Tokens are cut at multiples of this: the tile rows of AMX, twice double-buffered. */
    private static final long CUT = 64;

    /**
     * From this many weights on an exact primitive is worth its price: 26 ms against 44 ms at 1080 x 2560 x 10240, but
     * 2.2 ms against 1.4 ms at 1080 x 640 x 2048.
     */
    private static final long LARGE_WEIGHT = 4 << 20;

    /** Up to this many rows, as decoding has, memory is what a product waits for, and it is left to a kernel that reads it once. */
    private static final long FEW_ROWS = 16;

    private final Kernels kernels;
    private final MemoryPool pool;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment engine;
    private final MemorySegment stream;
    private final MemorySegment args;
    private final boolean hasBf16;
    private final boolean hasAmx;
    private final Map<DnnlMatmul.Spec, DnnlMatmul> primitives = new LinkedHashMap<>(64, 0.75f, true);
    private int weight;
    private final Buffer scratch = new Buffer();
    private final Buffer wideA = new Buffer();
    private final Buffer wideB = new Buffer();
    private final Buffer wideBias = new Buffer();
    private final Buffer wideC = new Buffer();

    /**
     * @param kernels give memory, and convert where the processor has no BF16 products
     * @param pool makes room where there is no memory left for a product's own needs
     */
    DnnlGemm(Kernels kernels, MemoryPool pool) {
        this.kernels = kernels;
        this.pool = pool;
        // Our own map decides what lives: oneDNN's cache would keep what we give up.
        DnnlMatmul.check("set the cache", Dnnl.dnnl_set_primitive_cache_capacity(0));
        MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
        DnnlMatmul.check("create an engine", Dnnl.dnnl_engine_create(out, Dnnl.dnnl_cpu(), 0));
        engine = out.get(ValueLayout.ADDRESS, 0);
        DnnlMatmul.check("create a stream", Dnnl.dnnl_stream_create(out, engine, Dnnl.dnnl_stream_default_flags()));
        stream = out.get(ValueLayout.ADDRESS, 0);
        args = dnnl_exec_arg_t.allocateArray(5, arena);
        int isa = Dnnl.dnnl_get_effective_cpu_isa();
        hasBf16 = has(isa, Dnnl.dnnl_cpu_isa_avx512_core()) || has(isa, Dnnl.dnnl_cpu_isa_avx2_vnni_2());
        hasAmx = has(isa, Dnnl.dnnl_cpu_isa_avx512_core_amx());
    }

    private static boolean has(int isa, int required) {
        return (isa & required) == required;
    }

    @Override
    public void multiply(
            Operand c,
            Operand a,
            boolean transposeA,
            Operand b,
            boolean transposeB,
            Operand bias,
            float factor,
            boolean accumulate) {
        GemmShape shape = GemmShape.of(c, a, transposeA, b, transposeB, bias, factor);
        long m = shape.m();
        long n = shape.n();
        long k = shape.k();
        if (m == 0 || n == 0) {
            return;
        }
        MemorySegment cData = c.segment();
        MemorySegment aData = a.segment();
        MemorySegment bData = b.segment();
        MemorySegment biasData = bias.segment();
        boolean hasBias = !bias.isNone();
        if (k == 0) {
            addNothing(cData, c.dtype(), m, n, biasData, bias.dtype(), accumulate);
        } else if (m <= FEW_ROWS && !transposeA && transposeB && factor == 1) {
            kernels.linearFew(c, a, b, bias, accumulate);
        } else if (a.dtype() == DType.BF16 && !hasBf16) {
            widened(c, a, transposeA, b, transposeB, bias, factor, accumulate);
        } else if (transposeA && !transposeB && c.dtype() == DType.F32 && k > CUT && k % CUT != 0) {
            long main = k / CUT * CUT;
            DnnlMatmul.Spec first =
                    new DnnlMatmul.Spec(m, n, main, true, false, a.dtype(), c.dtype(), hasBias, factor, accumulate);
            DnnlMatmul.Spec rest =
                    new DnnlMatmul.Spec(m, n, k - main, true, false, a.dtype(), c.dtype(), false, factor, true);
            run(first, m, cData, aData, bData, biasData);
            run(rest, m, cData, rowsFrom(aData, main, m, a), rowsFrom(bData, main, n, b), MemorySegment.NULL);
        } else if (hasAmx
                && a.dtype() == DType.BF16
                && !transposeA
                && m >= 16
                && n * k < LARGE_WEIGHT
                && m % 1024 != 0) {
            DnnlMatmul.Spec any = new DnnlMatmul.Spec(
                    DnnlMatmul.ANY_ROWS, n, k, false, transposeB, a.dtype(), c.dtype(), hasBias, factor, accumulate);
            // Rows beyond a multiple of the cut are slow inside a long product: 1.12 ms with 9 of them, 0.95 in two.
            long main = m > CUT ? m / CUT * CUT : m;
            run(any, main, cData, aData, bData, biasData);
            if (main < m) {
                run(any, m - main, rowsFrom(cData, main, n, c), rowsFrom(aData, main, k, a), bData, biasData);
            }
        } else {
            DnnlMatmul.Spec exact = new DnnlMatmul.Spec(
                    m, n, k, transposeA, transposeB, a.dtype(), c.dtype(), hasBias, factor, accumulate);
            run(exact, m, cData, aData, bData, biasData);
        }
    }

    @Override
    public void nf4Linear(Operand y, Operand x, Nf4Operand w, Operand bias) {
        kernels.nf4LinearForward(y, x, w, bias);
    }

    @Override
    public void nf4LinearBackward(Operand dx, Operand dy, Nf4Operand w, boolean accumulate) {
        kernels.nf4LinearBackward(dx, dy, w, accumulate);
    }

    private static MemorySegment rowsFrom(MemorySegment data, long row, long cols, Operand x) {
        return data.asSlice(row * cols * x.dtype().bytes());
    }

    private void run(
            DnnlMatmul.Spec spec, long rows, MemorySegment c, MemorySegment a, MemorySegment b, MemorySegment bias) {
        DnnlMatmul primitive = primitives.get(spec);
        if (primitive == null) {
            primitive = pool.withRoom(0, () -> new DnnlMatmul(spec, engine));
            primitives.put(spec, primitive);
            weight += weight(spec);
            evict();
        }
        MemorySegment room = scratch.atLeast(primitive.scratchBytes());
        try {
            primitive.execute(stream, args, room, rows, c, a, b, bias);
        } catch (OutOfMemoryException e) { // not again: part of it may have been added to c
            throw pool.exhausted(0, e);
        }
    }

    private void evict() {
        while (weight > CAPACITY) {
            DnnlMatmul.Spec eldest = primitives.keySet().iterator().next();
            primitives.remove(eldest).close();
            weight -= weight(eldest);
        }
    }

    /** Measured: 1.7 MiB for one with a large weight in BF16 on AMX, below 0.3 MiB for most others. */
    private static int weight(DnnlMatmul.Spec spec) {
        return spec.in() == DType.BF16 && spec.n() * spec.k() >= LARGE_WEIGHT ? 16 : 1;
    }

    /** A product over no terms: zero, or the bias, or what c holds. */
    private static void addNothing(
            MemorySegment c, DType dtype, long m, long n, MemorySegment bias, DType biasType, boolean accumulate) {
        for (long i = 0; i < m * n; i++) {
            float value = accumulate ? get(c, dtype, i) : 0;
            set(c, dtype, i, bias.address() == 0 ? value : value + get(bias, biasType, i % n));
        }
    }

    private static float get(MemorySegment x, DType dtype, long i) {
        return dtype == DType.F32
                ? x.getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i)
                : Float.intBitsToFloat(x.getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i) << 16);
    }

    private static void set(MemorySegment x, DType dtype, long i, float value) {
        if (dtype == DType.F32) {
            x.setAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i, value);
        } else {
            int bits = Float.floatToRawIntBits(value);
            bits += 0x7fff + (bits >>> 16 & 1);
            x.setAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i, (short) (bits >>> 16));
        }
    }

    /** BF16 operands on a processor whose oneDNN multiplies F32 alone: the same sums, of the same values. */
    private void widened(
            Operand c,
            Operand a,
            boolean transposeA,
            Operand b,
            boolean transposeB,
            Operand bias,
            float factor,
            boolean accumulate) {
        Operand fa = wide(wideA, a, true);
        Operand fb = wide(wideB, b, true);
        boolean direct = c.dtype() == DType.F32;
        Operand fc = direct ? c : wide(wideC, c, accumulate);
        Operand fbias = bias.isNone() ? bias : wide(wideBias, bias, true);
        multiply(fc, fa, transposeA, fb, transposeB, fbias, factor, accumulate);
        if (!direct) {
            kernels.convert(c, fc, 1);
        }
    }

    private Operand wide(Buffer buffer, Operand x, boolean filled) {
        Operand y = new Dense(buffer.atLeast(x.elements() * Float.BYTES), DType.F32, x.rows(), x.last());
        if (filled) {
            kernels.convert(y, x, 1);
        }
        return y;
    }

    /** What oneDNN found, e.g. {@code oneDNN 3.13.0 (AMX)}. */
    String describe() {
        MemorySegment version = Dnnl.dnnl_version().reinterpret(dnnl_version_t.sizeof());
        return "oneDNN " + dnnl_version_t.major(version) + "." + dnnl_version_t.minor(version) + "."
                + dnnl_version_t.patch(version) + (hasAmx ? " with AMX" : hasBf16 ? "" : " without BF16");
    }

    @Override
    public void close() {
        Closing closing = new Closing();
        primitives.values().forEach(primitive -> closing.then(primitive::close));
        primitives.clear();
        for (Buffer buffer : List.of(scratch, wideA, wideB, wideBias, wideC)) {
            closing.then(buffer::free);
        }
        closing.then(() -> DnnlMatmul.check("free", Dnnl.dnnl_stream_destroy(stream)))
                .then(() -> DnnlMatmul.check("free", Dnnl.dnnl_engine_destroy(engine)))
                .then(arena::close)
                .end();
    }

    /** Memory that grows to the largest request and is used again. */
    private final class Buffer {
        private MemorySegment memory = MemorySegment.NULL;

        MemorySegment atLeast(long bytes) {
            if (memory.byteSize() < bytes) {
                free();
                memory = pool.withRoom(bytes, () -> kernels.allocate(bytes));
            }
            return memory;
        }

        void free() {
            if (memory.address() != 0) {
                kernels.free(memory);
                memory = MemorySegment.NULL;
            }
        }
    }
}
