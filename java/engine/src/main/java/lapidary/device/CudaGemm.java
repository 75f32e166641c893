package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.LinkedHashMap;
import java.util.Map;
import lapidary.ffi.cublaslt.CublasLt;

/**
 * Matrix products of cuBLASLt on a CUDA device: BF16 on tensor cores or F32 in full, sums in F32. Algorithms are kept by
 * shape, the least recently used go. An NF4 matrix is restored into a block of the pool first, which the next one uses
 * again; for few rows the kernel that never writes it out is better.
 */
final class CudaGemm implements Gemm, AutoCloseable {
    /** What NVIDIA advises for Hopper; less elsewhere does no harm. */
    static final long WORKSPACE_BYTES = 32 << 20;

    /** Kept products; each is under 1 KiB of the host. */
    private static final int CAPACITY = 4096;

    /** Up to so many rows, as of generated tokens, reading the packed matrix bounds the time. */
    static final long FEW_ROWS = 16;

    /** {@code kMostRank} of native/cuda/lora_down.cu: up to it the kernels read their wide operand once, on tensor cores. */
    private static final long JOINED_RANK = 64;

    private static final Operand LEFT_OUT = new Dense(MemorySegment.NULL, DType.F32, 0, 0);

    private final Kernels kernels;
    private final MemoryPool pool;
    private final MemorySegment stream;
    private final Arena arena = Arena.ofShared();
    private final CublasLtMatmul.Arguments arguments = CublasLtMatmul.Arguments.allocate(arena);
    private final MemorySegment handle;
    private final MemorySegment workspace;
    private final Map<CublasLtMatmul.Spec, CublasLtMatmul> products = new LinkedHashMap<>(64, 0.75f, true);

    CudaGemm(Kernels kernels, MemoryPool pool, MemorySegment stream) {
        this.kernels = kernels;
        this.pool = pool;
        this.stream = stream;
        MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
        CublasLtMatmul.check("start", CublasLt.cublasLtCreate(out));
        this.handle = out.get(ValueLayout.ADDRESS, 0);
        this.workspace = pool.allocate(WORKSPACE_BYTES);
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
        if (shape.m() == 0 || shape.n() == 0) {
            return;
        }
        if (shape.k() == 0) {
            addNothing(c, bias, accumulate);
            return;
        }
        if (!bias.isNone() && bias.dtype() != c.dtype()) {
            MemorySegment wide = pool.allocate(bias.elements() * c.dtype().bytes());
            try {
                Operand converted = new Dense(wide, c.dtype(), 1, bias.elements());
                kernels.convert(converted, bias, 1);
                run(shape, c, a, transposeA, b, transposeB, converted, factor, accumulate);
            } finally {
                pool.release(wide);
            }
        } else {
            run(shape, c, a, transposeA, b, transposeB, bias, factor, accumulate);
        }
    }

    private void run(
            GemmShape shape,
            Operand c,
            Operand a,
            boolean transposeA,
            Operand b,
            boolean transposeB,
            Operand bias,
            float factor,
            boolean accumulate) {
        MemorySegment cData = c.segment();
        MemorySegment aData = a.segment();
        MemorySegment bData = b.segment();
        MemorySegment biasData = bias.segment();
        long addresses = cData.address() | aData.address() | bData.address() | biasData.address();
        CublasLtMatmul.Spec spec = new CublasLtMatmul.Spec(
                shape.m(), shape.n(), shape.k(), transposeA, transposeB, a.dtype(), c.dtype(), !bias.isNone(), (int)
                        Long.lowestOneBit(addresses | CublasLtMatmul.BEST_ALIGNMENT));
        CublasLtMatmul product = products.get(spec);
        if (product == null) {
            product = new CublasLtMatmul(spec, handle, WORKSPACE_BYTES);
            products.put(spec, product);
            if (products.size() > CAPACITY) {
                products.remove(products.keySet().iterator().next()).close();
            }
        }
        product.execute(handle, arguments, cData, aData, bData, biasData, factor, accumulate, workspace, stream);
    }

    /** A product over no terms: zero, or the bias, or what c holds. */
    private void addNothing(Operand c, Operand bias, boolean accumulate) {
        if (!accumulate) {
            kernels.zero(c);
        }
        if (bias.isNone()) {
            return;
        }
        MemorySegment row = pool.allocate(bias.elements() * c.dtype().bytes());
        try {
            Operand converted = new Dense(row, c.dtype(), 1, bias.elements());
            kernels.convert(converted, bias, 1);
            kernels.addRows(c, c, converted);
        } finally {
            pool.release(row);
        }
    }

    @Override
    public void nf4Linear(Operand y, Operand x, Nf4Operand w, Operand bias) {
        if (x.rows() <= FEW_ROWS) {
            kernels.nf4LinearForward(y, x, w, bias);
            return;
        }
        MemorySegment block = pool.allocate(w.out() * w.in() * x.dtype().bytes());
        try {
            linear(y, x, restored(block, w, x.dtype()), bias);
        } finally {
            pool.release(block);
        }
    }

    @Override
    public void nf4LinearBackward(Operand dx, Operand dy, Nf4Operand w, boolean accumulate) {
        if (dy.rows() <= FEW_ROWS) {
            kernels.nf4LinearBackward(dx, dy, w, accumulate);
            return;
        }
        MemorySegment block = pool.allocate(w.out() * w.in() * dy.dtype().bytes());
        try {
            multiply(dx, dy, false, restored(block, w, dy.dtype()), false, LEFT_OUT, 1, accumulate);
        } finally {
            pool.release(block);
        }
    }

    @Override
    public boolean joinsDropout(DType dtype, long in, long rank) {
        return joins(dtype, in, rank);
    }

    /** What tensor cores take in {@code native/cuda/lora_down.cu}: the other kernels there are no match for a product's. */
    static boolean joins(DType dtype, long in, long rank) {
        return dtype == DType.BF16 && rank <= JOINED_RANK && rank % 2 == 0 && in % 8 == 0;
    }

    private Operand restored(MemorySegment block, Nf4Operand w, DType dtype) {
        Operand dense = new Dense(block, dtype, w.out(), w.in());
        kernels.nf4Dequantize(dense, w, 0);
        return dense;
    }

    /** E.g. {@code cuBLASLt 13.1.1}. */
    String describe() {
        long version = CublasLt.cublasLtGetVersion(); // 130101 for 13.1.1
        return "cuBLASLt " + version / 10000 + "." + version / 100 % 100 + "." + version % 100;
    }

    @Override
    public void close() {
        Closing closing = new Closing();
        products.values().forEach(product -> closing.then(product::close));
        products.clear();
        closing.then(() -> pool.release(workspace))
                .then(() -> CublasLtMatmul.check("stop", CublasLt.cublasLtDestroy(handle)))
                .then(arena::close)
                .end();
    }
}
