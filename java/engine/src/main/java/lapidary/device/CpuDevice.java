package lapidary.device;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import lapidary.ffi.kernels.KernelTable;

/** The host's processor: kernels from the CPU library, matrix products from oneDNN. */
public final class CpuDevice implements Device {
    private final Kernels kernels;
    private final DnnlGemm gemm;
    private final MemoryPool pool;

    private CpuDevice(Kernels kernels, DnnlGemm gemm) {
        this.kernels = kernels;
        this.gemm = gemm;
        this.pool = new MemoryPool(kernels);
    }

    /**
     * @throws DeviceException where the native libraries cannot be unpacked or loaded, or do not fit this build
     */
    public static CpuDevice open() {
        NativeLibraries.loadCpu();
        Kernels kernels = new Kernels("cpu", KernelTable.lapidary_cpu_kernels());
        return new CpuDevice(kernels, new DnnlGemm(kernels));
    }

    /** Files of the native libraries that this device runs on. */
    public static List<Path> libraries() {
        return NativeLibraries.loaded();
    }

    @Override
    public String name() {
        return "cpu";
    }

    @Override
    public String describe() {
        return kernels.describe() + ", " + gemm.describe();
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
    public boolean sharesHostMemory() {
        return true;
    }

    @Override
    public void copyIn(MemorySegment device, MemorySegment host) {
        device.copyFrom(host);
    }

    @Override
    public void copyOut(MemorySegment host, MemorySegment device) {
        host.copyFrom(device);
    }

    @Override
    public void close() {
        pool.close();
        gemm.close();
        kernels.close();
    }
}
