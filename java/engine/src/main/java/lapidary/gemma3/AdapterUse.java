package lapidary.gemma3;

import java.util.ArrayList;
import java.util.List;
import java.util.OptionalInt;
import java.util.stream.IntStream;
import lapidary.nn.LoraSpec;

/**
 * Which programs load an adapter as it is.
 *
 * @param obstacles why vLLM does not; none where it does
 * @param flags that vLLM must be started with
 * @see <a href="https://docs.vllm.ai/en/latest/features/lora.html">vLLM, LoRA adapters</a>
 */
public record AdapterUse(List<String> obstacles, List<String> flags) {
    /** The ranks that vLLM's --max-lora-rank may be, and the one it is where nothing is said. */
    private static final int[] VLLM_RANKS = {8, 16, 32, 64, 128, 256, 320, 512};

    private static final int VLLM_DEFAULT = 16;

    /** @param modules names in memory of the layers that have adapters */
    public static AdapterUse of(LoraSpec spec, List<String> modules) {
        List<String> obstacles = new ArrayList<>();
        List<String> flags = new ArrayList<>(List.of("--enable-lora"));
        if (!spec.modulesToSave().isEmpty()) {
            obstacles.add("it trained " + String.join(" and ", LoraSpec.lastParts(spec.modulesToSave()))
                    + " whole (modules_to_save)");
        }
        if (!spec.patterns().ranks().isEmpty() || !spec.patterns().alphas().isEmpty()) {
            obstacles.add("its layers differ in rank or alpha (rank_pattern, alpha_pattern)");
        }
        int rank = modules.stream().mapToInt(spec::rank).max().orElse(spec.r());
        OptionalInt fitting = IntStream.of(VLLM_RANKS).filter(r -> r >= rank).findFirst();
        if (fitting.isEmpty()) {
            obstacles.add("its rank is " + rank + ", more than 512");
        } else if (fitting.getAsInt() > VLLM_DEFAULT) {
            flags.add("--max-lora-rank " + fitting.getAsInt());
        }
        if (modules.stream().anyMatch(module -> module.startsWith("model.vision_tower."))) {
            flags.add("--enable-tower-connector-lora (without it the vision tower's part is left out in silence)");
        }
        return new AdapterUse(List.copyOf(obstacles), List.copyOf(flags));
    }

    /** What vLLM makes of it. */
    public String vllm() {
        return obstacles.isEmpty()
                ? "loads it with " + String.join(" ", flags)
                : "does not load it: " + String.join("; ", obstacles)
                        + "; engine merge writes a checkpoint that it loads";
    }

    /** All programs in one line. */
    public String line() {
        return "The adapter loads in PEFT as it is; vLLM " + vllm();
    }
}
