package lapidary.train;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/**
 * How a run ended.
 *
 * @param step optimiser steps done, those of runs before this one included
 * @param maxSteps optimiser steps of the whole run
 * @param stopped whether it was asked to stop before its end; it can be gone on with
 * @param written folder of what it leaves: the output folder, or of a stopped run the checkpoint; the output folder too
 *     where it was stopped before there was anything to save
 * @param best one line about the best evaluation; empty where none was compared
 * @param checkpoints names of the checkpoints in the output folder, oldest first
 * @param events folder of TensorBoard's files, or null
 * @param seconds wall time by phase: load, samples, train, evaluate, save
 * @param tokensPerSecond of all steps of this run over their time
 * @param samplesPerSecond rows, likewise
 * @param mfu useful FLOP/s of them as a share of the device's peak; 0 where no peak is known
 * @param dataWait share of that time that the device waited for data
 * @param deviceBytes the most that was in use of the device's own memory; 0 where that is the host's
 * @param hostBytes the most that was resident of this process
 */
public record TrainingReport(
        int step,
        int maxSteps,
        boolean stopped,
        Path written,
        String best,
        List<String> checkpoints,
        Path events,
        Map<String, Double> seconds,
        double tokensPerSecond,
        double samplesPerSecond,
        double mfu,
        double dataWait,
        long deviceBytes,
        long hostBytes) {}
