package lapidary.cli;

import java.nio.file.Path;
import java.util.List;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.gemma3.Nf4Options;
import lapidary.hub.Hub;
import lapidary.infer.GenerationOptions;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;
import picocli.CommandLine;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** What {@code generate}, {@code chat} and {@code evaluate} share: which model with which adapter, and how it answers. */
final class InferOptions {
    /** The name under which the command's adapter is attached. */
    static final String ADAPTER = "adapter";

    @ArgGroup(validate = false, heading = "%nModel:%n", order = 1)
    private final Inputs inputs = new Inputs();

    @ArgGroup(validate = false, heading = "%nAnswers:%n", order = 2)
    private final Sampling sampling = new Sampling();

    @ArgGroup(validate = false, heading = "%nQuantisation:%n", order = 3)
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
                names = "--adapter_name_or_path",
                paramLabel = "DIR",
                description = "PEFT adapter, a folder (default: none).")
        private Path adapter;

        @Option(
                names = "--dtype",
                paramLabel = "TYPE",
                converter = DTypeConverter.class,
                description = "Of weights and activations: bfloat16 or float32 (default: bfloat16).")
        private DType dtype = DType.BF16;

        @Option(
                names = "--max_model_len",
                paramLabel = "N",
                description = "Tokens of a prompt and its answer together (default: the model's own limit).")
        private int contextLength;

        @Option(
                names = "--do_pan_and_scan",
                paramLabel = "BOOL",
                arity = "0..1",
                fallbackValue = "true",
                converter = BooleanConverter.class,
                description =
                        "Show long pictures in parts, too (default: as the adapter was trained, else as the model's"
                                + " image processor says).")
        private Boolean panAndScan;

        @Option(names = "--device", paramLabel = "NAME", description = "auto, cpu or cuda (default: auto).")
        private String device = "auto";
    }

    private static final class Sampling {
        @Option(
                names = "--max_new_tokens",
                paramLabel = "N",
                description = "Most tokens of an answer (default: the model's generation_config.json, else 512).")
        private Integer maxNewTokens;

        @Option(
                names = "--temperature",
                paramLabel = "X",
                description =
                        "0 for the likeliest token each time (default: the model's generation_config.json; for evaluate"
                                + " 0).")
        private Double temperature;

        @Option(names = "--top_k", paramLabel = "N", description = "Draw from the N likeliest tokens; 0 for all.")
        private Integer topK;

        @Option(
                names = "--top_p",
                paramLabel = "P",
                description = "Draw from the likeliest tokens that have this probability together.")
        private Double topP;

        @Option(
                names = "--min_p",
                paramLabel = "P",
                description = "Draw no token with less than this share of the likeliest one's probability.")
        private Double minP;

        @Option(
                names = "--seed",
                paramLabel = "N",
                description = "Equal seeds give equal answers (default: another one each time).")
        private Long seed;

        @Option(
                names = "--stop",
                paramLabel = "TEXT",
                arity = "1..*",
                description = "Strings that end an answer and are not part of it.")
        private List<String> stop;
    }

    private int batchSize = LoadOptions.DEFAULT.batchSize();
    private CommandLine command;
    private Path folder;

    /** {@link #check(CommandLine)} of a command that makes so many answers together. */
    void check(CommandLine commandLine, int answers) {
        batchSize = answers;
        check(commandLine);
    }

    /** Checks what can be checked before anything is loaded. */
    void check(CommandLine commandLine) {
        command = commandLine;
        if (inputs.model == null) {
            throw new ParameterException(command, command.getCommandName() + " needs --model_name_or_path");
        }
        quant.refuseOthers(command, inputs.dtype);
        quant.refuseWithoutLoadIn4bit(command);
        options(GenerationOptions.GREEDY);
        load();
    }

    Path model() {
        return inputs.model;
    }

    Device openDevice() {
        return Devices.open(inputs.device, command);
    }

    /** The model, with its adapter if there is one in use. */
    LanguageModel open(Device device) {
        if (folder == null) {
            folder = HubOptions.model(inputs.model, inputs.revision, command);
        }
        LanguageModel model = LanguageModel.load(folder, load(), device);
        try {
            if (inputs.adapter != null) {
                model.attach(ADAPTER, inputs.adapter);
                model.use(ADAPTER);
            }
            return model;
        } catch (RuntimeException e) {
            model.close();
            throw e;
        }
    }

    private LoadOptions load() {
        try {
            LoadOptions load = LoadOptions.DEFAULT
                    .withDtype(inputs.dtype)
                    .withContextLength(inputs.contextLength)
                    .withBatchSize(batchSize);
            if (inputs.panAndScan != null) {
                load = load.withPanAndScan(inputs.panAndScan);
            }
            return quant.loadIn4bit() ? load.withNf4(new Nf4Options(quant.nested(), quant.skip())) : load;
        } catch (IllegalArgumentException e) {
            String message =
                    e.getMessage().replace("contextLength", "--max_model_len").replace("batchSize", "--batch_size");
            throw new ParameterException(command, message, e);
        }
    }

    /** The model's defaults, less what the command line says otherwise. */
    GenerationOptions options(GenerationOptions defaults) {
        try {
            return new GenerationOptions(
                    sampling.maxNewTokens == null ? defaults.maxNewTokens() : sampling.maxNewTokens,
                    sampling.temperature == null ? defaults.temperature() : sampling.temperature,
                    sampling.topK == null ? defaults.topK() : sampling.topK,
                    sampling.topP == null ? defaults.topP() : sampling.topP,
                    sampling.minP == null ? defaults.minP() : sampling.minP,
                    sampling.seed == null ? defaults.seed() : sampling.seed,
                    sampling.stop == null ? defaults.stop() : sampling.stop,
                    null);
        } catch (IllegalArgumentException e) {
            // names of options are as the record has them, less the dashes; of stop strings it makes a sentence
            String message = e.getMessage().startsWith("a stop string") ? "--stop: " : "--";
            throw new ParameterException(command, message + e.getMessage(), e);
        }
    }
}
