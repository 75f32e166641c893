package lapidary.cli;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import lapidary.data.Profile;
import lapidary.device.CacheFolder;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.train.OptionConflictException;
import lapidary.train.ReportOptions;
import lapidary.train.SaveOptions;
import lapidary.train.Sft;
import lapidary.train.SftConfig;
import lapidary.train.TrainingReport;
import picocli.CommandLine;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engine train}: translates options into an {@link SftConfig} and shows how the run goes. */
@Command(
        name = "train",
        header = "Fine-tunes a Gemma 3 checkpoint with LoRA and writes a PEFT adapter.",
        description = {
            "",
            "Options carry TRL's and PEFT's names. A first run:",
            "",
            "  engine train --model_name_or_path gemma-3-4b-it --dataset_name data.parquet --output_dir out",
            "",
            "or engine train --config run.yaml, or, with nothing at hand, engine train --demo."
        },
        sortOptions = false,
        usageHelpWidth = 120,
        usageHelpAutoWidth = true,
        preprocessor = TrainArguments.class,
        mixinStandardHelpOptions = true)
final class Train implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    private ConfigFile file; // null without --config
    private Set<String> typed = Set.of(); // options of the command line, where there is a file
    private Set<String> idle = Set.of(); // what TRL has and has no meaning here

    private static final List<String> HEEDED_BY_DEMO =
            List.of("--demo", "--output_dir", "--seed", "--device", CheckpointOptions.RESUME);

    @Option(
            names = "--demo",
            description = "Trains the tiny model in this jar on drawn pictures and asks it held-out questions.")
    private boolean demo;

    @Option(
            names = "--config",
            paramLabel = "FILE",
            description = "YAML with options, as TRL takes it; an option of the command line counts before the file's.")
    private Path configFile;

    @ArgGroup(validate = false, heading = "%nModel and data:%n", order = 1)
    private final Inputs inputs = new Inputs();

    @ArgGroup(validate = false, heading = "%nSamples (engine check tells what they come to):%n", order = 1)
    private final SampleOptions samples = new SampleOptions();

    @ArgGroup(validate = false, heading = "%nTraining:%n", order = 2)
    private final RecipeOptions recipe = new RecipeOptions();

    @ArgGroup(validate = false, heading = "%nAdapters:%n", order = 3)
    private final LoraOptions lora = new LoraOptions();

    @ArgGroup(validate = false, heading = "%nQuantisation:%n", order = 4)
    private final QuantOptions quant = new QuantOptions();

    @ArgGroup(validate = false, heading = "%nEvaluation:%n", order = 5)
    private final EvaluationOptions evaluation = new EvaluationOptions();

    @ArgGroup(validate = false, heading = "%nCheckpoints:%n", order = 6)
    private final CheckpointOptions checkpoints = new CheckpointOptions();

    @ArgGroup(validate = false, heading = "%nRunning:%n", order = 7)
    private final Running running = new Running();

    @ArgGroup(validate = false, heading = "%nHugging Face Hub:%n", order = 8)
    private final HubOptions hub = new HubOptions();

    private static final class Inputs {
        @Option(
                names = "--model_name_or_path",
                paramLabel = "DIR|NAME",
                description = "Gemma 3 checkpoint: a folder as the Hugging Face Hub lays it out, or a name on the Hub.")
        private Path model;

        @Option(
                names = "--dataset_name",
                paramLabel = "PATH|NAME",
                description =
                        "Parquet or JSON with messages, prompt and completion, or MMIU's columns: a file, a folder of shards, a glob,"
                                + " or a name on the Hub.")
        private String dataset;

        @Option(
                names = "--dataset_train_split",
                paramLabel = "NAME",
                description = "Split to train on, or a slice: train[:1000], train[10%%:] (default: train).")
        private String split = "train";

        @Option(
                names = "--output_dir",
                paramLabel = "DIR",
                description = "Where the adapter, its logs and the processor's files go (default: trainer_output).")
        private Path output;

        @Option(
                names = "--overwrite_output_dir",
                paramLabel = "BOOL",
                arity = "0..1",
                fallbackValue = "true",
                converter = BooleanConverter.class,
                description =
                        "Replace what an earlier run left there: its adapter, and when training begins its checkpoints and"
                                + " TensorBoard's files; without it such a folder is refused (default: false).")
        private boolean overwrite;
    }

    private static final class Running {
        @Option(
                names = "--dtype",
                paramLabel = "TYPE",
                converter = DTypeConverter.class,
                description =
                        "Of weights and activations: bfloat16 or float32 (default: bfloat16). Adapters are float32"
                                + " (beside NF4 under --compat trl: bfloat16).")
        private DType dtype = DType.BF16;

        @Option(
                names = "--bf16",
                hidden = true,
                arity = "0..1",
                fallbackValue = "true",
                converter = BooleanConverter.class)
        private Boolean bf16;

        @Option(names = "--device", paramLabel = "NAME", description = "auto, cpu or cuda (default: auto).")
        private String device = "auto";

        @Option(names = "--seed", paramLabel = "N", description = "Of adapters, data order and dropout (default: 42).")
        private long seed = 42;

        @Option(names = "--data_seed", paramLabel = "N", description = "Of the order of rows alone (default: --seed).")
        private Long dataSeed;

        @Option(
                names = "--logging_steps",
                paramLabel = "N",
                description = "Steps between reports; below 1 a share of all steps (default: 10).")
        private double loggingSteps = 10;

        @Option(
                names = "--logging_first_step",
                paramLabel = "BOOL",
                arity = "0..1",
                fallbackValue = "true",
                converter = BooleanConverter.class,
                description = "Report the first step, too (default: false).")
        private boolean loggingFirstStep;

        @Option(
                names = "--report_to",
                paramLabel = "NAME",
                arity = "1..*",
                split = ",",
                description =
                        "tensorboard: event files in runs/ of the output folder, which wandb sync takes too; or none"
                                + " (default: none). metrics.jsonl is always written.")
        private List<String> reportTo = List.of("none");

        @Option(
                names = "--logging_dir",
                paramLabel = "DIR",
                description =
                        "For TensorBoard's files instead (default: TENSORBOARD_LOGGING_DIR, else runs/<date>_<host>).")
        private Path loggingDir;

        @Option(
                names = "--compat",
                paramLabel = "WHAT",
                description =
                        "default: what the guide means. trl: as TRL 1.13 with the guide's collator computes it (two <bos>, trained"
                                + " <start_of_image>, bfloat16 tables and moments, beside NF4 also adapters, rows cut at"
                                + " --max_length) (default: default).")
        private String compat = "default";
    }

    /**
     * The file that options were read from, to tell where a mistake is.
     *
     * @param arguments of the command line, which count before it; without values
     */
    void take(ConfigFile config, Set<String> arguments) {
        file = config;
        typed = Set.copyOf(arguments);
    }

    /** Names of TRL that were given and have no meaning here. */
    void say(Set<String> names) {
        idle = Set.copyOf(names);
    }

    /** Where the file has what a complaint names first: {@code  (run.yaml, line 3)}; else nothing. */
    String origin(String message) {
        Matcher option = Pattern.compile("--([a-z0-9_]+)").matcher(message);
        boolean isOfFile = file != null
                && option.find()
                && file.entries().containsKey(option.group(1))
                && !typed.contains(option.group());
        return isOfFile
                ? " (" + file.file() + ", line "
                        + file.entries().get(option.group(1)).line() + ")"
                : "";
    }

    /** One line, with the names of one reason together. */
    private void tellIdle(PrintWriter out) {
        Map<String, Set<String>> byReason = new TreeMap<>();
        idle.forEach(name -> byReason.computeIfAbsent(TrlKey.ALL.get(name).reason(), reason -> new TreeSet<>())
                .add(name));
        if (running.bf16 != null) {
            byReason.put("--dtype says it", Set.of("bf16"));
        }
        if (!byReason.isEmpty()) {
            List<String> parts = new ArrayList<>();
            byReason.forEach((reason, names) -> parts.add(String.join(", ", names) + " (" + reason + ")"));
            out.println("Taken, but without a meaning here: " + String.join("; ", parts));
            out.flush();
        }
    }

    @Override
    public Integer call() {
        Repeats.refuse(spec);
        PrintWriter out = spec.commandLine().getOut();
        if (inputs.output != null && inputs.output.toString().isBlank()) {
            throw usage("--output_dir is empty, expected a folder");
        }
        if (demo) {
            refuseBesideDemo();
            try (Device device = Devices.open(running.device, spec.commandLine())) {
                if (checkpoints.options().isResumed() && !checkpoints.options().isNewest()) {
                    throw usage("--demo goes on with its own newest checkpoint alone: " + CheckpointOptions.RESUME
                            + " true");
                }
                return new Demo(
                                device,
                                inputs.output,
                                running.seed,
                                checkpoints.options().isResumed(),
                                spec.commandLine())
                        .run();
            }
        }
        require(inputs.model, "--model_name_or_path");
        require(inputs.dataset, "--dataset_name");
        config(inputs.model, inputs.dataset, evaluation.dataset()); // mistakes are told before anything is fetched
        keepEarlierRun();
        tellIdle(out);
        hub.check(spec.commandLine());
        Optional<HubPush> push =
                hub.isPush() ? Optional.of(hub.begin(outputDir(), spec.commandLine())) : Optional.empty();
        SftConfig config = config(
                hub.model(inputs.model, spec.commandLine()),
                hub.dataset(
                        inputs.dataset,
                        Splits.parse(inputs.split, spec.commandLine()).name(),
                        spec.commandLine()),
                heldOut());
        try (Device device = Devices.open(running.device, spec.commandLine())) {
            return run(config, device, push);
        } catch (OptionConflictException e) {
            throw usage(e.getMessage());
        }
    }

    private int run(SftConfig config, Device device, Optional<HubPush> push) {
        PrintWriter out = spec.commandLine().getOut();
        ConsoleProgress progress = new ConsoleProgress(out);
        progress.writesToo(config.outputDir(), EffectiveConfig.FILE, EffectiveConfig.of(spec, config));
        Sft sft = new Sft(config, device, progress);
        checksFolder().ifPresent(sft::remembering);
        if (inputs.overwrite) {
            sft.overwriting();
        }
        Runnable stop = () -> {
            push.ifPresent(HubPush::stop);
            sft.stop();
        };
        try (Interruption interruption = new Interruption(stop, out)) {
            progress.onceStarted(interruption::started);
            push.ifPresent(
                    p -> progress.whenSaved((step, checkpoint) -> p.saved(step, checkpoint, progress::onNotice)));
            try {
                TrainingReport report = sft.run();
                progress.finish(report);
                if (report.stopped()) {
                    push.ifPresent(HubPush::close);
                    tellStopped(report, spec.commandLine());
                } else {
                    tellDone(report, out);
                    interruption.waitsFor(
                            "Stopping when all is published, in " + HubPush.GRACE.toSeconds() + " s at the latest");
                    push.ifPresent(p -> p.finish(config, inputs.dataset));
                }
                interruption.end(0);
                return 0;
            } catch (RuntimeException | Error e) {
                push.ifPresent(HubPush::giveUp);
                if (!interruption.isRequested()) {
                    throw e;
                }
                int code = Engine.onFailure(e, spec.commandLine()); // the process ends before a caller could
                interruption.end(code);
                return code;
            }
        }
    }

    /** Where looks at all rows are remembered; nowhere where the user has no such folder of their own. */
    private static Optional<Path> checksFolder() {
        try {
            return Optional.of(CacheFolder.make(CacheFolder.path()).resolve("checks"));
        } catch (IOException e) {
            return Optional.empty();
        }
    }

    static void tellStopped(TrainingReport report, CommandLine command) {
        PrintWriter out = command.getOut();
        out.println(
                report.step() == 0
                        ? "Stopped before the first step: there is nothing to save"
                        : "Stopped after step " + report.step() + " of " + report.maxSteps() + "; the checkpoint is in "
                                + report.written());
        out.println("Go on with: "
                + CheckpointOptions.resumeCommand(
                        command.getParseResult().originalArgs().stream().toList()));
        out.flush();
    }

    private static void tellDone(TrainingReport report, PrintWriter out) {
        if (report.step() < report.maxSteps()) {
            out.println("Stopped early after step " + report.step() + " of " + report.maxSteps()
                    + ": evaluation finds nothing better any more");
        }
        if (!report.best().isEmpty()) {
            out.println("Best: " + report.best());
        }
        if (!report.checkpoints().isEmpty()) {
            out.println("Checkpoints there: " + String.join(", ", report.checkpoints()));
        }
        if (report.events() != null) {
            out.println("TensorBoard: tensorboard --logdir " + report.events());
        }
        out.println("The adapter is in " + report.written());
        out.flush();
    }

    /** Where the held-out rows are: as given, or what the Hub has for them; empty for another split of a folder. */
    private String heldOut() {
        if (!evaluation.isOn()) {
            return evaluation.dataset();
        }
        if (!evaluation.dataset().isEmpty()) {
            return HubOptions.isLocal(evaluation.dataset())
                    ? evaluation.dataset()
                    : hub.dataset(evaluation.dataset(), evaluation.split(), spec.commandLine());
        }
        return HubOptions.isLocal(inputs.dataset)
                ? ""
                : hub.dataset(inputs.dataset, evaluation.split(), spec.commandLine());
    }

    /** The demo is one fixed run: options that it would not heed are mistakes. */
    private void refuseBesideDemo() {
        spec.commandLine().getParseResult().matchedOptions().stream()
                .map(option -> option.longestName())
                .filter(name -> !HEEDED_BY_DEMO.contains(name))
                .findFirst()
                .ifPresent(name -> {
                    throw usage("--demo is a run of its own and does not heed " + name + ", only " + HEEDED_BY_DEMO);
                });
    }

    /** Hours of work are not replaced because a command was run again. */
    private void keepEarlierRun() {
        SaveOptions saving = checkpoints.options();
        saving.missing().ifPresent(why -> {
            throw usage(why);
        });
        Optional<String> there = CheckpointOptions.newestIn(outputDir());
        if (inputs.overwrite) {
            if (!saving.isResumed() && lora.isFromCheckpointIn(outputDir())) {
                throw usage("--overwrite_output_dir would remove --init_adapter; choose another --output_dir");
            }
            return;
        }
        boolean goesOn = saving.isResumed() && (!saving.isNewest() || there.isPresent());
        if (!goesOn && Files.exists(outputDir().resolve("adapter_config.json"))) {
            throw usage(
                    "--output_dir " + outputDir() + " holds the adapter of a run that is over; choose another folder,"
                            + " or --overwrite_output_dir to replace it");
        }
        boolean isOwn = saving.isNewest() || (saving.isResumed() && checkpoints.isFrom(outputDir()));
        if (there.isPresent() && !isOwn) {
            throw usage("--output_dir " + outputDir() + " holds " + there.get() + " of an earlier run: "
                    + CheckpointOptions.RESUME
                    + " true goes on with that run, --overwrite_output_dir removes it and starts"
                    + " anew; or choose another folder");
        }
    }

    private Path outputDir() {
        return inputs.output == null ? Path.of("trainer_output") : inputs.output;
    }

    /** As transformers has it: an option, or a variable; null for the default. */
    private Path loggingDir() {
        String variable = System.getenv("TENSORBOARD_LOGGING_DIR");
        return running.loggingDir != null || variable == null || variable.isBlank()
                ? running.loggingDir
                : Path.of(variable.replaceFirst(
                        "^~(?=/|$)",
                        Matcher.quoteReplacement(CacheFolder.userHome().toString())));
    }

    private SftConfig config(Path model, String dataset, String heldOut) {
        if (running.bf16 != null && running.bf16 != (running.dtype == DType.BF16)) {
            throw usage("--bf16 " + running.bf16 + " does not go with --dtype "
                    + (running.dtype == DType.BF16 ? "bfloat16, the default" : "float32")
                    + ": there is no mixed precision here, --dtype bfloat16 or --dtype float32 says all");
        }
        quant.refuseOthers(spec.commandLine(), running.dtype);
        quant.refuseWithoutLoadIn4bit(spec.commandLine());
        try {
            Profile profile = Profiles.of(running.compat, spec.commandLine());
            SftConfig.Builder builder = SftConfig.builder(model, dataset, outputDir());
            recipe.applyTo(builder, spec.commandLine());
            lora.applyTo(builder);
            quant.applyTo(builder);
            return builder.baseModelName(inputs.model.toString())
                    .datasetTrainSplit(
                            Splits.of(Splits.parse(inputs.split, spec.commandLine()), inputs.dataset, dataset)
                                    .toString())
                    .dtype(running.dtype)
                    .seed(running.seed)
                    .dataSeed(running.dataSeed)
                    .loggingSteps(running.loggingSteps)
                    .loggingFirstStep(running.loggingFirstStep)
                    .reporting(ReportOptions.of(running.reportTo, loggingDir()))
                    .data(samples.options(profile, spec.commandLine()))
                    .saving(checkpoints.options())
                    .evaluation(evaluation.options(heldOut))
                    .profile(profile)
                    .build();
        } catch (IllegalArgumentException e) {
            throw usage(e.getMessage());
        }
    }

    private void require(Object value, String option) {
        if (value == null) {
            throw usage("train needs " + option + " (or --demo, which needs nothing); see engine train --help");
        }
    }

    private ParameterException usage(String message) {
        return new ParameterException(spec.commandLine(), message);
    }
}
