package lapidary.device;

import java.util.LinkedHashMap;
import java.util.Map;

/** What NVIDIA's data sheets promise of a card's tensor cores, by the name that CUDA calls it. */
final class NvidiaPeak {
    /** Dense BF16 products with sums in F32, TFLOP/s, by the whole name as a pattern. */
    private static final Map<String, Double> BF16 = new LinkedHashMap<>();

    static {
        BF16.put("NVIDIA B200", 2250.0);
        BF16.put("NVIDIA (H200|GH200 .*|H100 \\d+GB HBM.*)", 989.0);
        BF16.put("NVIDIA H(100|200) NVL", 835.0);
        BF16.put("NVIDIA H100 PCIe", 756.0);
        BF16.put("NVIDIA A100[- ].*", 312.0);
        BF16.put("NVIDIA L40S", 362.0);
        BF16.put("NVIDIA L4", 121.0);
        BF16.put("NVIDIA GeForce RTX 4090", 165.0);
    }

    private NvidiaPeak() {}

    /** FLOP/s; 0 for a card that is not listed, and for a slice of one. */
    static double bf16(String name) {
        return name.contains(" MIG ")
                ? 0
                : BF16.entrySet().stream()
                        .filter(card -> name.matches(card.getKey()))
                        .mapToDouble(card -> 1e12 * card.getValue())
                        .findFirst()
                        .orElse(0);
    }
}
