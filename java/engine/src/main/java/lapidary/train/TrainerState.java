package lapidary.train;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;

/** {@code trainer_state.json} as Hugging Face's TrainerState writes it. */
final class TrainerState {
    static final String FILE = "trainer_state.json";

    private static final int ABSENT = 500; // what TrainerState says of steps that no option gives

    private TrainerState() {}

    /**
     * @param bestCheckpoint folder of the best checkpoint, or null
     * @param over whether training ends after this step
     */
    static Map<String, Object> of(
            SftConfig config,
            BatchPlan plan,
            Progress.Summary summary,
            Best best,
            String bestCheckpoint,
            boolean saved,
            boolean over) {
        EvalOptions evaluation = config.evaluation();
        double evalSteps = evaluation.steps() == 0 ? config.loggingSteps() : evaluation.steps();
        Map<String, Object> state = new TreeMap<>();
        state.put("best_global_step", best.step() < 0 ? null : best.step());
        state.put("best_metric", best.metric());
        state.put("best_model_checkpoint", bestCheckpoint);
        state.put("epoch", summary.epoch());
        state.put(
                "eval_steps",
                evaluation.strategy() == EvalOptions.Strategy.STEPS
                        ? Intervals.of(evalSteps, plan.maxSteps())
                        : ABSENT);
        state.put("global_step", summary.steps());
        state.put("is_hyper_param_search", false);
        state.put("is_local_process_zero", true);
        state.put("is_world_process_zero", true);
        state.put("log_history", summary.history());
        state.put("logging_steps", Intervals.of(config.loggingSteps(), plan.maxSteps()));
        state.put("max_steps", plan.maxSteps());
        state.put("num_input_tokens_seen", 0);
        state.put("num_train_epochs", Math.ceilDiv(plan.maxSteps(), plan.stepsPerEpoch()));
        state.put("save_steps", Intervals.of(config.saving().steps(), plan.maxSteps()));
        state.put("stateful_callbacks", callbacks(evaluation, best, saved, over));
        state.put("total_flos", 0.0);
        state.put("train_batch_size", config.perDeviceTrainBatchSize());
        state.put("trial_name", null);
        state.put("trial_params", null);
        return state;
    }

    private static Map<String, Object> callbacks(EvalOptions evaluation, Best best, boolean saved, boolean over) {
        Map<String, Object> control = new LinkedHashMap<>();
        control.put("should_epoch_stop", false);
        control.put("should_evaluate", false);
        control.put("should_log", false);
        control.put("should_save", saved);
        control.put("should_training_stop", over);
        Map<String, Object> entry = new LinkedHashMap<>();
        entry.put("args", control);
        entry.put("attributes", Map.of());
        Map<String, Object> callbacks = new TreeMap<>();
        callbacks.put("TrainerControl", entry);
        if (evaluation.earlyStoppingPatience() > 0) {
            callbacks.put("EarlyStoppingCallback", best.callback());
        }
        return callbacks;
    }
}
