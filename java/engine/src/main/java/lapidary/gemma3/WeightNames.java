package lapidary.gemma3;

import java.util.List;

/**
 * The names that weights have in memory, which adapters are named after, from those of any checkpoint layout: the Hub's
 * original, transformers 4.52 and later, transformers 5. Text-only checkpoints have one layout.
 */
public final class WeightNames {
    private record Rule(String prefix, String replacement) {}

    // First match wins, so the longer prefix stands first.
    private static final List<Rule> RULES = List.of(
            new Rule("language_model.lm_head.", "lm_head."),
            new Rule("language_model.model.", "model.language_model."),
            new Rule("language_model.", "model.language_model."),
            new Rule("vision_tower.", "model.vision_tower."),
            new Rule("multi_modal_projector.", "model.multi_modal_projector."));

    private WeightNames() {}

    /**
     * The name in the Hub's original layout of a weight in memory; of a text-only model they are the same. The output head
     * stands at the top, as Transformers writes it.
     */
    public static String onHub(String name) {
        String decoder = "model.language_model.";
        String tower = "model.vision_tower.";
        String projector = "model.multi_modal_projector.";
        if (name.startsWith(decoder)) {
            return "language_model.model." + name.substring(decoder.length());
        }
        if (name.startsWith(tower)) {
            return "vision_tower.vision_model." + name.substring(tower.length());
        }
        return name.startsWith(projector) ? name.substring("model.".length()) : name;
    }

    /** The name in memory of a checkpoint's tensor. */
    public static String inMemory(String checkpointName) {
        String name = checkpointName;
        for (Rule rule : RULES) {
            if (name.startsWith(rule.prefix())) {
                name = rule.replacement() + name.substring(rule.prefix().length());
                break;
            }
        }
        return name.startsWith("model.vision_tower.vision_model.")
                ? "model.vision_tower." + name.substring("model.vision_tower.vision_model.".length())
                : name;
    }
}
