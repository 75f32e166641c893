package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * The first NVIDIA GPU that CUDA shows: kernels of this build, matrix products of cuBLASLt, all work on one stream. Calls
 * return when their work is queued; only {@link #copyOut} waits. Where CUDA is missing nothing of it is loaded.
 */
public final class CudaDevice implements Device {
    /** The first that {@code CUDA_VISIBLE_DEVICES} leaves. */
    private static final int FIRST = 0;

    /** Kernels are built for sm_80 and newer: BF16 on tensor cores begins there. */
    private static final int LOWEST_CAPABILITY = 80;

    /** All host copies of a step but pictures fit in, and four pieces of a checkpoint that is being loaded. */
    private static final long STAGING_BYTES = 64 << 20;

    private static final String NO_DRIVER = "no NVIDIA driver shows itself (no /dev/nvidiactl, /dev/nvidia0, /dev/dxg)";

    private final CudaRuntime cuda;
    private final Arena arena;
    private final CudaKernelLibrary library;
    private final Kernels kernels;
    private final MemorySegment stream;
    private final MemoryPool pool;
    private final CudaStaging staging;
    private final CudaGemm gemm;
    private final String description;
    private boolean isClosed;

    private CudaDevice(CudaLibraries libraries, CudaRuntime cuda) {
        this.cuda = cuda;
        cuda.use(FIRST);
        this.arena = Arena.ofShared();
        this.library = libraries.loadKernels(arena);
        this.kernels = start(library);
        this.stream = cuda.stream();
        kernels.useStream(library, stream);
        this.pool = new MemoryPool(new CudaMemory(cuda, stream, cuda.keepingPool(FIRST)));
        kernels.operandsAreOf(pool);
        this.staging = new CudaStaging(cuda, stream, STAGING_BYTES);
        this.gemm = new CudaGemm(kernels, pool, stream);
        this.description = cuda.name(FIRST) + ", " + (cuda.memory().total() >> 20) + " MiB, " + kernels.describe()
                + ", CUDA " + CudaRuntime.version(cuda.runtimeVersion()) + ", " + gemm.describe();
        requireKernelsRun();
    }

    /** The kernels' own runtime, which is inside them, can ask for a newer driver than the one that Java calls. */
    private Kernels start(CudaKernelLibrary library) {
        try {
            return new Kernels("cuda", library.table());
        } catch (DeviceException e) {
            throw new DeviceException(
                    e.getMessage() + "; the driver is for CUDA " + CudaRuntime.version(cuda.driverVersion())
                            + ": where this build was made with a newer CUDA, update the driver or build on this machine",
                    e);
        }
    }

    /** Whether a driver for NVIDIA's cards shows itself: a look at a few files. */
    public static boolean isLikely() {
        return CudaPlaces.ofThisMachine().hasDriver();
    }

    /** Looks for everything that {@link #open} needs. Loads CUDA's libraries only where all of them are there. */
    public static CudaProbe probe() {
        return probe(CudaPlaces.ofThisMachine());
    }

    static CudaProbe probe(CudaPlaces places) {
        List<String> found = new ArrayList<>();
        List<String> missing = new ArrayList<>();
        if (!places.hasDriver()) {
            missing.add(NO_DRIVER);
        }
        try {
            CudaLibraries.Search search = CudaLibraries.search(places);
            missing.addAll(search.missing());
            if (missing.isEmpty()) {
                search.libraries().load();
                found.addAll(devices());
            }
            found.addAll(search.found());
        } catch (DeviceException e) {
            missing.add(e.getMessage());
        }
        return new CudaProbe(found, missing);
    }

    private static List<String> devices() {
        List<String> lines = new ArrayList<>();
        try (CudaRuntime cuda = new CudaRuntime()) {
            int count = cuda.deviceCount();
            for (int i = 0; i < count; i++) {
                int capability = cuda.capability(i);
                requireCapability(cuda, i);
                lines.add(cuda.name(i) + ", compute capability " + capability / 10 + "." + capability % 10
                        + (i == FIRST ? "" : " (not used)"));
            }
            lines.add("driver for CUDA " + CudaRuntime.version(cuda.driverVersion()) + ", runtime "
                    + CudaRuntime.version(cuda.runtimeVersion()));
        }
        return lines;
    }

    private static void requireCapability(CudaRuntime cuda, int device) {
        int capability = cuda.capability(device);
        if (device == FIRST && capability < LOWEST_CAPABILITY) {
            throw new DeviceException(cuda.name(device) + " has compute capability " + capability / 10 + "."
                    + capability % 10 + ", expected 8.0 or higher (NVIDIA Ampere and newer)");
        }
    }

    /**
     * Opens the first GPU.
     *
     * @throws DeviceException where a driver, a library or a GPU is missing or too old: in one line, with the cure
     */
    public static CudaDevice open() {
        CudaPlaces places = CudaPlaces.ofThisMachine();
        CudaLibraries.Search search = CudaLibraries.search(places);
        if (!search.missing().isEmpty()) {
            throw new DeviceException("no CUDA device: " + (places.hasDriver() ? "" : NO_DRIVER + "; ")
                    + String.join("; ", search.missing()));
        }
        return open(search.libraries());
    }

    /** With these libraries. Another runtime or cuBLASLt than that of the first device is not loaded beside it. */
    static CudaDevice open(CudaLibraries libraries) {
        libraries.load();
        CudaRuntime cuda = new CudaRuntime();
        try {
            cuda.deviceCount();
            requireCapability(cuda, FIRST);
            return new CudaDevice(libraries, cuda);
        } catch (DeviceException e) {
            cuda.close();
            throw new DeviceException("no CUDA device: " + e.getMessage(), e);
        }
    }

    /** A kernel that has no code for this GPU is told now, and not in the middle of a run. */
    private void requireKernelsRun() {
        MemorySegment block = pool.allocate(Float.BYTES);
        try {
            Operand x = new Dense(block, DType.F32, 1, 1);
            kernels.zero(x);
            kernels.add(x, x, x);
            cuda.synchronize(stream);
        } finally {
            pool.release(block);
        }
    }

    @Override
    public String name() {
        return "cuda";
    }

    @Override
    public String describe() {
        return description;
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
        return cuda.memory().total();
    }

    /** Known of BF16 on tensor cores, for the cards that {@link NvidiaPeak} lists. */
    @Override
    public double peakFlops(DType dtype) {
        return dtype == DType.BF16 ? NvidiaPeak.bf16(cuda.name(FIRST)) : 0;
    }

    @Override
    public boolean isGpu() {
        return true;
    }

    @Override
    public boolean sharesHostMemory() {
        return false;
    }

    @Override
    public void copyIn(MemorySegment device, MemorySegment host) {
        staging.copyIn(device, (from, to) -> to.copyFrom(host.asSlice(from, to.byteSize())));
    }

    @Override
    public void copyIn(MemorySegment device, Source host) {
        staging.copyIn(device, host);
    }

    @Override
    public void copyOut(MemorySegment host, MemorySegment device) {
        staging.copyOut(host, device);
        kernels.checkFinished(library);
    }

    @Override
    public synchronized void close() {
        if (isClosed) {
            return; // what is freed twice ends the JVM
        }
        isClosed = true;
        new Closing()
                .then(() -> cuda.synchronize(stream)) // copies that are queued still use the staging memory
                .then(staging::close)
                .then(gemm::close)
                .then(pool::close) // and waits, so that what was freed last goes back, too
                .then(kernels::close)
                .then(() -> cuda.destroyStream(stream))
                .then(arena::close)
                .then(cuda::close)
                .end();
    }
}
