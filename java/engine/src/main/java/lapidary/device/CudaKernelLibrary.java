package lapidary.device;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;
import lapidary.ffi.kernels.kt_table;

/**
 * What a CUDA kernel library exports, as {@code native/include/cuda_kernels.h} has it. Not by jextract's bindings, which know
 * one library a process: tests open devices with other kernels beside each other.
 */
record CudaKernelLibrary(MethodHandle kernels, MethodHandle useStream, MethodHandle check) {
    private static final ValueLayout.OfInt STATUS = ValueLayout.JAVA_INT;

    /** @throws DeviceException naming what the library lacks */
    static CudaKernelLibrary of(Path file, SymbolLookup symbols) {
        return new CudaKernelLibrary(
                handle(file, symbols, "lapidary_cuda_kernels", FunctionDescriptor.of(ValueLayout.ADDRESS)),
                handle(
                        file,
                        symbols,
                        "lapidary_cuda_use_stream",
                        FunctionDescriptor.of(STATUS, ValueLayout.ADDRESS, ValueLayout.ADDRESS)),
                handle(file, symbols, "lapidary_cuda_check", FunctionDescriptor.of(STATUS, ValueLayout.ADDRESS)));
    }

    private static MethodHandle handle(Path file, SymbolLookup symbols, String name, FunctionDescriptor type) {
        MemorySegment address = symbols.find(name)
                .orElseThrow(
                        () -> new DeviceException(file + " does not export " + name + ": it is not of this build"));
        return Linker.nativeLinker().downcallHandle(address, type);
    }

    /** The kernel table. */
    MemorySegment table() {
        try {
            return ((MemorySegment) kernels.invokeExact()).reinterpret(kt_table.sizeof());
        } catch (Throwable e) {
            throw new DeviceException("lapidary_cuda_kernels: " + e, e);
        }
    }

    /** Kernels of this context run on that stream from now on. */
    int useStream(MemorySegment context, MemorySegment stream) {
        try {
            return (int) useStream.invokeExact(context, stream);
        } catch (Throwable e) {
            throw new DeviceException("lapidary_cuda_use_stream: " + e, e);
        }
    }

    /** What kernels that are done have found wrong with their operands. */
    int check(MemorySegment context) {
        try {
            return (int) check.invokeExact(context);
        } catch (Throwable e) {
            throw new DeviceException("lapidary_cuda_check: " + e, e);
        }
    }
}
