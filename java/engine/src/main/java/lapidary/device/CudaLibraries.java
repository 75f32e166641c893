package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * The three libraries that a CUDA device runs on. The kernels have a runtime of their own inside, whose memory and streams are
 * those of the one that Java calls.
 *
 * @param runtime {@code libcudart.so.<major>}
 * @param cublasLt {@code libcublasLt.so.<major>}
 * @param kernels exports what {@code native/include/cuda_kernels.h} declares
 */
record CudaLibraries(Path runtime, Path cublasLt, Path kernels) {
    /** What the jar carries where it was built with nvcc. */
    static final String KERNELS = "lapidary/native/liblapidary_cuda.so";

    /** What the bindings fit, best first. */
    private static final List<Integer> MAJORS = List.of(13, 12);

    private static final String RUNTIME = "libcudart.so.";
    private static final String CUBLAS_LT = "libcublasLt.so.";

    /** What was found, or what is missing; libraries is null where anything is. */
    record Search(List<String> found, List<String> missing, CudaLibraries libraries) {}

    /** Looks for all three and loads none. */
    static Search search(CudaPlaces places) {
        if (!NativeLibraries.isCarried(KERNELS)) {
            return new Search(
                    List.of(),
                    List.of("this build carries no CUDA kernels (it was built where there is no nvcc)"),
                    null);
        }
        return search(places, NativeLibraries.unpack(KERNELS));
    }

    /** Runtime and cuBLASLt of one major version: the newest of which both are there. */
    static Search search(CudaPlaces places, Path kernels) {
        for (int major : MAJORS) {
            Optional<Path> runtime = places.find(RUNTIME + major);
            Optional<Path> cublasLt = places.find(CUBLAS_LT + major);
            if (runtime.isPresent() && cublasLt.isPresent()) {
                CudaLibraries libraries = new CudaLibraries(runtime.get(), cublasLt.get(), kernels);
                return new Search(libraries.describe(), List.of(), libraries);
            }
        }
        List<String> found = new ArrayList<>(List.of(kernels.toString()));
        List<String> missing = new ArrayList<>();
        for (String library : List.of(RUNTIME, CUBLAS_LT)) {
            List<Path> present = MAJORS.stream()
                    .map(major -> places.find(library + major))
                    .flatMap(Optional::stream)
                    .toList();
            present.forEach(path -> found.add(path.toString()));
            if (present.isEmpty()) {
                missing.add(library + MAJORS.get(0) + " (or ." + MAJORS.get(1) + ") is not on this machine");
            }
        }
        if (missing.isEmpty()) {
            missing.add("runtime and cuBLASLt are of different major versions");
        }
        missing.add("install CUDA's runtime and cuBLAS, or point CUDA_HOME or LD_LIBRARY_PATH to them (looked also in"
                + " Python's nvidia packages, /usr/local/cuda and the loader's folders)");
        return new Search(found, missing, null);
    }

    private List<String> describe() {
        return List.of(kernels.toString(), runtime.toString(), cublasLt.toString());
    }

    /**
     * Loads runtime and cuBLASLt for the bindings, once a process; other libraries of the same names are not loaded beside
     * them.
     *
     * @throws DeviceException naming the library and the loader's reason
     */
    void load() {
        loadFirst(runtime);
        loadFirst(cublasLt);
    }

    private static void loadFirst(Path library) {
        try {
            System.load(library.toAbsolutePath().toString());
        } catch (UnsatisfiedLinkError e) {
            throw new DeviceException("cannot load " + library + ": " + e.getMessage(), e);
        }
    }

    /** The kernels' entry points, whose addresses live as long as the arena. */
    CudaKernelLibrary loadKernels(Arena arena) {
        try {
            return CudaKernelLibrary.of(kernels, SymbolLookup.libraryLookup(kernels, arena));
        } catch (IllegalArgumentException e) {
            throw new DeviceException("cannot load " + kernels + ": " + e.getMessage(), e);
        }
    }
}
