package lapidary.optim;

/**
 * Learning rate that rises from 0 over the warm-up and falls to 0 at the last step, as transformers computes it.
 *
 * @param peak learning rate at the end of the warm-up
 * @param warmupSteps steps, or below 1 a share of all steps, rounded up
 * @param totalSteps optimiser steps of the run
 */
public record LinearSchedule(double peak, double warmupSteps, int totalSteps) {
    /** Learning rate of a step, counted from 0. */
    public double at(int step) {
        double warmup = warmupSteps < 1 ? Math.ceil(totalSteps * warmupSteps) : Math.floor(warmupSteps);
        if (step < warmup) {
            return peak * (step / Math.max(1, warmup));
        }
        return peak * Math.max(0, (totalSteps - step) / Math.max(1, totalSteps - warmup));
    }
}
