package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import lapidary.ffi.kernels.kt_table;

/**
 * The CUDA kernels on the host: native/cuda compiled as C++ over native/test/emulation. {@code -Dtest.emulation=FILE}
 * names the library, of which there are three builds. Matrix products are the processor's.
 */
public final class EmulatedDevice {
    private EmulatedDevice() {}

    /** A card of Ampere's instructions. */
    public static Device open() {
        return open("emulated", 8);
    }

    /** A card that has Hopper's products of four warps, too. */
    public static Device openHopper() {
        return open("hopper", 9);
    }

    /** Kernels that ran on these devices so far. */
    public static long launches() {
        MemorySegment count = SymbolLookup.libraryLookup(Path.of(System.getProperty("test.emulation")), Arena.global())
                .find("cuda_on_cpu_launches")
                .orElseThrow();
        try {
            return (long) Linker.nativeLinker()
                    .downcallHandle(count, FunctionDescriptor.of(ValueLayout.JAVA_LONG))
                    .invokeExact();
        } catch (Throwable e) {
            throw new AssertionError("cuda_on_cpu_launches", e);
        }
    }

    /** Bytes that one allocation of the emulation may have from now on. */
    static void limit(long bytes) {
        MemorySegment limit = SymbolLookup.libraryLookup(Path.of(System.getProperty("test.emulation")), Arena.global())
                .find("cuda_on_cpu_limit")
                .orElseThrow();
        try {
            Linker.nativeLinker()
                    .downcallHandle(limit, FunctionDescriptor.ofVoid(ValueLayout.JAVA_LONG))
                    .invokeExact(bytes);
        } catch (Throwable e) {
            throw new AssertionError("cuda_on_cpu_limit", e);
        }
    }

    private static Device open(String name, int capability) {
        NativeLibraries.loadCpu();
        Path library = Path.of(System.getProperty("test.emulation"));
        SymbolLookup symbols = SymbolLookup.libraryLookup(library, Arena.global());
        MemorySegment entry = symbols.find("lapidary_cuda_kernels").orElseThrow();
        try {
            MemorySegment table = (MemorySegment) Linker.nativeLinker()
                    .downcallHandle(entry, FunctionDescriptor.of(ValueLayout.ADDRESS))
                    .invokeExact();
            Linker.nativeLinker()
                    .downcallHandle(
                            symbols.find("cuda_on_cpu_capability").orElseThrow(),
                            FunctionDescriptor.ofVoid(ValueLayout.JAVA_INT))
                    .invokeExact(capability);
            Kernels kernels = new Kernels(name, table.reinterpret(kt_table.sizeof()));
            // Blocks of the very size, so that the checking builds see a step past the end.
            return new CpuDevice(name, kernels, MemoryPool.ofExactBlocks(kernels), false);
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable e) {
            throw new IllegalStateException("cannot call lapidary_cuda_kernels of " + library, e);
        }
    }
}
