package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.Callable;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.export.MergedCheckpoint;
import lapidary.format.FormatException;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Nf4Options;
import lapidary.hub.Hub;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engine merge}: base and adapter in, one checkpoint out. */
@Command(
        name = "merge",
        header = "Merges an adapter into its base and writes a checkpoint that Transformers and vLLM load.",
        description = {
            "",
            "  engine merge --model_name_or_path gemma-3-4b-it --adapter_name_or_path out --output_dir merged",
            "",
            "What was written is loaded again, and its logits are compared with those of base + adapter; the comparison is"
                    + " printed and kept as merge_report.json."
        },
        sortOptions = false,
        usageHelpWidth = 120,
        usageHelpAutoWidth = true,
        mixinStandardHelpOptions = true)
final class Merge implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    @ArgGroup(validate = false, heading = "%nModel:%n", order = 1)
    private final Inputs inputs = new Inputs();

    @ArgGroup(validate = false, heading = "%nQuantisation while the adapter was trained:%n", order = 2)
    private final QuantOptions quant = new QuantOptions();

    private static final class Inputs {
        @Option(
                names = "--model_name_or_path",
                paramLabel = "DIR|NAME",
                description = "The base that the adapter was trained on: a folder, or a name on the Hub.")
        private Path model;

        @Option(
                names = "--model_revision",
                paramLabel = "REV",
                description = "Branch, tag or commit of a model on the Hub (default: main).")
        private String revision = Hub.MAIN;

        @Option(names = "--adapter_name_or_path", paramLabel = "DIR", description = "PEFT adapter, a folder.")
        private Path adapter;

        @Option(
                names = "--output_dir",
                paramLabel = "DIR",
                description = "A folder that does not exist yet, or an empty one; it appears complete or not at all.")
        private Path output;

        @Option(
                names = "--dtype",
                paramLabel = "TYPE",
                converter = DTypeConverter.class,
                description = "Of what is written: bfloat16 or float32 (default: bfloat16).")
        private DType dtype = DType.BF16;

        @Option(
                names = "--merge_base",
                paramLabel = "WHICH",
                description =
                        "With --load_in_4bit: dequantized, the NF4 weights that the adapter was trained beside, or"
                                + " original, the unquantised ones; what that costs in logits is said (default: dequantized).")
        private String base;

        @Option(
                names = "--max_shard_size",
                paramLabel = "SIZE",
                description = "Most bytes of tensors in one file, e.g. 5GB or 500MB (default: 5GB).")
        private String maxShardSize = "5GB";

        @Option(
                names = "--prompt",
                paramLabel = "TEXT",
                arity = "1..*",
                description = "Prompts to compare logits on, instead of the built-in ones.")
        private List<String> prompts;

        @Option(
                names = "--image",
                paramLabel = "FILE",
                arity = "1..*",
                description = "Pictures to compare logits on, each a prompt of its own.")
        private List<Path> images;

        @Option(names = "--device", paramLabel = "NAME", description = "auto, cpu or cuda (default: auto).")
        private String device = "auto";
    }

    @Override
    public Integer call() {
        Repeats.refuse(spec);
        require(inputs.model, "--model_name_or_path");
        require(inputs.adapter, "--adapter_name_or_path");
        require(inputs.output, "--output_dir");
        quant.refuseOthers(spec.commandLine(), inputs.dtype);
        quant.refuseWithoutLoadIn4bit(spec.commandLine());
        if (inputs.base != null && !quant.loadIn4bit()) {
            throw new ParameterException(
                    spec.commandLine(),
                    "--merge_base has no effect without --load_in_4bit; say how the base was quantised");
        }
        boolean original =
                switch (Objects.requireNonNullElse(inputs.base, "dequantized")) {
                    case "dequantized" -> false;
                    case "original" -> true;
                    default -> throw new ParameterException(
                            spec.commandLine(),
                            "--merge_base is " + inputs.base + ", expected dequantized or original");
                };
        long maxShardBytes = Sizes.bytes("--max_shard_size", inputs.maxShardSize, spec.commandLine());
        Path model = HubOptions.model(inputs.model, inputs.revision, spec.commandLine());
        MergedCheckpoint.Written written;
        try (Device device = Devices.open(inputs.device, spec.commandLine())) {
            written = MergedCheckpoint.write(
                    new MergedCheckpoint.Options(
                            model,
                            inputs.adapter,
                            inputs.output,
                            inputs.dtype,
                            quant.loadIn4bit() ? new Nf4Options(quant.nested(), quant.skip()) : null,
                            original,
                            maxShardBytes,
                            Objects.requireNonNullElse(inputs.prompts, List.of()),
                            Objects.requireNonNullElse(inputs.images, List.of()),
                            notes(model)),
                    device);
        }
        PrintWriter out = spec.commandLine().getOut();
        written.lines().forEach(out::println);
        out.printf(
                Locale.ROOT,
                "%s has %,.1f MB of tensors in %d file%s; the report is %s%n",
                inputs.output,
                written.bytes() / 1e6,
                written.files(),
                written.files() == 1 ? "" : "s",
                inputs.output.resolve(MergedCheckpoint.REPORT_FILE));
        out.flush();
        return 0;
    }

    private List<String> notes(Path model) {
        if (quant.loadIn4bit() || !trainedIn4bit() || Gemma3.readConfig(model).isQuantized()) {
            return List.of();
        }
        return List.of(
                "note: " + inputs.adapter.resolve(EffectiveConfig.FILE) + " says that the adapter was trained with"
                        + " --load_in_4bit, which was not given here: it is merged into other weights than it was trained beside");
    }

    /** Whether the run's options beside the adapter say so; where they cannot be read, they say nothing. */
    private boolean trainedIn4bit() {
        Path options = inputs.adapter.resolve(EffectiveConfig.FILE);
        try {
            ConfigFile.Entry entry =
                    Files.exists(options) ? ConfigFile.read(options).entries().get("load_in_4bit") : null;
            return entry != null && entry.values().equals(List.of("true"));
        } catch (FormatException e) {
            return false;
        }
    }

    private void require(Object value, String option) {
        if (value == null) {
            throw new ParameterException(spec.commandLine(), "merge needs " + option + "; see engine merge --help");
        }
    }
}
