package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.gemma3.Nf4Checkpoint;
import lapidary.gemma3.Nf4Options;
import lapidary.hub.Hub;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engine quantize}: a checkpoint in, the same with its linear layers in NF4 out. */
@Command(
        name = "quantize",
        header =
                "Writes a Gemma 3 checkpoint with its linear layers in NF4, which Transformers with bitsandbytes reads too.",
        description = {
            "",
            "  engine quantize --model_name_or_path gemma-3-4b-it --use_bnb_nested_quant --output_dir gemma-3-4b-it-nf4",
            "",
            "What comes out trains and loads as it is: faster to load than quantising each time, with the same numbers."
        },
        sortOptions = false,
        usageHelpWidth = 120,
        usageHelpAutoWidth = true,
        mixinStandardHelpOptions = true)
final class Quantize implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    @ArgGroup(validate = false, heading = "%nModel:%n", order = 1)
    private final Inputs inputs = new Inputs();

    @ArgGroup(validate = false, heading = "%nQuantisation:%n", order = 2)
    private final QuantOptions quant = new QuantOptions();

    private static final class Inputs {
        @Option(
                names = "--model_name_or_path",
                paramLabel = "DIR|NAME",
                description = "Gemma 3 checkpoint: a folder as the Hugging Face Hub lays it out, or a name on the Hub.")
        private Path model;

        @Option(
                names = "--model_revision",
                paramLabel = "REV",
                description = "Branch, tag or commit of a model on the Hub (default: main).")
        private String revision = Hub.MAIN;

        @Option(
                names = "--output_dir",
                paramLabel = "DIR",
                description = "A folder that does not exist yet, or an empty one; it appears complete or not at all.")
        private Path output;

        @Option(
                names = "--dtype",
                paramLabel = "TYPE",
                converter = DTypeConverter.class,
                description =
                        "What weights are rounded to before they are quantised, and what the others are stored as:"
                                + " bfloat16 or float32 (default: bfloat16).")
        private DType dtype = DType.BF16;

        @Option(
                names = "--max_shard_size",
                paramLabel = "SIZE",
                description = "Most bytes of tensors in one file, e.g. 5GB or 500MB (default: 5GB).")
        private String maxShardSize = "5GB";

        @Option(names = "--device", paramLabel = "NAME", description = "auto, cpu or cuda (default: auto).")
        private String device = "auto";
    }

    @Override
    public Integer call() {
        Repeats.refuse(spec);
        require(inputs.model, "--model_name_or_path");
        require(inputs.output, "--output_dir");
        quant.refuseOthers(spec.commandLine(), inputs.dtype);
        quant.refuseNotQuantising(spec.commandLine());
        long maxShardBytes = Sizes.bytes("--max_shard_size", inputs.maxShardSize, spec.commandLine());
        Path model = HubOptions.model(inputs.model, inputs.revision, spec.commandLine());
        Nf4Checkpoint.Written written;
        try (Device device = Devices.open(inputs.device, spec.commandLine())) {
            written = Nf4Checkpoint.write(
                    model,
                    inputs.output,
                    device,
                    inputs.dtype,
                    new Nf4Options(quant.nested(), quant.skip()),
                    quant.storage(spec.commandLine()),
                    maxShardBytes);
        }
        PrintWriter out = spec.commandLine().getOut();
        out.printf(
                Locale.ROOT,
                "%s has %d linear layers in NF4, %,.1f MB of tensors in %d file%s%n",
                inputs.output,
                written.matrices(),
                written.bytes() / 1e6,
                written.files(),
                written.files() == 1 ? "" : "s");
        out.flush();
        return 0;
    }

    private void require(Object value, String option) {
        if (value == null) {
            throw new ParameterException(
                    spec.commandLine(), "quantize needs " + option + "; see engine quantize --help");
        }
    }
}
