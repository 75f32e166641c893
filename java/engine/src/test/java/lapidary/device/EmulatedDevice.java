package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.function.Function;
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

    /** One whose pool keeps what comes back. */
    static Device openKeeping() {
        return open("emulated", 8, MemoryPool::new);
    }

    /** Kernels that ran on these devices so far. */
    public static long launches() {
        return (long) call("cuda_on_cpu_launches", FunctionDescriptor.of(ValueLayout.JAVA_LONG));
    }

    /** Bytes that these devices may have together from now on. */
    static void limit(long bytes) {
        call("cuda_on_cpu_limit", FunctionDescriptor.ofVoid(ValueLayout.JAVA_LONG), bytes);
    }

    /** Bytes that these devices have. */
    static long used() {
        return (long) call("cuda_on_cpu_used", FunctionDescriptor.of(ValueLayout.JAVA_LONG));
    }

    /** The next time that memory is to be filled, that fails. */
    static void failMemset() {
        call("cuda_on_cpu_fail_memset", FunctionDescriptor.ofVoid());
    }

    /** The kernel table. */
    static MemorySegment table() {
        NativeLibraries.loadCpu();
        MemorySegment table = (MemorySegment) call("lapidary_cuda_kernels", FunctionDescriptor.of(ValueLayout.ADDRESS));
        return table.reinterpret(kt_table.sizeof());
    }

    private static Device open(String name, int capability) {
        // Blocks of the very size, so that the checking builds see a step past the end.
        return open(name, capability, MemoryPool::ofExactBlocks);
    }

    private static Device open(String name, int capability, Function<MemoryPool.Source, MemoryPool> pool) {
        MemorySegment table = table();
        call("cuda_on_cpu_capability", FunctionDescriptor.ofVoid(ValueLayout.JAVA_INT), capability);
        Kernels kernels = new Kernels(name, table);
        return new CpuDevice(name, kernels, pool.apply(kernels), false);
    }

    private static Object call(String name, FunctionDescriptor type, Object... arguments) {
        Path library = Path.of(System.getProperty("test.emulation"));
        MemorySegment address =
                SymbolLookup.libraryLookup(library, Arena.global()).find(name).orElseThrow();
        try {
            return Linker.nativeLinker().downcallHandle(address, type).invokeWithArguments(arguments);
        } catch (Throwable e) {
            throw new AssertionError(name + " of " + library, e);
        }
    }
}
