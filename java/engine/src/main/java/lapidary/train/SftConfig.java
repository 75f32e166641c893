package lapidary.train;

import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import lapidary.data.DataOptions;
import lapidary.data.LossOn;
import lapidary.data.Profile;
import lapidary.device.DType;
import lapidary.gemma3.Nf4Options;
import lapidary.gemma3.Precision;
import lapidary.optim.OptimizerOptions;
import lapidary.optim.Schedule;

/**
 * What a supervised fine-tuning run is made of. Names and defaults are those of TRL's {@code SFTConfig} and
 * {@code ModelConfig}; options that have no default are given to {@link #builder}.
 *
 * @param baseModelName what the adapter's configuration calls the base model: its name on the Hub, or its path
 * @param datasetName a Parquet or JSONL file, a folder of shards, or a glob
 * @param maxSteps optimiser steps in all, or a negative number to go by epochs
 * @param lrSchedulerType name of one of transformers' schedules, see {@link Schedule}
 * @param lrSchedulerKwargs the schedule's keyword arguments, numbers and strings
 * @param warmupSteps steps, or below 1 a share of all steps
 * @param optimizer which one, and its constants
 * @param maxGradNorm gradients are scaled down to this norm; 0 for never
 * @param loraR rank, or null where it is not given: the initial adapter's, else 16
 * @param loraAlpha adapters are scaled by alpha / r; or null where it is not given: the initial adapter's, else 32
 * @param loraTargetModules name endings of linear layers, or one regular expression for whole names, or the one word
 *     {@code all-linear}; or null where they are not
 *     given: the initial adapter's, else all-linear
 * @param loraModulesToSave {@code lm_head}, {@code embed_tokens}: trained whole, as copies of their own; or null where
 *     they are not given: the initial adapter's, else none
 * @param initAdapter folder of a PEFT adapter to start from, or null
 * @param loadIn4bit whether linear layers are held in NF4; a checkpoint that is stored in it stays what it is
 * @param useBnbNestedQuant whether the scales of NF4 are quantised too
 * @param llmInt8SkipModules linear layers that are not quantised, see {@link Nf4Options}
 * @param dtype of weights and activations
 * @param dataSeed draws the order of rows, or null for {@code seed}
 * @param loggingFirstStep whether the first step is reported, too
 * @param reporting to whom the run is reported beside its own files
 * @param saving when checkpoints are written, and which one to go on from
 * @param evaluation when and on what to evaluate
 * @param profile which of the reference's behaviours are kept
 * @param data how rows become samples
 * @param packing whether a batch counts sets of rows that fill the maximum length, instead of rows
 */
public record SftConfig(
        Path modelNameOrPath,
        String baseModelName,
        String datasetName,
        String datasetTrainSplit,
        Path outputDir,
        double numTrainEpochs,
        int maxSteps,
        int perDeviceTrainBatchSize,
        int gradientAccumulationSteps,
        boolean gradientCheckpointing,
        double learningRate,
        String lrSchedulerType,
        Map<String, Object> lrSchedulerKwargs,
        double warmupSteps,
        OptimizerOptions optimizer,
        double maxGradNorm,
        Integer loraR,
        Double loraAlpha,
        double loraDropout,
        List<String> loraTargetModules,
        List<String> loraModulesToSave,
        Path initAdapter,
        boolean loadIn4bit,
        boolean useBnbNestedQuant,
        List<String> llmInt8SkipModules,
        DType dtype,
        long seed,
        Long dataSeed,
        double loggingSteps,
        boolean loggingFirstStep,
        ReportOptions reporting,
        SaveOptions saving,
        EvalOptions evaluation,
        Profile profile,
        DataOptions data,
        boolean packing) {

    /** @throws IllegalArgumentException naming the option, its value and what it may be */
    public SftConfig {
        require(numTrainEpochs > 0 && numTrainEpochs < 1e6, "num_train_epochs", numTrainEpochs, "more than 0");
        require(maxSteps != 0, "max_steps", maxSteps, "at least 1, or -1 to go by epochs");
        require(perDeviceTrainBatchSize > 0, "per_device_train_batch_size", perDeviceTrainBatchSize, "at least 1");
        require(gradientAccumulationSteps > 0, "gradient_accumulation_steps", gradientAccumulationSteps, "at least 1");
        require(learningRate >= 0 && learningRate < 1e6, "learning_rate", learningRate, "a number from 0");
        require(warmupSteps >= 0 && warmupSteps < 1e9, "warmup_steps", warmupSteps, "a number from 0");
        lrSchedulerKwargs = Collections.unmodifiableMap(new TreeMap<>(lrSchedulerKwargs)); // an order of their own
        Schedule.of(lrSchedulerType, learningRate, warmupSteps, 1, lrSchedulerKwargs);
        Objects.requireNonNull(optimizer, "optim");
        require(maxGradNorm >= 0, "max_grad_norm", maxGradNorm, "a number from 0 (0 for no clipping)");
        require(loraR == null || (loraR > 0 && loraR <= 4096), "lora_r", loraR, "1 to 4096");
        require(loraAlpha == null || loraAlpha > 0, "lora_alpha", loraAlpha, "more than 0");
        require(loraDropout >= 0 && loraDropout < 1, "lora_dropout", loraDropout, "0 <= p < 1");
        require(
                loraTargetModules == null || !loraTargetModules.isEmpty(),
                "lora_target_modules",
                loraTargetModules,
                "all-linear or a list of names");
        Intervals.check("logging_steps", loggingSteps);
        require(dtype == DType.F32 || dtype == DType.BF16, "dtype", dtype, "float32 or bfloat16");
        Objects.requireNonNull(profile, "profile");
        Objects.requireNonNull(data, "data");
        require(!packing || data.maxLength() > 0, "max_length", 0, "the tokens of a packed row, as --packing is on");
        evaluation.checkBeside(saving, loggingSteps);
        llmInt8SkipModules = List.copyOf(llmInt8SkipModules);
        loraTargetModules = loraTargetModules == null ? null : List.copyOf(loraTargetModules);
        loraModulesToSave = loraModulesToSave == null ? null : List.copyOf(loraModulesToSave);
    }

    /** All of it by TRL's names, for people to read: numbers, words and lists of words. */
    public Map<String, Object> describe() {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("model_name_or_path", baseModelName);
        all.put("dataset_name", datasetName);
        all.put("dataset_train_split", datasetTrainSplit);
        all.put("output_dir", outputDir.toString());
        all.put("num_train_epochs", numTrainEpochs);
        all.put("max_steps", maxSteps);
        all.put("per_device_train_batch_size", perDeviceTrainBatchSize);
        all.put("gradient_accumulation_steps", gradientAccumulationSteps);
        all.put("gradient_checkpointing", gradientCheckpointing);
        all.put("learning_rate", learningRate);
        all.put("lr_scheduler_type", lrSchedulerType);
        all.put("lr_scheduler_kwargs", lrSchedulerKwargs);
        all.put("warmup_steps", warmupSteps);
        all.put("optim", optimizer.optim());
        all.put("adam_beta1", optimizer.beta1());
        all.put("adam_beta2", optimizer.beta2());
        all.put("adam_epsilon", optimizer.epsilon());
        all.put("weight_decay", optimizer.weightDecay());
        all.put("max_grad_norm", maxGradNorm);
        all.put("lora_r", loraR);
        all.put("lora_alpha", loraAlpha);
        all.put("lora_dropout", loraDropout);
        all.put("lora_target_modules", loraTargetModules);
        all.put("lora_modules_to_save", loraModulesToSave);
        all.put("init_adapter", initAdapter == null ? null : initAdapter.toString());
        all.put("load_in_4bit", loadIn4bit);
        all.put("use_bnb_nested_quant", useBnbNestedQuant);
        all.put("llm_int8_skip_modules", llmInt8SkipModules);
        all.put("dtype", dtype == DType.F32 ? "float32" : "bfloat16");
        all.put("seed", seed);
        all.put("data_seed", dataSeed);
        all.put("logging_steps", Intervals.plain(loggingSteps));
        all.put("logging_first_step", loggingFirstStep);
        all.put("report_to", reporting.tensorboard() ? "tensorboard" : "none");
        all.put("save_strategy", saving.strategy().name().toLowerCase(Locale.ROOT));
        all.put("save_steps", saving.steps());
        all.put("save_total_limit", saving.totalLimit());
        all.put("eval_strategy", evaluation.strategy().name().toLowerCase(Locale.ROOT));
        all.put("eval_steps", evaluation.steps());
        all.put("eval_dataset", evaluation.dataset());
        all.put("dataset_test_split", evaluation.split());
        all.put("per_device_eval_batch_size", evaluation.batchSize());
        all.put("load_best_model_at_end", evaluation.loadBestModelAtEnd());
        all.put("metric_for_best_model", evaluation.metricForBestModel());
        all.put("greater_is_better", evaluation.greaterIsBetter());
        all.put("early_stopping_patience", evaluation.earlyStoppingPatience());
        all.put("early_stopping_threshold", evaluation.earlyStoppingThreshold());
        all.put("max_length", data.maxLength());
        all.put("max_length_policy", data.overlong().name().toLowerCase(Locale.ROOT));
        all.put("assistant_only_loss", data.lossOn() == LossOn.ASSISTANT);
        all.put(
                "completion_only_loss",
                data.lossOn() == LossOn.COMPLETION ? Boolean.TRUE : data.lossOn() == LossOn.ALL ? Boolean.FALSE : null);
        all.put("do_pan_and_scan", data.panAndScan());
        all.put("on_bad_sample", data.dropBad() ? "drop" : "error");
        all.put("packing", packing);
        all.put("compat", profile == Profile.TRL ? "trl" : "default");
        return all;
    }

    /** In what form the model's weights are held. */
    Precision precision() {
        return new Precision(
                dtype,
                loadIn4bit ? new Nf4Options(useBnbNestedQuant, llmInt8SkipModules) : null,
                profile == Profile.TRL);
    }

    /** The same run in another amount of memory. */
    SftConfig with(boolean gradientCheckpointing, OptimizerOptions optimizer, DType dtype, boolean loadIn4bit) {
        return new SftConfig(
                modelNameOrPath,
                baseModelName,
                datasetName,
                datasetTrainSplit,
                outputDir,
                numTrainEpochs,
                maxSteps,
                perDeviceTrainBatchSize,
                gradientAccumulationSteps,
                gradientCheckpointing,
                learningRate,
                lrSchedulerType,
                lrSchedulerKwargs,
                warmupSteps,
                optimizer,
                maxGradNorm,
                loraR,
                loraAlpha,
                loraDropout,
                loraTargetModules,
                loraModulesToSave,
                initAdapter,
                loadIn4bit,
                useBnbNestedQuant,
                llmInt8SkipModules,
                dtype,
                seed,
                dataSeed,
                loggingSteps,
                loggingFirstStep,
                reporting,
                saving,
                evaluation,
                profile,
                data,
                packing);
    }

    /** What draws the order of rows. */
    long orderSeed() {
        return dataSeed == null ? seed : dataSeed;
    }

    private static void require(boolean holds, String option, Object value, String expected) {
        if (!holds) {
            throw new IllegalArgumentException("--" + option + " is " + value + ", expected " + expected);
        }
    }

    /** A configuration with TRL's defaults. */
    public static Builder builder(Path modelNameOrPath, String datasetName, Path outputDir) {
        return new Builder(modelNameOrPath, datasetName, outputDir);
    }

    /** Collects the options that differ from the defaults. */
    public static final class Builder {
        private final Path modelNameOrPath;
        private final String datasetName;
        private final Path outputDir;
        private String baseModelName;
        private String datasetTrainSplit = "train";
        private double numTrainEpochs = 3;
        private int maxSteps = -1;
        private int perDeviceTrainBatchSize = 8;
        private int gradientAccumulationSteps = 1;
        private boolean gradientCheckpointing = true;
        private double learningRate = 2e-5;
        private String lrSchedulerType = "linear";
        private Map<String, Object> lrSchedulerKwargs = Map.of();
        private double warmupSteps;
        private OptimizerOptions optimizer = OptimizerOptions.adamw(0);
        private double maxGradNorm = 1;
        private Integer loraR;
        private Double loraAlpha;
        private double loraDropout = 0.05;
        private List<String> loraTargetModules;
        private List<String> loraModulesToSave;
        private Path initAdapter;
        private boolean loadIn4bit;
        private boolean useBnbNestedQuant;
        private List<String> llmInt8SkipModules = List.of();
        private DType dtype = DType.BF16;
        private long seed = 42;
        private Long dataSeed;
        private double loggingSteps = 10;
        private boolean loggingFirstStep;
        private ReportOptions reporting = ReportOptions.NONE;
        private SaveOptions saving = SaveOptions.DEFAULT;
        private EvalOptions evaluation = EvalOptions.NEVER;
        private Profile profile = Profile.DEFAULT;
        private DataOptions data = DataOptions.DEFAULT;
        private boolean packing;

        private Builder(Path modelNameOrPath, String datasetName, Path outputDir) {
            this.modelNameOrPath = Objects.requireNonNull(modelNameOrPath, "model_name_or_path");
            this.datasetName = Objects.requireNonNull(datasetName, "dataset_name");
            this.outputDir = Objects.requireNonNull(outputDir, "output_dir");
            this.baseModelName = modelNameOrPath.toString();
        }

        public Builder baseModelName(String name) {
            baseModelName = name;
            return this;
        }

        public Builder datasetTrainSplit(String split) {
            datasetTrainSplit = split;
            return this;
        }

        public Builder numTrainEpochs(double epochs) {
            numTrainEpochs = epochs;
            return this;
        }

        public Builder maxSteps(int steps) {
            maxSteps = steps;
            return this;
        }

        public Builder perDeviceTrainBatchSize(int rows) {
            perDeviceTrainBatchSize = rows;
            return this;
        }

        public Builder gradientAccumulationSteps(int microBatches) {
            gradientAccumulationSteps = microBatches;
            return this;
        }

        public Builder gradientCheckpointing(boolean on) {
            gradientCheckpointing = on;
            return this;
        }

        public Builder learningRate(double rate) {
            learningRate = rate;
            return this;
        }

        public Builder lrSchedulerType(String type) {
            lrSchedulerType = type;
            return this;
        }

        public Builder lrSchedulerKwargs(Map<String, Object> arguments) {
            lrSchedulerKwargs = arguments;
            return this;
        }

        public Builder warmupSteps(double steps) {
            warmupSteps = steps;
            return this;
        }

        public Builder optimizer(OptimizerOptions options) {
            optimizer = options;
            return this;
        }

        public Builder maxGradNorm(double norm) {
            maxGradNorm = norm;
            return this;
        }

        public Builder loraR(int rank) {
            loraR = rank;
            return this;
        }

        public Builder loraAlpha(double alpha) {
            loraAlpha = alpha;
            return this;
        }

        public Builder loraDropout(double probability) {
            loraDropout = probability;
            return this;
        }

        public Builder loraTargetModules(List<String> names) {
            loraTargetModules = names;
            return this;
        }

        public Builder loraModulesToSave(List<String> names) {
            loraModulesToSave = names;
            return this;
        }

        public Builder initAdapter(Path folder) {
            initAdapter = folder;
            return this;
        }

        public Builder loadIn4bit(boolean on) {
            loadIn4bit = on;
            return this;
        }

        public Builder useBnbNestedQuant(boolean on) {
            useBnbNestedQuant = on;
            return this;
        }

        public Builder llmInt8SkipModules(List<String> names) {
            llmInt8SkipModules = names;
            return this;
        }

        public Builder dtype(DType type) {
            dtype = type;
            return this;
        }

        public Builder seed(long value) {
            seed = value;
            return this;
        }

        /** Null for {@link #seed}. */
        public Builder dataSeed(Long value) {
            dataSeed = value;
            return this;
        }

        public Builder loggingSteps(double steps) {
            loggingSteps = steps;
            return this;
        }

        public Builder loggingFirstStep(boolean is) {
            loggingFirstStep = is;
            return this;
        }

        public Builder reporting(ReportOptions options) {
            reporting = options;
            return this;
        }

        public Builder saving(SaveOptions options) {
            saving = options;
            return this;
        }

        public Builder evaluation(EvalOptions options) {
            evaluation = options;
            return this;
        }

        public Builder profile(Profile value) {
            profile = value;
            return this;
        }

        public Builder data(DataOptions options) {
            data = options;
            return this;
        }

        public Builder packing(boolean on) {
            packing = on;
            return this;
        }

        /** @throws IllegalArgumentException naming the option that is out of range */
        public SftConfig build() {
            return new SftConfig(
                    modelNameOrPath,
                    baseModelName,
                    datasetName,
                    datasetTrainSplit,
                    outputDir,
                    numTrainEpochs,
                    maxSteps,
                    perDeviceTrainBatchSize,
                    gradientAccumulationSteps,
                    gradientCheckpointing,
                    learningRate,
                    lrSchedulerType,
                    lrSchedulerKwargs,
                    warmupSteps,
                    optimizer,
                    maxGradNorm,
                    loraR,
                    loraAlpha,
                    loraDropout,
                    loraTargetModules,
                    loraModulesToSave,
                    initAdapter,
                    loadIn4bit,
                    useBnbNestedQuant,
                    llmInt8SkipModules,
                    dtype,
                    seed,
                    dataSeed,
                    loggingSteps,
                    loggingFirstStep,
                    reporting,
                    saving,
                    evaluation,
                    profile,
                    data,
                    packing);
        }
    }
}
