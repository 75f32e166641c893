package lapidary.cli;

import lapidary.optim.OptimizerOptions;
import lapidary.train.SftConfig;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** How long, in what batches and by which rule is trained: the options of {@code train} that {@code check} takes, too. */
final class RecipeOptions {
    @Option(names = "--num_train_epochs", paramLabel = "N", description = "Passes over the data (default: 3).")
    double epochs = 3;

    @Option(names = "--max_steps", paramLabel = "N", description = "Optimiser steps; overrides epochs (default: -1).")
    int maxSteps = -1;

    @Option(
            names = "--per_device_train_batch_size",
            paramLabel = "N",
            description = "Rows that go through the model together (default: 8).")
    int batchSize = 8;

    @Option(
            names = "--packing",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Count sets of rows that fill --max_length, instead of rows (default: false).")
    boolean packing;

    @Option(
            names = "--gradient_accumulation_steps",
            paramLabel = "N",
            description = "Such batches in one optimiser step (default: 1).")
    int accumulation = 1;

    @Option(
            names = "--gradient_checkpointing",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Recompute layers in the backward pass to save memory (default: true).")
    boolean checkpointing = true;

    @Option(names = "--no_gradient_checkpointing", hidden = true)
    boolean noCheckpointing;

    @Option(names = "--learning_rate", paramLabel = "X", description = "Peak learning rate (default: 2e-5).")
    double learningRate = 2e-5;

    @Option(
            names = "--lr_scheduler_type",
            paramLabel = "TYPE",
            description = "linear, cosine, cosine_with_restarts, cosine_with_min_lr, cosine_warmup_with_min_lr,"
                    + " polynomial, constant, constant_with_warmup, inverse_sqrt or warmup_stable_decay (default:"
                    + " linear).")
    String schedule = "linear";

    @Option(
            names = "--lr_scheduler_kwargs",
            paramLabel = "JSON",
            description = "The schedule's arguments, such as {\"min_lr_rate\": 0.1}.")
    String scheduleArguments = "{}";

    @Option(
            names = "--warmup_steps",
            paramLabel = "N",
            description = "Steps of rising learning rate; below 1 a share of all steps (default: 0).")
    double warmup;

    @Option(names = "--warmup_ratio", paramLabel = "X", description = "The same as a share of all steps (default: 0).")
    double warmupRatio;

    @Option(
            names = "--optim",
            paramLabel = "NAME",
            description = "adamw_torch_fused, adamw_torch (the same here), adamw_8bit: moments of 8 bits, a quarter of"
                    + " the memory; or sgd (default: adamw_torch_fused).")
    String optim = OptimizerOptions.ADAMW;

    @Option(names = "--adam_beta1", paramLabel = "X", description = "AdamW's first decay (default: 0.9).")
    double beta1 = 0.9;

    @Option(names = "--adam_beta2", paramLabel = "X", description = "AdamW's second decay (default: 0.999).")
    double beta2 = 0.999;

    @Option(names = "--adam_epsilon", paramLabel = "X", description = "AdamW's epsilon (default: 1e-8).")
    double epsilon = 1e-8;

    @Option(
            names = "--weight_decay",
            paramLabel = "X",
            description = "Weight decay, of all but biases and norms (default: 0).")
    double weightDecay;

    @Option(
            names = "--max_grad_norm",
            paramLabel = "X",
            description = "Gradients are scaled down to this norm; 0 for never (default: 1).")
    double maxGradNorm = 1;

    /** @throws ParameterException two options that say the same differently */
    void applyTo(SftConfig.Builder builder, CommandLine command) {
        if (warmup != 0 && warmupRatio != 0) {
            throw new ParameterException(
                    command,
                    "--warmup_steps is " + warmup + " and --warmup_ratio " + warmupRatio + "; give one of them");
        }
        if (!(warmupRatio >= 0 && warmupRatio < 1)) {
            throw new ParameterException(command, "--warmup_ratio is " + warmupRatio + ", expected 0 <= ratio < 1");
        }
        builder.numTrainEpochs(epochs)
                .maxSteps(maxSteps)
                .perDeviceTrainBatchSize(batchSize)
                .gradientAccumulationSteps(accumulation)
                .gradientCheckpointing(checkpointing && !noCheckpointing)
                .learningRate(learningRate)
                .lrSchedulerType(schedule)
                .lrSchedulerKwargs(JsonObject.parse("--lr_scheduler_kwargs", scheduleArguments))
                .warmupSteps(warmup + warmupRatio)
                .optimizer(new OptimizerOptions(optim, beta1, beta2, epsilon, weightDecay))
                .maxGradNorm(maxGradNorm)
                .packing(packing);
    }
}
