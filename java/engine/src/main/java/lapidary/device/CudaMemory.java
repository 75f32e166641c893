package lapidary.device;

import java.lang.foreign.MemorySegment;

/**
 * A device's memory in the order of one stream: a block that was given back is used again at once, since whatever still
 * reads it is queued before whatever will write it. CUDA's own pool keeps what is freed.
 */
final class CudaMemory implements MemoryPool.Source {
    private final CudaRuntime cuda;
    private final MemorySegment stream;
    private final MemorySegment pool;

    CudaMemory(CudaRuntime cuda, MemorySegment stream, MemorySegment pool) {
        this.cuda = cuda;
        this.stream = stream;
        this.pool = pool;
    }

    @Override
    public MemorySegment allocate(long bytes) {
        MemorySegment block = cuda.allocate(bytes, stream);
        if (block.address() == 0) {
            trim(); // pieces that lie between others come together once nothing that is queued uses them
            block = cuda.allocate(bytes, stream);
        }
        if (block.address() == 0) {
            CudaRuntime.Memory memory = cuda.memory();
            throw new OutOfMemoryException(
                    "the device has no " + bytes + " bytes in one piece, " + memory.free() + " are free of "
                            + memory.total() + ", other programs' memory included",
                    bytes,
                    0,
                    null);
        }
        return block;
    }

    @Override
    public void free(MemorySegment memory) {
        cuda.free(memory, stream);
    }

    @Override
    public void trim() {
        cuda.synchronize(stream);
        cuda.trim(pool);
    }

    @Override
    public boolean isFreshZero() {
        return false;
    }

    @Override
    public void clear(MemorySegment memory) {
        cuda.zero(memory, stream);
    }
}
