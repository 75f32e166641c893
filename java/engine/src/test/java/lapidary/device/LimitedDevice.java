package lapidary.device;

import java.lang.foreign.MemorySegment;
import java.util.concurrent.atomic.AtomicInteger;
import lapidary.ffi.kernels.KernelTable;

/** The host's processor with as little memory as a test wants. */
public final class LimitedDevice {
    private LimitedDevice() {}

    /** @param bytes that may be handed out at a time, those that the pool keeps included */
    public static Device open(long bytes) {
        return open(bytes, bytes);
    }

    /** @param largest bytes that may be asked for at once */
    public static Device ofBlocks(long largest) {
        return open(Long.MAX_VALUE, largest);
    }

    /**
     * With a pool that keeps no block, so that each is asked for.
     *
     * @param watched length of a block, bytes
     * @param asked counts how often a block of that length is asked for
     */
    public static Device watching(long watched, AtomicInteger asked) {
        NativeLibraries.loadCpu();
        Kernels kernels = new Kernels("cpu", KernelTable.lapidary_cpu_kernels());
        MemoryPool.Source source = new Limited(kernels, Long.MAX_VALUE, Long.MAX_VALUE) {
            @Override
            public MemorySegment allocate(long bytes) {
                if (bytes == watched) {
                    asked.incrementAndGet();
                }
                return super.allocate(bytes);
            }
        };
        return new CpuDevice("cpu", kernels, MemoryPool.ofExactBlocks(source), true);
    }

    private static Device open(long bytes, long largest) {
        NativeLibraries.loadCpu();
        Kernels kernels = new Kernels("cpu", KernelTable.lapidary_cpu_kernels());
        return new CpuDevice("cpu", kernels, new MemoryPool(new Limited(kernels, bytes, largest)), true);
    }

    private static class Limited implements MemoryPool.Source {
        private final Kernels kernels;
        private final long most;
        private final long largest;
        private long handedOut;

        Limited(Kernels kernels, long most, long largest) {
            this.kernels = kernels;
            this.most = most;
            this.largest = largest;
        }

        @Override
        public MemorySegment allocate(long bytes) {
            if (bytes > largest || handedOut > most - bytes) {
                throw new OutOfMemoryException(
                        "no more than " + most + " bytes are here, " + largest + " at once", bytes, handedOut, null);
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
