package lapidary.train;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import lapidary.data.Dataset;
import lapidary.data.Datasets;
import lapidary.data.RowForm;
import lapidary.data.Split;

/**
 * When and on what a run is evaluated, and what follows from it, under transformers' and TRL's names.
 *
 * @param strategy {@code eval_strategy}
 * @param dataset {@code eval_dataset}: as the training data are named, or empty for another split of those
 * @param split {@code dataset_test_split}: which split, or slice of one, is held out
 * @param steps {@code eval_steps}: optimiser steps between evaluations, below 1 a share of all steps, or 0 for
 *     {@code logging_steps}
 * @param batchSize {@code per_device_eval_batch_size}
 * @param loadBestModelAtEnd whether the adapter that is written last is the best checkpoint's
 * @param metricForBestModel what is compared, or empty for the loss
 * @param greaterIsBetter of that metric; null for what its name says: less of a loss, more of anything else
 * @param earlyStoppingPatience evaluations without a better value after which training stops, or 0 for never
 * @param earlyStoppingThreshold by how much a value must be better to count
 */
public record EvalOptions(
        Strategy strategy,
        String dataset,
        String split,
        double steps,
        int batchSize,
        boolean loadBestModelAtEnd,
        String metricForBestModel,
        Boolean greaterIsBetter,
        int earlyStoppingPatience,
        double earlyStoppingThreshold) {
    /** After which steps. */
    public enum Strategy {
        NO,
        STEPS,
        EPOCH;

        /** @throws IllegalArgumentException naming the option and what it may be */
        public static Strategy of(String name) {
            return switch (name.toLowerCase(Locale.ROOT)) {
                case "no", "false" -> NO;
                case "steps" -> STEPS;
                case "epoch" -> EPOCH;
                default -> throw new IllegalArgumentException(
                        "--eval_strategy is " + name + ", expected no, steps or epoch");
            };
        }
    }

    /** No evaluation. */
    public static final EvalOptions NEVER = new EvalOptions(Strategy.NO, "", "test", 0, 8, false, "", null, 0, 0);

    private static final String SPLIT_OPTION = "--dataset_test_split";
    private static final String PREFIX = "eval_";

    /** @throws IllegalArgumentException naming the option, its value and what it may be */
    public EvalOptions {
        Objects.requireNonNull(strategy, "eval_strategy");
        if (steps != 0) {
            Intervals.check("eval_steps", steps);
        }
        Split.parse(split);
        require(batchSize > 0, "per_device_eval_batch_size", batchSize, "at least 1");
        require(earlyStoppingPatience >= 0, "early_stopping_patience", earlyStoppingPatience, "a number from 0");
        require(
                earlyStoppingThreshold >= 0 && earlyStoppingThreshold < 1e9,
                "early_stopping_threshold",
                earlyStoppingThreshold,
                "a number from 0");
        String metric = metricForBestModel.startsWith(PREFIX)
                ? metricForBestModel.substring(PREFIX.length())
                : metricForBestModel;
        require(
                metric.isEmpty() || Evaluation.METRICS.contains(metric),
                "metric_for_best_model",
                metricForBestModel,
                "one of " + String.join(", ", Evaluation.METRICS));
        if (strategy == Strategy.NO) {
            require(!loadBestModelAtEnd, "load_best_model_at_end", true, "--eval_strategy steps or epoch beside it");
            require(
                    earlyStoppingPatience == 0,
                    "early_stopping_patience",
                    earlyStoppingPatience,
                    "--eval_strategy steps or epoch beside it");
            require(dataset.isEmpty(), "eval_dataset", dataset, "--eval_strategy steps or epoch beside it");
        }
    }

    private static void require(boolean holds, String option, Object value, String expected) {
        if (!holds) {
            throw new IllegalArgumentException("--" + option + " is " + value + ", expected " + expected);
        }
    }

    /** @throws IllegalArgumentException where checkpoints are not written when evaluation wants them */
    void checkBeside(SaveOptions saving, double loggingSteps) {
        if (saving.strategy() == SaveOptions.Strategy.BEST) {
            require(strategy != Strategy.NO, "save_strategy", "best", "--eval_strategy steps or epoch beside it");
            return;
        }
        if (!loadBestModelAtEnd) {
            return;
        }
        if (!saving.strategy().name().equals(strategy.name())) {
            throw new IllegalArgumentException("--load_best_model_at_end needs a checkpoint at each evaluation, but"
                    + " --save_strategy is " + saving.strategy().name().toLowerCase(Locale.ROOT)
                    + " and --eval_strategy " + strategy.name().toLowerCase(Locale.ROOT)
                    + "; make them the same, or --save_strategy best");
        }
        double every = steps == 0 ? loggingSteps : steps;
        if (strategy == Strategy.STEPS && ((saving.steps() < 1) != (every < 1) || !isMultiple(saving.steps(), every))) {
            throw new IllegalArgumentException("--load_best_model_at_end needs --save_steps (" + saving.steps()
                    + ") to be a multiple of --eval_steps (" + every
                    + "), as a checkpoint is judged by its evaluation");
        }
    }

    private static boolean isMultiple(double a, double b) {
        double times = a / b;
        return Math.abs(times - Math.rint(times)) < 1e-9 * times && times > 0.5;
    }

    boolean isOn() {
        return strategy != Strategy.NO;
    }

    /**
     * The held-out rows; null where nothing is evaluated. Files that are named for this are all held out, whatever they are
     * called; a slice of them is what it says.
     *
     * @param trained name of the data set that is trained on
     */
    Dataset open(String trained, Set<RowForm> forms) {
        if (!isOn()) {
            return null;
        }
        if (dataset.isEmpty()) {
            return Datasets.open(trained, split, SPLIT_OPTION, forms);
        }
        boolean folder = Files.isDirectory(Path.of(dataset));
        return Datasets.open(
                dataset, folder ? split : Split.parse(split).named("train").toString(), SPLIT_OPTION, forms);
    }

    /** Whether an evaluation is due after that many steps. */
    boolean isDue(int step, BatchPlan plan, double loggingSteps) {
        return switch (strategy) {
            case NO -> false;
            case STEPS -> step % Intervals.of(steps == 0 ? loggingSteps : steps, plan.maxSteps()) == 0
                    || step == plan.maxSteps();
            case EPOCH -> step % plan.stepsPerEpoch() == 0 || step == plan.maxSteps();
        };
    }

    /** Key of the metric that is compared, with its prefix; empty where none is. */
    String bestKey(SaveOptions.Strategy saving) {
        if (!metricForBestModel.isEmpty()) {
            return metricForBestModel.startsWith(PREFIX) ? metricForBestModel : PREFIX + metricForBestModel;
        }
        boolean compared = loadBestModelAtEnd || earlyStoppingPatience > 0 || saving == SaveOptions.Strategy.BEST;
        return compared ? PREFIX + "loss" : "";
    }

    boolean isGreaterBetter(String key) {
        return greaterIsBetter != null ? greaterIsBetter : !key.endsWith("loss");
    }
}
