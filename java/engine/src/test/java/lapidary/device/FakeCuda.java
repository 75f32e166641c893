package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;

/**
 * The CUDA of {@code native/test/cuda}: {@link CudaDevice} as it is, on a runtime that needs no GPU, with the CPU's kernels.
 * {@code -Dtest.cuda=FOLDER} names where its libraries are.
 */
public final class FakeCuda {
    private static final Path FOLDER = Path.of(System.getProperty("test.cuda"));

    private FakeCuda() {}

    /** The libraries' folder. */
    public static Path folder() {
        return FOLDER;
    }

    public static CudaDevice open() {
        return CudaDevice.open(libraries());
    }

    static CudaLibraries libraries() {
        return new CudaLibraries(
                FOLDER.resolve("libcudart.so.13"),
                FOLDER.resolve("libcublasLt.so.13"),
                FOLDER.resolve("liblapidary_cuda.so"));
    }

    /** From its {@code after}-th next call on a function of the runtime returns that status; 0 ends it. */
    static void fail(String function, long after, int status, boolean once) {
        try (Arena arena = Arena.ofConfined()) {
            call(
                    "fake_cuda_fail",
                    FunctionDescriptor.ofVoid(
                            ValueLayout.ADDRESS, ValueLayout.JAVA_LONG, ValueLayout.JAVA_INT, ValueLayout.JAVA_INT),
                    arena.allocateFrom(function),
                    after,
                    status,
                    once ? 1 : 0);
        }
    }

    /** Bytes that the device has from now on. */
    static void limit(long bytes) {
        call("fake_cuda_limit", FunctionDescriptor.ofVoid(ValueLayout.JAVA_LONG), bytes);
    }

    /** How often a function of the runtime, or a kernel under its name in kernels.h, was called. */
    public static long calls(String function) {
        try (Arena arena = Arena.ofConfined()) {
            return (long) call(
                    "fake_cuda_calls",
                    FunctionDescriptor.of(ValueLayout.JAVA_LONG, ValueLayout.ADDRESS),
                    arena.allocateFrom(function));
        }
    }

    private static Object call(String name, FunctionDescriptor type, Object... arguments) {
        MemorySegment address = SymbolLookup.libraryLookup(libraries().runtime(), Arena.global())
                .find(name)
                .orElseThrow();
        MethodHandle handle = Linker.nativeLinker().downcallHandle(address, type);
        try {
            return handle.invokeWithArguments(arguments);
        } catch (Throwable e) {
            throw new AssertionError(name, e);
        }
    }
}
