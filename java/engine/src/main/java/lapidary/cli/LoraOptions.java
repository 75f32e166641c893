package lapidary.cli;

import java.nio.file.Path;
import java.util.List;
import lapidary.train.SftConfig;
import picocli.CommandLine.Option;

/** What is trained, under PEFT's names. */
final class LoraOptions {
    @Option(names = "--lora_r", paramLabel = "N", description = "Rank (default: 16).")
    Integer r;

    @Option(names = "--lora_alpha", paramLabel = "X", description = "Scale, divided by the rank (default: 32).")
    Double alpha;

    @Option(names = "--lora_dropout", paramLabel = "P", description = "Dropout before adapters (default: 0.05).")
    double dropout = 0.05;

    @Option(
            names = "--lora_target_modules",
            paramLabel = "NAME",
            arity = "1..*",
            split = ",",
            description =
                    "Linear layers that get adapters: ends of their names; or one regular expression for whole names; or"
                            + " all-linear: every one but the output head, vision tower included (default: all-linear).")
    List<String> targets;

    @Option(
            names = "--lora_modules_to_save",
            paramLabel = "NAME",
            arity = "1..*",
            split = ",",
            description = "Modules trained whole beside the adapters: lm_head, embed_tokens (default: none).")
    List<String> saved;

    @Option(
            names = "--init_adapter",
            paramLabel = "DIR",
            description =
                    "PEFT adapter to start from. Rank, alpha, targets and saved modules are its own; options that say"
                            + " otherwise are refused.")
    Path init;

    /** Whether the adapter to start from is one of a folder's checkpoints. */
    boolean isFromCheckpointIn(Path output) {
        Path folder = output.toAbsolutePath().normalize();
        Path from = init == null ? folder : init.toAbsolutePath().normalize();
        return folder.equals(from.getParent()) && from.getFileName().toString().startsWith("checkpoint-");
    }

    void applyTo(SftConfig.Builder builder) {
        if (r != null) {
            builder.loraR(r);
        }
        if (alpha != null) {
            builder.loraAlpha(alpha);
        }
        builder.loraDropout(dropout)
                .loraTargetModules(targets)
                .loraModulesToSave(saved)
                .initAdapter(init);
    }
}
