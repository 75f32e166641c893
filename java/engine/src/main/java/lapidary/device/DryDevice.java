package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.List;
import lapidary.ffi.kernels.KernelTable;
import lapidary.ffi.kernels.kt_table;

/**
 * Stands for another device and computes nothing: what runs on it asks for the memory that it would ask the other for, and
 * its pool tells how much that is, before the other exists or has anything to do. Tensors have shapes and no content: what is
 * written is dropped, what is read is zero. Kernels check their operands and return.
 */
public final class DryDevice implements Device {
    /** Addresses that it hands out. Nothing lies there and nothing is ever read from there: user space ends at 2^47. */
    private static final long FIRST_ADDRESS = 1L << 48;

    private static final Linker LINKER = Linker.nativeLinker();

    private final Arena arena = Arena.ofShared();
    private final String name;
    private final long memory;
    private final boolean borrows;
    private final Kernels kernels;
    private final MemoryPool pool;
    private final Gemm gemm;

    private DryDevice(String name, long memory, boolean borrows, boolean isCuda, Kernels like) {
        this.name = name;
        this.memory = memory;
        this.borrows = borrows;
        this.kernels = new Kernels("dry " + name, table(like));
        this.pool = new MemoryPool(new Addresses(!isCuda));
        this.gemm = new Products(pool, isCuda);
    }

    /** In the place of a device that is open, with its choice of kernels. */
    public static DryDevice inPlaceOf(Device device) {
        if (device instanceof DryDevice) {
            throw new IllegalArgumentException("a dry device stands for a real one, not for another dry one");
        }
        return device instanceof CudaDevice
                ? cuda(device.memory())
                : new DryDevice("cpu", device.memory(), device.sharesHostMemory(), false, device.kernels());
    }

    /**
     * A CUDA device that need not be there.
     *
     * @param memory bytes that it has
     */
    public static DryDevice cuda(long memory) {
        DryDevice device = new DryDevice("cuda", memory, false, true, null);
        device.pool.allocate(CudaGemm.WORKSPACE_BYTES);
        return device;
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public String describe() {
        return name + ", of which only the memory is counted";
    }

    @Override
    public Kernels kernels() {
        return kernels;
    }

    @Override
    public Gemm gemm() {
        return gemm;
    }

    @Override
    public MemoryPool pool() {
        return pool;
    }

    @Override
    public long memory() {
        return memory;
    }

    @Override
    public boolean isGpu() {
        return name.equals("cuda");
    }

    @Override
    public boolean sharesHostMemory() {
        return false;
    }

    @Override
    public boolean borrows(MemorySegment host) {
        return borrows;
    }

    @Override
    public void copyIn(MemorySegment device, MemorySegment host) {}

    @Override
    public void copyIn(MemorySegment device, Source host) {}

    @Override
    public void copyOut(MemorySegment host, MemorySegment device) {
        host.fill((byte) 0);
    }

    @Override
    public void close() {
        pool.close();
        kernels.close();
        arena.close();
    }

    /** Host memory of which only the size is known: as data of a tensor that is to be loaded here, and for nothing else. */
    public static MemorySegment unknown(long bytes) {
        return MemorySegment.ofAddress(FIRST_ADDRESS).reinterpret(bytes);
    }

    // ---- kernels -------------------------------------------------------------------------------------------------

    /**
     * A table whose members return at once. One function serves for all that return a status: it looks at no argument, and
     * under every C calling convention that Java runs on the caller clears away what it passed.
     */
    private MemorySegment table(Kernels like) {
        MemorySegment done = stub(
                MethodHandles.constant(int.class, KernelTable.KT_OK()), FunctionDescriptor.of(ValueLayout.JAVA_INT));
        MemorySegment table = arena.allocate(kt_table.layout());
        long word = ValueLayout.ADDRESS.byteSize();
        for (long at = 2L * Integer.BYTES; at < table.byteSize(); at += word) {
            table.set(ValueLayout.ADDRESS, at, done);
        }
        kt_table.abi(table, KernelTable.KT_ABI());
        kt_table.bytes(table, (int) kt_table.sizeof());
        if (like != null) {
            kt_table.linear_cross_entropy_supported(table, stub(asks(like), SUPPORTED));
        }
        return table;
    }

    private static final FunctionDescriptor SUPPORTED = FunctionDescriptor.of(
            ValueLayout.JAVA_INT,
            ValueLayout.ADDRESS,
            ValueLayout.ADDRESS.withTargetLayout(ValueLayout.JAVA_INT),
            ValueLayout.JAVA_LONG,
            ValueLayout.JAVA_INT);

    private static MethodHandle asks(Kernels like) {
        try {
            MethodHandle ask = MethodHandles.lookup()
                    .findStatic(
                            DryDevice.class,
                            "supported",
                            MethodType.methodType(
                                    int.class,
                                    Kernels.class,
                                    MemorySegment.class,
                                    MemorySegment.class,
                                    long.class,
                                    int.class));
            return ask.bindTo(like);
        } catch (ReflectiveOperationException e) {
            throw new AssertionError("the method is below", e);
        }
    }

    /** {@code linear_cross_entropy_supported} as the other device answers it. */
    private static int supported(Kernels like, MemorySegment ctx, MemorySegment out, long cols, int dtype) {
        for (DType each : List.of(DType.F32, DType.BF16)) {
            if (each.code() == dtype) {
                out.set(ValueLayout.JAVA_INT, 0, like.hasLinearCrossEntropy(cols, each) ? 1 : 0);
            }
        }
        return KernelTable.KT_OK();
    }

    private MemorySegment stub(MethodHandle target, FunctionDescriptor type) {
        return LINKER.upcallStub(target, type, arena);
    }

    // ---- memory --------------------------------------------------------------------------------------------------

    /** Addresses, and no memory behind them. */
    private static final class Addresses implements MemoryPool.Source {
        private final boolean freshZero;
        private long next = FIRST_ADDRESS;

        Addresses(boolean freshZero) {
            this.freshZero = freshZero;
        }

        @Override
        public MemorySegment allocate(long bytes) {
            MemorySegment block = MemorySegment.ofAddress(next).reinterpret(bytes);
            next += Math.ceilDiv(bytes, 64) * 64;
            return block;
        }

        @Override
        public void free(MemorySegment memory) {}

        @Override
        public boolean isFreshZero() {
            return freshZero;
        }

        @Override
        public void clear(MemorySegment memory) {}
    }

    /**
     * Products that only check their operands. A CUDA device restores an NF4 matrix into a block of its pool, and needs no
     * dropped copies.
     */
    private record Products(MemoryPool pool, boolean isCuda) implements Gemm {
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
            GemmShape.of(c, a, transposeA, b, transposeB, bias, factor);
        }

        @Override
        public void nf4Linear(Operand y, Operand x, Nf4Operand w, Operand bias) {
            restore(w, x);
        }

        @Override
        public void nf4LinearBackward(Operand dx, Operand dy, Nf4Operand w, boolean accumulate) {
            restore(w, dy);
        }

        @Override
        public boolean joinsDropout(DType dtype, long in, long rank) {
            return isCuda && CudaGemm.joins(dtype, in, rank);
        }

        private void restore(Nf4Operand w, Operand x) {
            if (isCuda && x.rows() > CudaGemm.FEW_ROWS) {
                pool.release(pool.allocate(w.out() * w.in() * x.dtype().bytes()));
            }
        }
    }
}
