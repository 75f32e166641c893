package lapidary.cli;

import com.fasterxml.jackson.databind.node.TextNode;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import lapidary.device.DType;
import lapidary.train.SftConfig;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;

/** What a run was told, by file, by flag and by default, as YAML that {@code --config} reads again. */
final class EffectiveConfig {
    static final String FILE = "train_config.yaml";

    /** What is no part of the run itself: where it went on, what it may replace, and where options came from. */
    private static final Set<String> LEFT_OUT =
            Set.of("--config", "--demo", "--help", "--version", "--overwrite_output_dir", CheckpointOptions.RESUME);

    private EffectiveConfig() {}

    /** @param config of the same run, for defaults that are decided late */
    static String of(CommandSpec spec, SftConfig config) {
        Map<String, Object> values = new LinkedHashMap<>();
        for (OptionSpec option : spec.options()) {
            String name = option.longestName();
            if (!option.hidden() && !LEFT_OUT.contains(name)) {
                values.put(name.substring(2), option.getValue());
            }
        }
        values.put("output_dir", config.outputDir());
        values.put("max_length_policy", config.data().overlong().name().toLowerCase(Locale.ROOT));
        values.put("gradient_checkpointing", config.gradientCheckpointing());
        if (config.initAdapter() == null) { // else they are the adapter's
            values.put("lora_r", config.loraR() == null ? 16 : config.loraR());
            values.put("lora_alpha", config.loraAlpha() == null ? 32.0 : config.loraAlpha());
            values.put(
                    "lora_target_modules",
                    config.loraTargetModules() == null ? List.of("all-linear") : config.loraTargetModules());
        }
        return values.entrySet().stream()
                .filter(each ->
                        each.getValue() != null && !each.getValue().toString().isEmpty())
                .map(each -> each.getKey() + ": " + yaml(each.getKey(), each.getValue()) + "\n")
                .collect(Collectors.joining());
    }

    /** JSON's strings are YAML's, and a list of them is one. */
    private static String yaml(String name, Object value) {
        if (value instanceof List<?> list) {
            return list.stream().map(each -> yaml(name, each)).collect(Collectors.joining(", ", "[", "]"));
        }
        if (value instanceof DType dtype) {
            return dtype == DType.BF16 ? "bfloat16" : "float32";
        }
        boolean asItIs = value instanceof Number || value instanceof Boolean || name.endsWith("_kwargs");
        return asItIs ? value.toString() : new TextNode(value.toString()).toString();
    }
}
