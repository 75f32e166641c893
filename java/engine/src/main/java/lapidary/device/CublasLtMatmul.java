package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import lapidary.ffi.cublaslt.CublasLt;
import lapidary.ffi.cublaslt.cublasLtMatmulAlgo_t;
import lapidary.ffi.cublaslt.cublasLtMatmulHeuristicResult_t;

/**
 * One matrix product as cuBLASLt describes it, with the algorithm that its heuristics take for these sizes: chosen once, and
 * the same for the same sizes, so that equal inputs give equal bits.
 *
 * <p>cuBLASLt counts columns first. A row-major matrix is its own transpose then, and {@code cᵀ = op(b)ᵀ op(a)ᵀ}: b comes
 * first, a second, and nothing is moved.
 *
 * @see <a href="https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api">cuBLASLt</a>
 */
final class CublasLtMatmul implements AutoCloseable {
    /**
     * What an algorithm depends on.
     *
     * @param alignment that all pointers have, in bytes, a power of two up to {@link #BEST_ALIGNMENT}
     */
    record Spec(
            long m,
            long n,
            long k,
            boolean transposeA,
            boolean transposeB,
            DType in,
            DType out,
            boolean hasBias,
            int alignment) {}

    /**
     * Memory of the host that a call's arguments lie in.
     *
     * @param scalars F32 [2]: the factor, and what c is kept by, 0 or 1
     * @param biasPointer an address
     * @param algorithm 64 bytes
     */
    record Arguments(MemorySegment scalars, MemorySegment biasPointer, MemorySegment algorithm) {
        static Arguments allocate(Arena arena) {
            return new Arguments(
                    arena.allocate(ValueLayout.JAVA_FLOAT, 2),
                    arena.allocate(ValueLayout.ADDRESS),
                    cublasLtMatmulAlgo_t.allocate(arena));
        }
    }

    /** What cuBLASLt takes for granted unless told otherwise. */
    static final int BEST_ALIGNMENT = 256;

    private final MemorySegment operation;
    private final MemorySegment layoutB;
    private final MemorySegment layoutA;
    private final MemorySegment layoutC;
    private final long[] algorithm;

    /**
     * @param handle of cuBLASLt
     * @param workspaceBytes that an algorithm may use
     * @throws DeviceException where cuBLASLt has no algorithm for the sizes
     */
    CublasLtMatmul(Spec spec, MemorySegment handle, long workspaceBytes) {
        try (Arena call = Arena.ofConfined()) {
            MemorySegment out = call.allocate(ValueLayout.ADDRESS);
            check(
                    "describe a product",
                    CublasLt.cublasLtMatmulDescCreate(out, CublasLt.CUBLAS_COMPUTE_32F(), CublasLt.CUDA_R_32F()));
            operation = out.get(ValueLayout.ADDRESS, 0);
            set(call, CublasLt.CUBLASLT_MATMUL_DESC_TRANSA(), transposed(spec.transposeB()));
            set(call, CublasLt.CUBLASLT_MATMUL_DESC_TRANSB(), transposed(spec.transposeA()));
            if (spec.hasBias()) {
                set(call, CublasLt.CUBLASLT_MATMUL_DESC_EPILOGUE(), CublasLt.CUBLASLT_EPILOGUE_BIAS());
                set(call, CublasLt.CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE(), type(spec.out()));
            }
            layoutB = layout(
                    out, spec.in(), spec.transposeB() ? spec.k() : spec.n(), spec.transposeB() ? spec.n() : spec.k());
            layoutA = layout(
                    out, spec.in(), spec.transposeA() ? spec.m() : spec.k(), spec.transposeA() ? spec.k() : spec.m());
            layoutC = layout(out, spec.out(), spec.n(), spec.m());
            algorithm = choose(call, out, spec, handle, workspaceBytes);
        }
    }

    private static int transposed(boolean yes) {
        return yes ? CublasLt.CUBLAS_OP_T() : CublasLt.CUBLAS_OP_N();
    }

    private static int type(DType dtype) {
        return dtype == DType.BF16 ? CublasLt.CUDA_R_16BF() : CublasLt.CUDA_R_32F();
    }

    /** A row-major matrix [cols, rows], seen by columns. */
    private static MemorySegment layout(MemorySegment out, DType dtype, long rows, long cols) {
        check("describe a matrix", CublasLt.cublasLtMatrixLayoutCreate(out, type(dtype), rows, cols, rows));
        return out.get(ValueLayout.ADDRESS, 0);
    }

    private void set(Arena call, int attribute, int value) {
        MemorySegment buffer = call.allocateFrom(ValueLayout.JAVA_INT, value);
        check(
                "describe a product",
                CublasLt.cublasLtMatmulDescSetAttribute(operation, attribute, buffer, Integer.BYTES));
    }

    private long[] choose(Arena call, MemorySegment out, Spec spec, MemorySegment handle, long workspaceBytes) {
        check("describe a choice", CublasLt.cublasLtMatmulPreferenceCreate(out));
        MemorySegment preference = out.get(ValueLayout.ADDRESS, 0);
        try {
            prefer(
                    preference,
                    CublasLt.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES(),
                    call.allocateFrom(ValueLayout.JAVA_LONG, workspaceBytes));
            // Parts of a long sum are added in F32: the other schemes add in the type of the output.
            prefer(
                    preference,
                    CublasLt.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK(),
                    call.allocateFrom(ValueLayout.JAVA_INT, CublasLt.CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE()));
            MemorySegment alignment = call.allocateFrom(ValueLayout.JAVA_INT, spec.alignment());
            prefer(preference, CublasLt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES(), alignment);
            prefer(preference, CublasLt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES(), alignment);
            prefer(preference, CublasLt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES(), alignment);
            prefer(preference, CublasLt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES(), alignment);
            MemorySegment result = cublasLtMatmulHeuristicResult_t.allocate(call);
            MemorySegment count = call.allocate(ValueLayout.JAVA_INT);
            int status = CublasLt.cublasLtMatmulAlgoGetHeuristic(
                    handle, operation, layoutB, layoutA, layoutC, layoutC, preference, 1, result, count);
            if (status == CublasLt.CUBLAS_STATUS_NOT_SUPPORTED() || count.get(ValueLayout.JAVA_INT, 0) == 0) {
                throw new DeviceException("cuBLASLt has no algorithm for " + spec);
            }
            check("choose an algorithm for " + spec, status);
            return cublasLtMatmulHeuristicResult_t.algo(result).toArray(ValueLayout.JAVA_LONG);
        } finally {
            check("forget a choice", CublasLt.cublasLtMatmulPreferenceDestroy(preference));
        }
    }

    private static void prefer(MemorySegment preference, int attribute, MemorySegment value) {
        check(
                "describe a choice",
                CublasLt.cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, value.byteSize()));
    }

    /**
     * Queues {@code c = factor op(a) op(b) + bias (+ c where accumulate)}.
     *
     * @param bias NULL where the product has none
     */
    void execute(
            MemorySegment handle,
            Arguments arguments,
            MemorySegment c,
            MemorySegment a,
            MemorySegment b,
            MemorySegment bias,
            float factor,
            boolean accumulate,
            MemorySegment workspace,
            MemorySegment stream) {
        MemorySegment scalars = arguments.scalars();
        scalars.setAtIndex(ValueLayout.JAVA_FLOAT, 0, factor);
        scalars.setAtIndex(ValueLayout.JAVA_FLOAT, 1, accumulate ? 1 : 0);
        MemorySegment.copy(algorithm, 0, arguments.algorithm(), ValueLayout.JAVA_LONG, 0, algorithm.length);
        if (bias.address() != 0) {
            arguments.biasPointer().set(ValueLayout.ADDRESS, 0, bias);
            check(
                    "set the bias",
                    CublasLt.cublasLtMatmulDescSetAttribute(
                            operation,
                            CublasLt.CUBLASLT_MATMUL_DESC_BIAS_POINTER(),
                            arguments.biasPointer(),
                            ValueLayout.ADDRESS.byteSize()));
        }
        check(
                "multiply",
                CublasLt.cublasLtMatmul(
                        handle,
                        operation,
                        scalars,
                        b,
                        layoutB,
                        a,
                        layoutA,
                        scalars.asSlice(Float.BYTES),
                        c,
                        layoutC,
                        c,
                        layoutC,
                        arguments.algorithm(),
                        workspace,
                        workspace.byteSize(),
                        stream));
    }

    static void check(String what, int status) {
        if (status != CublasLt.CUBLAS_STATUS_SUCCESS()) {
            throw new DeviceException("cuBLASLt could not " + what + ": "
                    + CublasLt.cublasLtGetStatusName(status)
                            .reinterpret(Long.MAX_VALUE)
                            .getString(0) + " (" + status
                    + ")");
        }
    }

    @Override
    public void close() {
        Closing closing =
                new Closing().then(() -> check("forget a product", CublasLt.cublasLtMatmulDescDestroy(operation)));
        for (MemorySegment layout : new MemorySegment[] {layoutA, layoutB, layoutC}) {
            closing.then(() -> check("forget a matrix", CublasLt.cublasLtMatrixLayoutDestroy(layout)));
        }
        closing.end();
    }
}
