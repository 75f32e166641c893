package lapidary.cli;

import java.io.PrintWriter;
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
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.optim.OptimizerOptions;
import lapidary.train.OptionConflictException;
import lapidary.train.Sft;
import lapidary.train.SftConfig;
import lapidary.train.TrainingReport;
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

    private static final List<String> HEEDED_BY_DEMO = List.of("--demo", "--output_dir", "--seed", "--device");

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
    private final Recipe recipe = new Recipe();

    @ArgGroup(validate = false, heading = "%nAdapters:%n", order = 3)
    private final Lora lora = new Lora();

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
    }

    private static final class Recipe {
        @Option(names = "--num_train_epochs", paramLabel = "N", description = "Passes over the data (default: 3).")
        private double epochs = 3;

        @Option(
                names = "--max_steps",
                paramLabel = "N",
                description = "Optimiser steps; overrides epochs (default: -1).")
        private int maxSteps = -1;

        @Option(
                names = "--per_device_train_batch_size",
                paramLabel = "N",
                description = "Rows that go through the model together (default: 8).")
        private int batchSize = 8;

        @Option(
                names = "--packing",
                paramLabel = "BOOL",
                arity = "0..1",
                fallbackValue = "true",
                converter = BooleanConverter.class,
                description = "Count sets of rows that fill --max_length, instead of rows (default: false).")
        private boolean packing;

        @Option(
                names = "--gradient_accumulation_steps",
                paramLabel = "N",
                description = "Such batches in one optimiser step (default: 1).")
        private int accumulation = 1;

        @Option(
                names = "--gradient_checkpointing",
                paramLabel = "BOOL",
                arity = "0..1",
                fallbackValue = "true",
                converter = BooleanConverter.class,
                description = "Recompute layers in the backward pass to save memory (default: true).")
        private boolean checkpointing = true;

        @Option(names = "--no_gradient_checkpointing", hidden = true)
        private boolean noCheckpointing;

        @Option(names = "--learning_rate", paramLabel = "X", description = "Peak learning rate (default: 2e-5).")
        private double learningRate = 2e-5;

        @Option(
                names = "--lr_scheduler_type",
                paramLabel = "TYPE",
                description = "linear, cosine, cosine_with_restarts, cosine_with_min_lr, cosine_warmup_with_min_lr,"
                        + " polynomial, constant, constant_with_warmup, inverse_sqrt or warmup_stable_decay (default:"
                        + " linear).")
        private String schedule = "linear";

        @Option(
                names = "--lr_scheduler_kwargs",
                paramLabel = "JSON",
                description = "The schedule's arguments, such as {\"min_lr_rate\": 0.1}.")
        private String scheduleArguments = "{}";

        @Option(
                names = "--warmup_steps",
                paramLabel = "N",
                description = "Steps of rising learning rate; below 1 a share of all steps (default: 0).")
        private double warmup;

        @Option(
                names = "--warmup_ratio",
                paramLabel = "X",
                description = "The same as a share of all steps (default: 0).")
        private double warmupRatio;

        @Option(
                names = "--optim",
                paramLabel = "NAME",
                description =
                        "adamw_torch_fused, adamw_torch (the same here), adamw_8bit: moments of 8 bits, a quarter of"
                                + " the memory; or sgd (default: adamw_torch_fused).")
        private String optim = OptimizerOptions.ADAMW;

        @Option(names = "--adam_beta1", paramLabel = "X", description = "AdamW's first decay (default: 0.9).")
        private double beta1 = 0.9;

        @Option(names = "--adam_beta2", paramLabel = "X", description = "AdamW's second decay (default: 0.999).")
        private double beta2 = 0.999;

        @Option(names = "--adam_epsilon", paramLabel = "X", description = "AdamW's epsilon (default: 1e-8).")
        private double epsilon = 1e-8;

        @Option(
                names = "--weight_decay",
                paramLabel = "X",
                description = "Weight decay, of all but biases and norms (default: 0).")
        private double weightDecay;

        @Option(
                names = "--max_grad_norm",
                paramLabel = "X",
                description = "Gradients are scaled down to this norm; 0 for never (default: 1).")
        private double maxGradNorm = 1;
    }

    private static final class Lora {
        @Option(names = "--lora_r", paramLabel = "N", description = "Rank (default: 16).")
        private Integer r;

        @Option(names = "--lora_alpha", paramLabel = "X", description = "Scale, divided by the rank (default: 32).")
        private Double alpha;

        @Option(names = "--lora_dropout", paramLabel = "P", description = "Dropout before adapters (default: 0.05).")
        private double dropout = 0.05;

        @Option(
                names = "--lora_target_modules",
                paramLabel = "NAME",
                arity = "1..*",
                split = ",",
                description =
                        "Linear layers that get adapters: ends of their names, or all-linear: every one but the output"
                                + " head, vision tower included (default: all-linear).")
        private List<String> targets;

        @Option(
                names = "--lora_modules_to_save",
                paramLabel = "NAME",
                arity = "1..*",
                split = ",",
                description = "Modules trained whole beside the adapters: lm_head, embed_tokens (default: none).")
        private List<String> saved;

        @Option(
                names = "--init_adapter",
                paramLabel = "DIR",
                description =
                        "PEFT adapter to start from. Rank, alpha, targets and saved modules are its own; options that say"
                                + " otherwise are refused.")
        private Path init;
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

        @Option(names = "--logging_steps", paramLabel = "N", description = "Steps between reports (default: 10).")
        private int loggingSteps = 10;

        @Option(
                names = "--compat",
                paramLabel = "WHAT",
                description =
                        "default: what the guide means. trl: as TRL 1.13 computes it (two <bos>, trained"
                                + " <start_of_image>, bfloat16 tables and moments, beside NF4 also adapters) (default: default).")
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
                return new Demo(device, inputs.output, running.seed, out).run();
            }
        }
        require(inputs.model, "--model_name_or_path");
        require(inputs.dataset, "--dataset_name");
        config(inputs.model, inputs.dataset, evaluation.dataset()); // mistakes are told before anything is fetched
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
        progress.writesToo(EffectiveConfig.FILE, EffectiveConfig.of(spec, config));
        Sft sft = new Sft(config, device, progress);
        try (Interruption interruption = new Interruption(sft::stop, out)) {
            progress.onceStarted(interruption::started);
            try {
                TrainingReport report = sft.run();
                progress.finish();
                if (report.stopped()) {
                    tellStopped(report, out);
                } else {
                    tellDone(report, out);
                    push.ifPresent(p -> p.finish(config, inputs.dataset, spec.commandLine()));
                }
                interruption.end(0);
                return 0;
            } catch (RuntimeException | Error e) {
                if (!interruption.isRequested()) {
                    throw e;
                }
                int code = Engine.onFailure(e, spec.commandLine()); // the process ends before a caller could
                interruption.end(code);
                return code;
            }
        }
    }

    private void tellStopped(TrainingReport report, PrintWriter out) {
        out.println(
                report.step() == 0
                        ? "Stopped before the first step: there is nothing to save"
                        : "Stopped after step " + report.step() + " of " + report.maxSteps() + "; the checkpoint is in "
                                + report.written());
        out.println("Go on with: "
                + CheckpointOptions.resumeCommand(spec.commandLine().getParseResult().originalArgs().stream()
                        .toList()));
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

    private Path outputDir() {
        return inputs.output == null ? Path.of("trainer_output") : inputs.output;
    }

    private SftConfig config(Path model, String dataset, String heldOut) {
        if (running.bf16 != null && running.bf16 != (running.dtype == DType.BF16)) {
            throw usage("--bf16 " + running.bf16 + " does not go with --dtype "
                    + (running.dtype == DType.BF16 ? "bfloat16, the default" : "float32")
                    + ": there is no mixed precision here, --dtype bfloat16 or --dtype float32 says all");
        }
        quant.refuseOthers(spec.commandLine(), running.dtype);
        quant.refuseWithoutLoadIn4bit(spec.commandLine());
        if (recipe.warmup != 0 && recipe.warmupRatio != 0) {
            throw usage("--warmup_steps is " + recipe.warmup + " and --warmup_ratio " + recipe.warmupRatio
                    + "; give one of them");
        }
        if (!(recipe.warmupRatio >= 0 && recipe.warmupRatio < 1)) {
            throw usage("--warmup_ratio is " + recipe.warmupRatio + ", expected 0 <= ratio < 1");
        }
        try {
            SftConfig.Builder builder = SftConfig.builder(model, dataset, outputDir());
            if (lora.r != null) {
                builder.loraR(lora.r);
            }
            if (lora.alpha != null) {
                builder.loraAlpha(lora.alpha);
            }
            return builder.baseModelName(inputs.model.toString())
                    .datasetTrainSplit(
                            Splits.of(Splits.parse(inputs.split, spec.commandLine()), inputs.dataset, dataset)
                                    .toString())
                    .numTrainEpochs(recipe.epochs)
                    .maxSteps(recipe.maxSteps)
                    .perDeviceTrainBatchSize(recipe.batchSize)
                    .gradientAccumulationSteps(recipe.accumulation)
                    .gradientCheckpointing(recipe.checkpointing && !recipe.noCheckpointing)
                    .learningRate(recipe.learningRate)
                    .lrSchedulerType(recipe.schedule)
                    .lrSchedulerKwargs(JsonObject.parse("--lr_scheduler_kwargs", recipe.scheduleArguments))
                    .warmupSteps(recipe.warmup + recipe.warmupRatio)
                    .optimizer(new OptimizerOptions(
                            recipe.optim, recipe.beta1, recipe.beta2, recipe.epsilon, recipe.weightDecay))
                    .maxGradNorm(recipe.maxGradNorm)
                    .loraDropout(lora.dropout)
                    .loraTargetModules(lora.targets)
                    .loraModulesToSave(lora.saved)
                    .initAdapter(lora.init)
                    .loadIn4bit(quant.loadIn4bit())
                    .useBnbNestedQuant(quant.nested())
                    .llmInt8SkipModules(quant.skip())
                    .dtype(running.dtype)
                    .seed(running.seed)
                    .loggingSteps(running.loggingSteps)
                    .data(samples.options(spec.commandLine()))
                    .packing(recipe.packing)
                    .saving(checkpoints.options())
                    .evaluation(evaluation.options(heldOut))
                    .profile(Profiles.of(running.compat, spec.commandLine()))
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
