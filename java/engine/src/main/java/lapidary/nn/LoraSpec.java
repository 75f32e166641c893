package lapidary.nn;

import java.util.List;

/**
 * Which linear layers get an adapter and which modules are trained whole. Names match a module when they are its full
 * name or the end of it after a dot, as in PEFT.
 *
 * @param r rank
 * @param alpha adapters are scaled by alpha / r
 * @param targetModules name endings, or the one word {@code all-linear}: every linear layer but the output head
 * @param modulesToSave {@code lm_head}, {@code embed_tokens}, or nothing
 */
public record LoraSpec(int r, double alpha, double dropout, List<String> targetModules, List<String> modulesToSave) {
    public static final String ALL_LINEAR = "all-linear";

    public LoraSpec {
        if (r < 1) {
            throw new IllegalArgumentException("lora_r is " + r + ", expected at least 1");
        }
        if (!(alpha > 0)) {
            throw new IllegalArgumentException("lora_alpha is " + alpha + ", expected more than 0");
        }
        targetModules = List.copyOf(targetModules);
        modulesToSave = List.copyOf(modulesToSave);
    }

    public float scaling() {
        return (float) (alpha / r);
    }

    /** Whether the linear layer of that name gets an adapter. */
    public boolean targets(String module) {
        return targetModules.contains(ALL_LINEAR) || matches(targetModules, module);
    }

    /** Whether the module of that name is trained whole. */
    public boolean saves(String module) {
        return matches(modulesToSave, module);
    }

    /** The last part of each module's name, each once, in their order: how PEFT compresses names. */
    public static List<String> lastParts(List<String> modules) {
        return modules.stream()
                .map(module -> module.substring(module.lastIndexOf('.') + 1))
                .distinct()
                .toList();
    }

    private static boolean matches(List<String> names, String module) {
        return names.stream().anyMatch(name -> module.equals(name) || module.endsWith("." + name));
    }
}
