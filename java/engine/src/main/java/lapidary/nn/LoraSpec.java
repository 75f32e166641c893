package lapidary.nn;

import java.util.List;
import java.util.regex.Pattern;

/**
 * Which linear layers get an adapter and which modules are trained whole. Names match a module when they are its full
 * name or the end of it after a dot, as in PEFT.
 *
 * @param r rank
 * @param alpha adapters are scaled by alpha / r
 * @param targetModules name endings; or the one word {@code all-linear}: every linear layer but the output head; or one regular
 *     expression, which whole names match
 * @param modulesToSave {@code lm_head}, {@code embed_tokens}, or nothing
 * @param patterns where rank and scale differ from r and alpha / r
 */
public record LoraSpec(
        int r,
        double alpha,
        double dropout,
        List<String> targetModules,
        List<String> modulesToSave,
        LoraPatterns patterns) {
    public static final String ALL_LINEAR = "all-linear";
    private static final Pattern NAME = Pattern.compile("[\\w.-]+");

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

    /** One rank, scaled by alpha / r, for all. */
    public LoraSpec(int r, double alpha, double dropout, List<String> targetModules, List<String> modulesToSave) {
        this(r, alpha, dropout, targetModules, modulesToSave, LoraPatterns.NONE);
    }

    /** Rank of the adapter on the linear layer of that name. */
    public int rank(String module) {
        return LoraPatterns.first("rank_pattern", patterns.ranks(), module).orElse(r);
    }

    /** What the product of that layer's two factors is multiplied with. */
    public float scaling(String module) {
        double own =
                LoraPatterns.first("alpha_pattern", patterns.alphas(), module).orElse(alpha);
        int rank = rank(module);
        return (float) (own / (patterns.rslora() ? Math.sqrt(rank) : rank));
    }

    /** Whether the linear layer of that name gets an adapter. */
    public boolean targets(String module) {
        return targetModules.contains(ALL_LINEAR)
                || (isExpression()
                        ? LoraPatterns.matches("lora_target_modules", targetModules.get(0), module)
                        : matches(targetModules, module));
    }

    /** Whether the targets are one regular expression: no name, and alone, as PEFT has it. */
    public boolean isExpression() {
        return targetModules.size() == 1 && !NAME.matcher(targetModules.get(0)).matches();
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
