package lapidary.train;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;

/**
 * When checkpoints are written, under transformers' names.
 *
 * @param strategy {@code save_strategy}
 * @param steps {@code save_steps}: optimiser steps between checkpoints, or below 1 a share of all steps
 * @param totalLimit {@code save_total_limit}: how many checkpoints are kept, or 0 for all: the best and the newest, though they be
 *     two where one is asked for, and of the others the newest
 * @param resumeFrom {@code resume_from_checkpoint}: a checkpoint's folder, {@code true} for the newest in the output
 *     folder, or empty to start anew
 */
public record SaveOptions(Strategy strategy, double steps, int totalLimit, String resumeFrom) {
    /** After which steps. */
    public enum Strategy {
        NO,
        STEPS,
        EPOCH,
        BEST;

        /** @throws IllegalArgumentException naming the option and what it may be */
        public static Strategy of(String name) {
            return switch (name.toLowerCase(Locale.ROOT)) {
                case "no", "false" -> NO;
                case "steps" -> STEPS;
                case "epoch" -> EPOCH;
                case "best" -> BEST;
                default -> throw new IllegalArgumentException(
                        "--save_strategy is " + name + ", expected no, steps, epoch or best");
            };
        }
    }

    /** TRL's: every 500 steps and after the last one, all kept. */
    public static final SaveOptions DEFAULT = new SaveOptions(Strategy.STEPS, 500, 0, "");

    /** No checkpoints: the adapter alone, when training is over. */
    public static final SaveOptions NEVER = new SaveOptions(Strategy.NO, 500, 0, "");

    /** Files of a checkpoint that are for going on with it, and not for using its adapter. */
    public static final Set<String> STATE_FILES =
            Set.of(Checkpoints.MANIFEST, Checkpointer.OPTIMIZER, TrainerState.FILE);

    private static final String NEWEST = "true";

    /** @throws IllegalArgumentException naming the option, its value and what it may be */
    public SaveOptions {
        Objects.requireNonNull(strategy, "save_strategy");
        Intervals.check("save_steps", steps);
        if (totalLimit < 0) {
            throw new IllegalArgumentException(
                    "--save_total_limit is " + totalLimit + ", expected a number from 0 (0 for no limit)");
        }
        if (resumeFrom.equalsIgnoreCase("false")) {
            resumeFrom = "";
        }
    }

    /** What is wrong with the folder of the checkpoint to go on from, if it is named and no folder. */
    public Optional<String> missing() {
        return isResumed() && !isNewest() && !Files.isDirectory(Path.of(resumeFrom))
                ? Optional.of("--resume_from_checkpoint " + resumeFrom
                        + " is no folder; give a checkpoint's folder, or true for the newest in --output_dir")
                : Optional.empty();
    }

    /** Whether the run goes on where another stopped. */
    public boolean isResumed() {
        return !resumeFrom.isEmpty();
    }

    /** Whether it goes on from the newest checkpoint of its own folder. */
    public boolean isNewest() {
        return resumeFrom.equalsIgnoreCase(NEWEST);
    }

    /** Whether a checkpoint is due after that many steps, evaluation aside. */
    boolean isDue(int step, BatchPlan plan) {
        return switch (strategy) {
            case NO, BEST -> false;
            case STEPS -> step % Intervals.of(steps, plan.maxSteps()) == 0 || step == plan.maxSteps();
            case EPOCH -> step % plan.stepsPerEpoch() == 0 || step == plan.maxSteps();
        };
    }
}
