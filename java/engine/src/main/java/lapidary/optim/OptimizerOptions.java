package lapidary.optim;

import java.util.List;
import java.util.regex.Pattern;

/**
 * Which optimiser, and its constants, under transformers' names.
 *
 * @param optim {@code adamw_torch} or {@code adamw_torch_fused} (the same here), {@code adamw_8bit} or {@code sgd}
 * @param beta1 decay of AdamW's first moment
 * @param beta2 decay of AdamW's second moment
 * @param epsilon what AdamW adds to the root of the second moment
 * @param weightDecay decoupled for AdamW, added to the gradient for sgd
 */
public record OptimizerOptions(String optim, double beta1, double beta2, double epsilon, double weightDecay) {
    public static final String ADAMW = "adamw_torch_fused";
    public static final String ADAMW_8BIT = "adamw_8bit";
    public static final String SGD = "sgd";

    private static final List<String> NAMES = List.of("adamw_torch", ADAMW, ADAMW_8BIT, SGD);

    /** What transformers' Trainer takes from weight decay: any of these in a parameter's name. */
    private static final Pattern NO_DECAY =
            Pattern.compile("bias|layernorm|rmsnorm|(?:^|\\.)norm(?:$|\\.)|_norm(?:$|\\.)");

    /** @throws IllegalArgumentException naming the option, its value and what it may be */
    public OptimizerOptions {
        optim = optim.equals("adamw_bnb_8bit") ? ADAMW_8BIT : optim; // transformers has both names
        require(NAMES.contains(optim), "optim", optim, "one of " + String.join(", ", NAMES) + hint(optim));
        require(beta1 >= 0 && beta1 < 1, "adam_beta1", beta1, "0 <= beta < 1");
        require(beta2 >= 0 && beta2 < 1, "adam_beta2", beta2, "0 <= beta < 1");
        require(epsilon >= 0 && epsilon < 1e6, "adam_epsilon", epsilon, "a number from 0");
        require(weightDecay >= 0 && weightDecay < 1e6, "weight_decay", weightDecay, "a number from 0");
    }

    /** What to take instead of a name that transformers has, where that is the same rule. */
    private static String hint(String optim) {
        return switch (optim) {
            case "paged_adamw_8bit" -> ": moments are not paged here, otherwise " + ADAMW_8BIT + " is the same";
            case "paged_adamw",
                    "paged_adamw_32bit" -> ": moments are not paged here, otherwise adamw_torch is the same";
            default -> "";
        };
    }

    private static void require(boolean holds, String option, Object value, String expected) {
        if (!holds) {
            throw new IllegalArgumentException("--" + option + " is " + value + ", expected " + expected);
        }
    }

    /** AdamW with TRL's defaults. */
    public static OptimizerOptions adamw(double weightDecay) {
        return new OptimizerOptions(ADAMW, 0.9, 0.999, 1e-8, weightDecay);
    }

    /** Weight decay of the parameter of that name: 0 for biases and norms. */
    double weightDecayOf(String parameter) {
        return NO_DECAY.matcher(parameter.toLowerCase(java.util.Locale.ROOT)).find() ? 0 : weightDecay;
    }
}
