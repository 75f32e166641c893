package lapidary.device;

import java.lang.foreign.MemorySegment;
import lapidary.ffi.kernels.KernelTable;

/** The host's processor with as little memory as a test wants. */
public final class LimitedDevice {
    private LimitedDevice() {}

    /** @param bytes that may be handed out at a time, those that the pool keeps included */
    public static Device open(long bytes) {
        NativeLibraries.loadCpu();
        Kernels kernels = new Kernels("cpu", KernelTable.lapidary_cpu_kernels());
        return new CpuDevice("cpu", kernels, new MemoryPool(new Limited(kernels, bytes)), true);
    }

    private static final class Limited implements MemoryPool.Source {
        private final Kernels kernels;
        private final long most;
        private long handedOut;

        Limited(Kernels kernels, long most) {
            this.kernels = kernels;
            this.most = most;
        }

        @Override
        public MemorySegment allocate(long bytes) {
            if (handedOut + bytes > most) {
                throw new OutOfMemoryException("no more than " + most + " bytes are here", bytes, handedOut, null);
            }
            MemorySegment block = kernels.allocate(bytes);
            handedOut += block.byteSize();
            return block;
        }

        @Override
        public void free(MemorySegment memory) {
            handedOut -= memory.byteSize();
            kernels.free(memory);
        }

        @Override
        public boolean isFreshZero() {
            return kernels.isFreshZero();
        }

        @Override
        public void clear(MemorySegment memory) {
            kernels.clear(memory);
        }
    }
}
