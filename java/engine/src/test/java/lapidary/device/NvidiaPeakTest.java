package lapidary.device;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class NvidiaPeakTest {
    @ParameterizedTest
    @CsvSource({
        "NVIDIA H100 80GB HBM3, 989",
        "NVIDIA H100 PCIe, 756",
        "NVIDIA H100 NVL, 835",
        "NVIDIA H200, 989",
        "NVIDIA H200 NVL, 835",
        "NVIDIA GH200 480GB, 989",
        "NVIDIA A100-SXM4-40GB, 312",
        "NVIDIA A100 80GB PCIe, 312",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb, 0",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb, 0",
        "NVIDIA L4, 121",
        "NVIDIA L40S, 362",
        "NVIDIA L40, 0",
        "NVIDIA GeForce RTX 4090, 165",
        "NVIDIA GeForce RTX 4090 Laptop GPU, 0",
        "NVIDIA B200, 2250",
        "Test GPU, 0"
    })
    void isKnownByTheWholeName(String name, double teraflops) {
        assertEquals(1e12 * teraflops, NvidiaPeak.bf16(name));
    }
}
