package lapidary.cli;

import lapidary.data.Split;
import lapidary.train.EvalOptions;
import picocli.CommandLine.Option;

/** When and on what {@code engine train} evaluates. */
final class EvaluationOptions {
    @Option(
            names = "--eval_strategy",
            paramLabel = "WHEN",
            description = "Evaluate on held-out rows: no, steps or epoch (default: no).")
    private String strategy = "no";

    @Option(
            names = "--eval_dataset",
            paramLabel = "PATH|NAME",
            description = "Held-out rows, named as --dataset_name names rows (default: another split of that).")
    private String dataset = "";

    @Option(
            names = "--dataset_test_split",
            paramLabel = "NAME",
            description = "Split that is held out, or a slice: train[90%%:] (default: test).")
    private String split = "test";

    @Option(
            names = "--eval_steps",
            paramLabel = "N",
            description = "Steps between evaluations; below 1 a share of all steps (default: --logging_steps).")
    private double steps;

    @Option(
            names = "--per_device_eval_batch_size",
            paramLabel = "N",
            description = "Held-out rows that go through the model together (default: 8).")
    private int batchSize = 8;

    @Option(
            names = "--load_best_model_at_end",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Write the best checkpoint's adapter at the end, not the last one (default: false).")
    private boolean loadBest;

    @Option(
            names = "--metric_for_best_model",
            paramLabel = "NAME",
            description = "What is compared: loss, mean_token_accuracy or entropy (default: loss).")
    private String metric = "";

    @Option(
            names = "--greater_is_better",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Of that metric (default: true but for names that end in loss).")
    private Boolean greater;

    @Option(
            names = "--early_stopping_patience",
            paramLabel = "N",
            description = "Stop after N evaluations without a better value; 0 for never (default: 0).")
    private int patience;

    @Option(
            names = "--early_stopping_threshold",
            paramLabel = "X",
            description = "By how much a value must be better to count (default: 0).")
    private double threshold;

    /** Name of the held-out rows as the user gave it; empty for a split of the data set. */
    String dataset() {
        return dataset;
    }

    /** The split without its slice. */
    String split() {
        return Split.parse(split).name();
    }

    boolean isOn() {
        return EvalOptions.Strategy.of(strategy) != EvalOptions.Strategy.NO;
    }

    /**
     * @param rows where the held-out rows are: as given, or what was fetched for them
     * @throws IllegalArgumentException naming the option that is out of range
     */
    EvalOptions options(String rows) {
        return new EvalOptions(
                EvalOptions.Strategy.of(strategy),
                rows,
                split,
                steps,
                batchSize,
                loadBest,
                metric,
                greater,
                patience,
                threshold);
    }
}
