package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import lapidary.ffi.kernels.kt_table;

/**
 * The host's processor with the kernels of one that has fewer instructions: native/test/level.cpp. Matrix products of many
 * rows are oneDNN's, of this processor. {@code -Dtest.levels=FOLDER} names where the libraries are.
 */
public final class CpuLevel {
    /** As the kernels call them, each with all before it; scalar is what every processor of its architecture has. */
    private static final List<String> ALL = List.of("scalar", "avx2", "avx512");

    private CpuLevel() {}

    /** Whether it is a device of such a level. */
    public static boolean isOf(Device device) {
        return ALL.contains(device.name());
    }

    /** Levels below this processor's. */
    public static List<String> lower() {
        try (CpuDevice cpu = CpuDevice.open()) {
            String own = cpu.kernels().describe();
            int count = 0;
            while (!own.startsWith(ALL.get(count))) {
                count++;
            }
            return ALL.subList(0, count);
        }
    }

    /** @param level one of the {@link #lower} ones */
    public static Device open(String level) {
        NativeLibraries.loadCpu();
        Path library = Path.of(System.getProperty("test.levels"), "liblapidary_cpu_" + level + ".so");
        MemorySegment entry = SymbolLookup.libraryLookup(library, Arena.global())
                .find("lapidary_cpu_kernels")
                .orElseThrow();
        try {
            MemorySegment table = (MemorySegment) Linker.nativeLinker()
                    .downcallHandle(entry, FunctionDescriptor.of(ValueLayout.ADDRESS))
                    .invokeExact();
            Kernels kernels = new Kernels(level, table.reinterpret(kt_table.sizeof()));
            if (!kernels.describe().startsWith(level + ", ")) {
                throw new AssertionError(library + " is for " + kernels.describe());
            }
            return new CpuDevice(level, kernels, new MemoryPool(kernels), true);
        } catch (Error | RuntimeException e) {
            throw e;
        } catch (Throwable e) {
            throw new IllegalStateException("cannot call lapidary_cpu_kernels of " + library, e);
        }
    }
}
