package lapidary.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import lapidary.tensor.Frame;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;

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
}
