package lapidary.train;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import lapidary.gemma3.PeftAdapter;
import lapidary.nn.LoraSpec;

/**
 * What is trained: what the options say, and where they are silent the initial adapter's own shape, or TRL's defaults
 * where there is none. Dropout is always the run's.
 */
record LoraChoice(SftConfig config, PeftAdapter init, LoraSpec spec) {
    private static final int DEFAULT_R = 16;
    private static final double DEFAULT_ALPHA = 32;

    /**
     * @param init the adapter to start from, or null
     * @throws OptionConflictException where a given option contradicts the adapter
     */
    static LoraChoice of(SftConfig config, PeftAdapter init) {
        if (init == null) {
            LoraSpec asked = new LoraSpec(
                    Objects.requireNonNullElse(config.loraR(), DEFAULT_R),
                    Objects.requireNonNullElse(config.loraAlpha(), DEFAULT_ALPHA),
                    config.loraDropout(),
                    Objects.requireNonNullElse(config.loraTargetModules(), List.of(LoraSpec.ALL_LINEAR)),
                    Objects.requireNonNullElse(config.loraModulesToSave(), List.of()));
            return new LoraChoice(config, null, asked);
        }
        LoraSpec own = init.spec();
        LoraChoice choice = new LoraChoice(
                config,
                init,
                new LoraSpec(
                        own.r(),
                        own.alpha(),
                        config.loraDropout(),
                        own.targetModules(),
                        own.modulesToSave(),
                        own.patterns()));
        choice.require(config.loraR() == null || config.loraR() == own.r(), "lora_r", config.loraR(), own.r());
        choice.require(
                config.loraAlpha() == null || config.loraAlpha() == own.alpha(),
                "lora_alpha",
                config.loraAlpha(),
                own.alpha());
        choice.require(
                config.loraModulesToSave() == null
                        || Set.copyOf(LoraSpec.lastParts(config.loraModulesToSave()))
                                .equals(Set.copyOf(LoraSpec.lastParts(own.modulesToSave()))),
                "lora_modules_to_save",
                config.loraModulesToSave(),
                LoraSpec.lastParts(own.modulesToSave()));
        choice.requireTargets(own.targetModules());
        return choice;
    }

    /**
     * Whether the target names that were given, if any, select just the adapter's layers.
     *
     * @param linears linear layers that the model has, or as far as they are known yet
     */
    void requireTargets(List<String> linears) {
        if (init == null || config.loraTargetModules() == null) {
            return;
        }
        LoraSpec asked =
                new LoraSpec(spec.r(), spec.alpha(), spec.dropout(), config.loraTargetModules(), spec.modulesToSave());
        for (String module : linears) {
            if (asked.targets(module) != spec.targets(module)) {
                throw conflict(
                        "lora_target_modules",
                        config.loraTargetModules(),
                        LoraSpec.lastParts(spec.targetModules())
                                + (spec.targets(module) ? ", " : " and not ")
                                + module);
            }
        }
    }

    /** What was taken from the initial adapter because no option said so; one line, empty where nothing was. */
    String taken() {
        List<String> taken = new ArrayList<>();
        if (init != null && config.loraR() == null) {
            taken.add("lora_r " + spec.r());
        }
        if (init != null && config.loraAlpha() == null) {
            taken.add("lora_alpha " + number(spec.alpha()));
        }
        if (init != null && config.loraTargetModules() == null) {
            taken.add("lora_target_modules " + String.join(",", LoraSpec.lastParts(spec.targetModules())));
        }
        if (init != null && config.loraModulesToSave() == null) {
            List<String> saved = LoraSpec.lastParts(spec.modulesToSave());
            taken.add("lora_modules_to_save " + (saved.isEmpty() ? "none" : String.join(",", saved)));
        }
        return taken.isEmpty() ? "" : "From the adapter in " + init.directory() + ": " + String.join(", ", taken);
    }

    private void require(boolean agrees, String option, Object given, Object own) {
        if (!agrees) {
            throw conflict(option, given, own);
        }
    }

    private OptionConflictException conflict(String option, Object given, Object own) {
        boolean isInitial = config.initAdapter() != null; // else it is a checkpoint's
        return new OptionConflictException("--" + option + " is " + text(given) + ", but the adapter "
                + (isInitial ? "of --init_adapter " : "in ") + init.directory() + " has " + text(own) + "; leave --"
                + option + " out to go on with the adapter's"
                + (isInitial ? ", or start without --init_adapter" : ""));
    }

    private static String text(Object value) {
        return value instanceof Double d ? number(d) : String.valueOf(value);
    }

    private static String number(double value) {
        return value == Math.rint(value) && Math.abs(value) < 1e9
                ? String.valueOf((long) value)
                : String.valueOf(value);
    }
}
