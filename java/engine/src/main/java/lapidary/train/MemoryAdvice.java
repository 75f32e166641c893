package lapidary.train;

import java.util.ArrayList;
import java.util.List;
import lapidary.device.DType;
import lapidary.device.OutOfMemoryException;
import lapidary.optim.OptimizerOptions;

/** What to change where a device's memory is exhausted, with the arithmetic that says so. */
final class MemoryAdvice {
    /** Where nothing fits that a checkpoint, or its adapter, goes on with. */
    static final String LESS_IN_A_NEW_RUN =
            "a new run in another --output_dir with fewer --lora_modules_to_save or a smaller --lora_r";

    private MemoryAdvice() {}

    /** While the model was loaded, or the optimiser's state made. */
    static TrainingException whileLoading(OutOfMemoryException e, SftConfig config, NewRun newRun) {
        return new TrainingException(
                e.getMessage() + ". The model and what is trained do not fit: try " + smallerModel(config, newRun), e);
    }

    /**
     * In a step.
     *
     * @param fixed bytes that model and optimiser take, whatever the batch
     */
    static TrainingException whileTraining(OutOfMemoryException e, SftConfig config, long fixed, NewRun newRun) {
        int rows = config.perDeviceTrainBatchSize();
        long room = Math.max(0, e.inUse() - fixed);
        long needed = room + e.requested();
        String more = e.requested() == 0 // a kernel's own want, which is not said
                ? " rows more than the " + mebibytes(room) + " beside them"
                : " rows at least " + mebibytes(needed) + " more, and no more than about " + mebibytes(room)
                        + " were left";
        String arithmetic = ". Model and optimiser take " + mebibytes(fixed) + ", a step of " + rows + more;
        String checkpointing = "--gradient_checkpointing true";
        if (rows == 1) {
            String first = config.gradientCheckpointing() ? "" : checkpointing + ", or ";
            return new TrainingException(
                    e.getMessage() + arithmetic + ": try " + first + smallerModel(config, newRun), e);
        }
        // The step was not over, so it needs more than it had asked for: half the rows at most.
        int fitting = (int) Math.max(1, Math.min(rows / 2, rows * room / Math.max(1, needed)));
        while (rows % fitting != 0) {
            fitting--;
        }
        int groups = config.gradientAccumulationSteps() * (rows / fitting);
        String batches = newRun.with(
                "--per_device_train_batch_size " + fitting + " --gradient_accumulation_steps " + groups, false);
        String use = newRun.isNeeded()
                ? (config.gradientCheckpointing() ? "" : checkpointing + ", or ") + batches
                : batches + ", which trains the same" + (config.gradientCheckpointing() ? "" : ", or " + checkpointing);
        return new TrainingException(e.getMessage() + arithmetic + ": use " + use, e);
    }

    /** While held-out rows are evaluated, of which more may go through the model together than are trained on. */
    static TrainingException whileEvaluating(OutOfMemoryException e, SftConfig config, NewRun newRun) {
        int rows = config.evaluation().batchSize();
        String held = ". Evaluation takes " + rows + " held-out row" + (rows == 1 ? "" : "s") + " at a time";
        return new TrainingException(
                e.getMessage()
                        + held
                        + (rows == 1
                                ? ": try " + smallerModel(config, newRun)
                                : ": use --per_device_eval_batch_size " + rows / 2 + " or less"),
                e);
    }

    private static String smallerModel(SftConfig config, NewRun newRun) {
        List<String> advice = new ArrayList<>();
        if (config.precision().dtype() != DType.BF16) {
            advice.add("--dtype bfloat16");
        }
        if (!config.loadIn4bit()) {
            advice.add("--load_in_4bit");
        }
        if (!config.optimizer().optim().equals(OptimizerOptions.ADAMW_8BIT)) {
            advice.add("--optim adamw_8bit");
        }
        if (!newRun.isNeeded()) {
            advice.add("fewer --lora_modules_to_save or a smaller --lora_r");
        } else if (advice.isEmpty()) { // the adapter says the rest
            return LESS_IN_A_NEW_RUN;
        }
        return newRun.with(String.join(", or ", advice), false);
    }

    private static String mebibytes(long bytes) {
        return (bytes + (1 << 19) >> 20) + " MiB";
    }
}
