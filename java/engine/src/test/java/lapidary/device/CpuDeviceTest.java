package lapidary.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import lapidary.ffi.dnnl.Dnnl;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@EnabledOnOs(value = OS.LINUX, architectures = "amd64")
final class CpuDeviceTest {
    private static Set<String> flags() throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc/cpuinfo"))) {
            if (line.startsWith("flags")) {
                return Set.of(line.substring(line.indexOf(':') + 1).strip().split(" +"));
            }
        }
        return Set.of();
    }

    @Test
    void aProductThatFindsNoMemoryIsToldFromOtherFailures() {
        try (CpuDevice device = CpuDevice.open()) {
            assertEquals("cpu", device.name());
            DeviceException error = assertThrows(
                    OutOfMemoryException.class, () -> DnnlMatmul.check("create memory", Dnnl.dnnl_out_of_memory()));
            assertEquals("[gemm] on cpu: oneDNN: create memory: out of memory", error.getMessage());
            error = assertThrows(
                    DeviceException.class, () -> DnnlMatmul.check("create memory", Dnnl.dnnl_unimplemented()));
            assertEquals(DeviceException.class, error.getClass());
        }
    }

    @Test
    void namesTheInstructionsThatKernelsUse() throws IOException {
        Set<String> flags = flags();
        boolean avx512 = flags.containsAll(List.of("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"));
        String vectors = avx512 ? "avx512" : flags.containsAll(List.of("avx2", "fma", "bmi2")) ? "avx2" : "scalar";
        try (CpuDevice device = CpuDevice.open();
                Frame frame = Frame.root(device, "test")) {
            String kernels = device.kernels().describe();
            assertTrue(kernels.startsWith(vectors), kernels + " on a processor with " + vectors);
            // The head's fused loss is there exactly where the kernels use AMX.
            boolean amx = device.kernels().hasLinearCrossEntropy(frame.empty(DType.BF16, 1, 64));
            assertEquals(amx, kernels.contains("amx-bf16"), kernels);
            assertTrue(!amx || flags.contains("amx_bf16"), kernels);
            assertTrue(device.describe().contains(kernels));
        }
    }

    @Test
    void closesOnce() {
        CpuDevice device = CpuDevice.open();
        try (Frame frame = Frame.root(device, "test")) {
            frame.gemm()
                    .linear(
                            frame.empty(DType.F32, 2, 3),
                            frame.zeros(DType.F32, 2, 4),
                            frame.zeros(DType.F32, 3, 4),
                            Tensor.NONE);
        }
        device.close();
        device.close();
    }

    /** Sizes about every border between the ways that memory is had; see native/cpu/memory.cpp. */
    @ParameterizedTest
    @ValueSource(
            longs = {
                1,
                63,
                64,
                1000,
                (32 << 10) - 1,
                32 << 10,
                33_000,
                1 << 20,
                (4 << 20) - 1,
                4 << 20,
                5 << 20,
                70 << 20
            })
    void memoryIsAlignedAndZeroEvenWhereItWasUsed(long bytes) {
        try (CpuDevice device = CpuDevice.open()) {
            Kernels kernels = device.kernels();
            MemorySegment one = kernels.allocate(bytes);
            MemorySegment other = kernels.allocate(bytes);
            one.fill((byte) 1);
            assertAlignedZeros(other);
            kernels.free(one);
            MemorySegment again = kernels.allocate(bytes);
            assertAlignedZeros(again);
            again.fill((byte) 2);
            assertAlignedZeros(other);
            kernels.free(other);
            kernels.free(again);
        }
    }

    private static void assertAlignedZeros(MemorySegment memory) {
        assertEquals(0, memory.address() % 64);
        byte[] zeros = new byte[(int) memory.byteSize()];
        assertEquals(-1, memory.mismatch(MemorySegment.ofArray(zeros)), "first byte that is not zero");
    }
}
