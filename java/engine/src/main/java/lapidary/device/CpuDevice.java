package lapidary.device;

import com.sun.management.OperatingSystemMXBean;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.List;
import lapidary.ffi.kernels.KernelTable;

/** The host's processor: kernels from the CPU library, matrix products from oneDNN. */
public final class CpuDevice implements Device {
    private final String name;
    private final Kernels kernels;
    private final DnnlGemm gemm;
    private final MemoryPool pool;
    private final boolean sharesHostMemory;
    private boolean isClosed;

    /**
     * @param kernels of any backend whose memory is the host's; the tests' are CUDA's, emulated
     * @param pool over the kernels' memory
     * @param sharesHostMemory whether to say so: false has every copy made that another device would need
     */
    CpuDevice(String name, Kernels kernels, MemoryPool pool, boolean sharesHostMemory) {
        this.name = name;
        this.kernels = kernels;
        this.gemm = new DnnlGemm(kernels, pool);
        this.pool = pool;
        kernels.operandsAreOf(pool);
        this.sharesHostMemory = sharesHostMemory;
    }

    /**
     * @throws DeviceException where the native libraries cannot be unpacked or loaded, or do not fit this build
     */
    public static CpuDevice open() {
        NativeLibraries.loadCpu();
        Kernels kernels = new Kernels("cpu", KernelTable.lapidary_cpu_kernels());
        return new CpuDevice("cpu", kernels, new MemoryPool(kernels), true);
    }

    /** Files of the native libraries that this device runs on. */
    public static List<Path> libraries() {
        return NativeLibraries.loaded();
    }

    @Override
    public String name() {
        return name;
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

    /** The machine's, or what a container is given. */
    @Override
    public long memory() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getTotalMemorySize();
    }

    @Override
    public boolean sharesHostMemory() {
        return sharesHostMemory;
    }

    @Override
    public void copyIn(MemorySegment device, MemorySegment host) {
        device.copyFrom(host);
    }

    @Override
    public void copyIn(MemorySegment device, Source host) {
        host.write(0, device);
    }

    @Override
    public void copyOut(MemorySegment host, MemorySegment device) {
        host.copyFrom(device);
    }

    @Override
    public synchronized void close() {
        if (isClosed) {
            return; // what is freed twice ends the JVM
        }
        isClosed = true;
        new Closing().then(pool::close).then(gemm::close).then(kernels::close).end();
    }
}
