package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Set;
import lapidary.ffi.cuda.CudaRt;

/**
 * Calls of the CUDA runtime, each checked: a failure is a {@link DeviceException} of one line that says what was tried, CUDA's
 * name and text for it, and the cure where there is one. Must not be touched before {@link CudaLibraries#load}.
 */
final class CudaRuntime implements AutoCloseable {
    /** Driver too old for the runtime, or none at all. */
    private static final int NO_DRIVER = CudaRt.cudaErrorInsufficientDriver();

    /** After these nothing that the device held can be trusted or used any more. */
    private static final Set<Integer> LOST = Set.of(
            CudaRt.cudaErrorECCUncorrectable(),
            CudaRt.cudaErrorIllegalAddress(),
            CudaRt.cudaErrorLaunchFailure(),
            CudaRt.cudaErrorLaunchTimeout(),
            CudaRt.cudaErrorDevicesUnavailable(),
            CudaRt.cudaErrorUnknown());

    private static final int PROPERTIES_BYTES =
            8192; // more than any version's cudaDeviceProp, which begins with the name
    private static final int NAME_BYTES = 256;

    private final Arena arena = Arena.ofShared();
    private final MemorySegment out = arena.allocate(16, 16); // results of one call: a pointer, or two sizes

    /** How many devices there are. @throws DeviceException where there is no driver, an old one, or no device */
    int deviceCount() {
        int status = CudaRt.cudaGetDeviceCount(out);
        if (status == NO_DRIVER) {
            int driver = driverVersion();
            throw new DeviceException(
                    driver == 0
                            ? "no NVIDIA driver answers: install one that supports CUDA " + version(runtimeVersion())
                                    + " (CUDA error 35)"
                            : "the NVIDIA driver supports CUDA " + version(driver) + " and this build needs "
                                    + version(runtimeVersion()) + ": update the driver (CUDA error 35)");
        }
        if (status == CudaRt.cudaErrorNoDevice()) {
            throw new DeviceException("the NVIDIA driver shows no device; CUDA_VISIBLE_DEVICES may hide them"
                    + " (CUDA error " + status + ")");
        }
        check("count devices", status);
        return out.get(ValueLayout.JAVA_INT, 0);
    }

    /** Highest CUDA version that the driver supports, as CUDA counts (13000 for 13.0); 0 without a driver. */
    int driverVersion() {
        check("ask the driver's version", CudaRt.cudaDriverGetVersion(out));
        return out.get(ValueLayout.JAVA_INT, 0);
    }

    int runtimeVersion() {
        check("ask the runtime's version", CudaRt.cudaRuntimeGetVersion(out));
        return out.get(ValueLayout.JAVA_INT, 0);
    }

    /** {@code 13.0} for 13000. */
    static String version(int number) {
        return number / 1000 + "." + number % 1000 / 10;
    }

    /** Makes it the calling thread's device. */
    void use(int device) {
        check("use device " + device, CudaRt.cudaSetDevice(device));
    }

    int attribute(int attribute, int device) {
        check("ask for an attribute", CudaRt.cudaDeviceGetAttribute(out, attribute, device));
        return out.get(ValueLayout.JAVA_INT, 0);
    }

    String name(int device) {
        try (Arena call = Arena.ofConfined()) {
            MemorySegment properties = call.allocate(PROPERTIES_BYTES, 16);
            check("ask for the name", CudaRt.cudaGetDeviceProperties(properties, device));
            properties.set(ValueLayout.JAVA_BYTE, NAME_BYTES - 1, (byte) 0);
            return properties.getString(0);
        }
    }

    /** Compute capability, 90 for 9.0. */
    int capability(int device) {
        return 10 * attribute(CudaRt.cudaDevAttrComputeCapabilityMajor(), device)
                + attribute(CudaRt.cudaDevAttrComputeCapabilityMinor(), device);
    }

    /** Bytes of the current device. */
    record Memory(long free, long total) {}

    Memory memory() {
        check("ask for the memory", CudaRt.cudaMemGetInfo(out, out.asSlice(8)));
        return new Memory(out.get(ValueLayout.JAVA_LONG, 0), out.get(ValueLayout.JAVA_LONG, 8));
    }

    // ---- stream-ordered memory -----------------------------------------------------------------------------------

    /** The device's pool, told to keep what is freed: the next step takes it again without asking the driver. */
    MemorySegment keepingPool(int device) {
        if (attribute(CudaRt.cudaDevAttrMemoryPoolsSupported(), device) == 0) {
            throw new DeviceException(
                    name(device) + " has no stream-ordered memory (cudaMallocAsync), which is needed");
        }
        check("find the memory pool", CudaRt.cudaDeviceGetDefaultMemPool(out, device));
        MemorySegment pool = out.get(ValueLayout.ADDRESS, 0);
        out.set(ValueLayout.JAVA_LONG, 0, -1L); // unsigned: no limit
        check(
                "set up the memory pool",
                CudaRt.cudaMemPoolSetAttribute(pool, CudaRt.cudaMemPoolAttrReleaseThreshold(), out));
        return pool;
    }

    /** Gives back to the driver what the pool holds and nobody uses, of all work that is done. */
    void trim(MemorySegment pool) {
        check("trim the memory pool", CudaRt.cudaMemPoolTrimTo(pool, 0));
    }

    /** A block, or {@link MemorySegment#NULL} where there is no memory left. */
    MemorySegment allocate(long bytes, MemorySegment stream) {
        int status = CudaRt.cudaMallocAsync(out, bytes, stream);
        if (status == CudaRt.cudaErrorMemoryAllocation()) {
            CudaRt.cudaGetLastError(); // taken note of: later calls shall not report it again
            return MemorySegment.NULL;
        }
        check("allocate " + bytes + " bytes", status);
        return out.get(ValueLayout.ADDRESS, 0).reinterpret(bytes);
    }

    void free(MemorySegment memory, MemorySegment stream) {
        check("free memory", CudaRt.cudaFreeAsync(memory, stream));
    }

    void zero(MemorySegment memory, MemorySegment stream) {
        check("write zeros", CudaRt.cudaMemsetAsync(memory, 0, memory.byteSize(), stream));
    }

    // ---- copies --------------------------------------------------------------------------------------------------

    /** Host memory that the device copies from and to by itself. */
    MemorySegment pinned(long bytes) {
        check("pin " + bytes + " bytes of the host", CudaRt.cudaHostAlloc(out, bytes, CudaRt.cudaHostAllocDefault()));
        return out.get(ValueLayout.ADDRESS, 0).reinterpret(bytes);
    }

    void unpin(MemorySegment memory) {
        check("unpin memory", CudaRt.cudaFreeHost(memory));
    }

    /** Queues a copy of all of {@code pinned}. */
    void copyIn(MemorySegment device, MemorySegment pinned, MemorySegment stream) {
        check(
                "copy to the device",
                CudaRt.cudaMemcpyAsync(device, pinned, pinned.byteSize(), CudaRt.cudaMemcpyHostToDevice(), stream));
    }

    /** Queues a copy that fills {@code pinned}. */
    void copyOut(MemorySegment pinned, MemorySegment device, MemorySegment stream) {
        check(
                "copy from the device",
                CudaRt.cudaMemcpyAsync(pinned, device, pinned.byteSize(), CudaRt.cudaMemcpyDeviceToHost(), stream));
    }

    // ---- order ---------------------------------------------------------------------------------------------------

    /** A stream that does not wait for the default one. */
    MemorySegment stream() {
        check("make a stream", CudaRt.cudaStreamCreateWithFlags(out, CudaRt.cudaStreamNonBlocking()));
        return out.get(ValueLayout.ADDRESS, 0);
    }

    void destroyStream(MemorySegment stream) {
        check("destroy a stream", CudaRt.cudaStreamDestroy(stream));
    }

    /** Waits for all that is queued. */
    void synchronize(MemorySegment stream) {
        check("wait for the device", CudaRt.cudaStreamSynchronize(stream));
    }

    MemorySegment event() {
        check("make an event", CudaRt.cudaEventCreateWithFlags(out, CudaRt.cudaEventDisableTiming()));
        return out.get(ValueLayout.ADDRESS, 0);
    }

    /** Marks the end of what is queued now. */
    void record(MemorySegment event, MemorySegment stream) {
        check("record an event", CudaRt.cudaEventRecord(event, stream));
    }

    /** Waits until the device has come to the mark. */
    void await(MemorySegment event) {
        check("wait for an event", CudaRt.cudaEventSynchronize(event));
    }

    void destroy(MemorySegment event) {
        check("destroy an event", CudaRt.cudaEventDestroy(event));
    }

    /** @throws DeviceException of one line, for any status but success */
    static void check(String what, int status) {
        if (status == CudaRt.cudaSuccess()) {
            return;
        }
        String text = "CUDA could not " + what + ": " + text(CudaRt.cudaGetErrorString(status)) + " ("
                + text(CudaRt.cudaGetErrorName(status)) + ", " + status + ")";
        if (LOST.contains(status)) {
            text += "; the device is lost for this process and what it held with it, so start the run again; if this"
                    + " happens again, look into the system's log for NVRM: Xid lines";
        } else if (status == CudaRt.cudaErrorNoKernelImageForDevice()
                || status == CudaRt.cudaErrorUnsupportedPtxVersion()) {
            text += "; this build has no kernels for this device's architecture, so build it on this machine";
        } else if (status == CudaRt.cudaErrorSystemDriverMismatch()) {
            text += "; the driver was updated under a running system, so restart the machine";
        }
        throw new DeviceException(text);
    }

    private static String text(MemorySegment address) {
        return address.reinterpret(Long.MAX_VALUE).getString(0);
    }

    @Override
    public void close() {
        arena.close();
    }
}
