package lapidary.train;

import lapidary.data.Preflight.Findings;

/**
 * How long a run is.
 *
 * @param units rows that are trained on, or with packing sets of them
 * @param stepsPerEpoch optimiser steps of a pass over the data
 * @param steps optimiser steps in all
 */
public record TrainingSteps(int units, int stepsPerEpoch, int steps) {
    /** @throws IllegalArgumentException there are too many */
    public static TrainingSteps of(Findings findings, SftConfig config) {
        int units = Units.sets(config, config.packing(), findings.accepted(), findings.tokens()).length;
        BatchPlan plan = BatchPlan.of(
                units,
                config.perDeviceTrainBatchSize(),
                config.gradientAccumulationSteps(),
                config.numTrainEpochs(),
                config.maxSteps());
        return new TrainingSteps(units, plan.stepsPerEpoch(), plan.maxSteps());
    }
}
