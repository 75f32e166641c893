package lapidary.device;

import java.lang.foreign.MemorySegment;

/**
 * Where tensors live and kernels run. One thread drives a device; results are bit-equal for the same inputs in the same
 * order. Closing it frees everything that it ever allocated.
 */
public sealed interface Device extends AutoCloseable permits CpuDevice, CudaDevice, DryDevice {
    /** Short name as on the command line, e.g. {@code cpu}. */
    String name();

    /** One line for people: processor, instruction set, threads, libraries. */
    String describe();

    Kernels kernels();

    Gemm gemm();

    MemoryPool pool();

    /** Bytes of memory that the device has in all, other programs' included. */
    long memory();

    /**
     * FLOP/s that products of matrices of this type reach at most, as the vendor says: what a run is measured by. 0 where that is
     * not known.
     */
    default double peakFlops(DType dtype) {
        return 0;
    }

    /** Whether device and host read each other's memory in place. */
    boolean sharesHostMemory();

    /** Whether few large kernels take less time here than many small ones of the same work. */
    default boolean isGpu() {
        return false;
    }

    /** Whether kernels read these bytes of the host where they lie, so that a memory-mapped weight needs no copy. */
    default boolean borrows(MemorySegment host) {
        return sharesHostMemory();
    }

    /** Copies bytes from the host to this device's memory; both segments have one size. */
    void copyIn(MemorySegment device, MemorySegment host);

    /** Brings bytes to this device's memory that the host makes in memory of its own or, where it can, right there. */
    void copyIn(MemorySegment device, Source host);

    /** Bytes that are made when they are asked for. */
    @FunctionalInterface
    interface Source {
        /** Writes bytes from the {@code from}-th on, as many as there is room for in native memory. */
        void write(long from, MemorySegment to);
    }

    /** Copies bytes from this device's memory to the host, after all work queued before it. */
    void copyOut(MemorySegment host, MemorySegment device);

    /** Frees all that it has, which nobody may use any more. Again, it does nothing. */
    @Override
    void close();
}
