package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import lapidary.device.Device;
import lapidary.export.GgufExport;
import lapidary.format.GgufWriter;
import lapidary.hub.Hub;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engine export}: a checkpoint in, files for other programs out. */
@Command(
        name = "export",
        header = "Writes a checkpoint, with an adapter where one is given, as GGUF files that llama.cpp loads.",
        description = {
            "",
            "  engine export --format gguf --model_name_or_path gemma-3-4b-it --adapter_name_or_path out --output_dir gguf",
            "",
            "Decoder, tokenizer and chat template go into one file, vision tower and projector into mmproj-...: llama-server -m"
                    + " ONE --mmproj THE-OTHER."
        },
        sortOptions = false,
        usageHelpWidth = 120,
        usageHelpAutoWidth = true,
        mixinStandardHelpOptions = true)
final class Export implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    @Option(names = "--format", paramLabel = "NAME", description = "gguf (default: gguf).")
    private String format = "gguf";

    @Option(
            names = "--model_name_or_path",
            paramLabel = "DIR|NAME",
            description = "Gemma 3 checkpoint: a folder, or a name on the Hub.")
    private Path model;

    @Option(
            names = "--model_revision",
            paramLabel = "REV",
            description = "Branch, tag or commit of a model on the Hub (default: main).")
    private String revision = Hub.MAIN;

    @Option(
            names = "--adapter_name_or_path",
            paramLabel = "DIR",
            description = "PEFT adapter to merge in on the way, a folder (default: none).")
    private Path adapter;

    @Option(
            names = "--outtype",
            paramLabel = "TYPE",
            description = "Of matrices: f32, f16, bf16 or q8_0, as llama.cpp's converter calls them (default: bf16).")
    private String outtype = "bf16";

    @Option(
            names = "--output_dir",
            paramLabel = "DIR",
            description = "A folder that does not exist yet, or an empty one; it appears complete or not at all.")
    private Path output;

    @Option(names = "--device", paramLabel = "NAME", description = "auto, cpu or cuda (default: auto).")
    private String device = "auto";

    @Override
    public Integer call() {
        Repeats.refuse(spec);
        require(model, "--model_name_or_path");
        require(output, "--output_dir");
        if (!format.equals("gguf")) {
            throw new ParameterException(
                    spec.commandLine(),
                    "--format is " + format
                            + ", expected gguf; engine merge writes a checkpoint for Transformers and vLLM");
        }
        GgufWriter.Type type = type();
        Path folder = HubOptions.model(model, revision, spec.commandLine());
        GgufExport.Written written;
        try (Device opened = Devices.open(device, spec.commandLine())) {
            written = GgufExport.write(new GgufExport.Options(folder, adapter, output, name(), type), opened);
        }
        PrintWriter out = spec.commandLine().getOut();
        written.lines().forEach(out::println);
        out.flush();
        return 0;
    }

    private GgufWriter.Type type() {
        return switch (outtype.toLowerCase(Locale.ROOT)) {
            case "f32", "float32" -> GgufWriter.Type.F32;
            case "f16", "float16" -> GgufWriter.Type.F16;
            case "bf16", "bfloat16" -> GgufWriter.Type.BF16;
            case "q8_0" -> GgufWriter.Type.Q8_0;
            default -> throw new ParameterException(
                    spec.commandLine(),
                    "--outtype is " + outtype
                            + ", expected f32, f16, bf16 or q8_0 (llama-quantize makes others of f32 or" + " bf16)");
        };
    }

    /** What the model is called: the last part of its path, in characters that file names have everywhere. */
    private String name() {
        Path last = model.toAbsolutePath().normalize().getFileName();
        String name = last == null ? "" : last.toString().replaceAll("[^A-Za-z0-9._-]", "_");
        return name.isEmpty() ? "model" : name;
    }

    private void require(Object value, String option) {
        if (value == null) {
            throw new ParameterException(spec.commandLine(), "export needs " + option + "; see engine export --help");
        }
    }
}
