package lapidary.train;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What one logged step reports, under Hugging Face's names.
 *
 * @param step number of optimiser steps done
 * @param maxSteps optimiser steps of the whole run
 * @param loss mean over the steps since the last report of their token-weighted loss
 * @param gradNorm L2 norm of all gradients of this step before clipping
 * @param learningRate what this step used
 * @param entropy mean entropy of the predictions at trained positions, nats
 * @param numTokens tokens seen so far, image tokens included
 * @param meanTokenAccuracy share of trained positions whose likeliest token was right
 * @param epoch epochs done, with the fraction
 * @param stepSeconds wall time of this step
 * @param tokensPerSecond tokens of this step over its wall time
 * @param samplesPerSecond rows of this step over its wall time
 * @param mfu useful FLOP/s of this step as a share of the device's peak: 4 a weight and token; 0 where no peak is known
 * @param dataWait share of the time since the last report that the device waited for data
 * @param deviceBytes the most that was in use so far of the device's own memory; 0 where that is the host's
 * @param hostBytes resident memory of this process
 */
public record StepMetrics(
        int step,
        int maxSteps,
        double loss,
        double gradNorm,
        double learningRate,
        double entropy,
        long numTokens,
        double meanTokenAccuracy,
        double epoch,
        double stepSeconds,
        double tokensPerSecond,
        double samplesPerSecond,
        double mfu,
        double dataWait,
        long deviceBytes,
        long hostBytes) {

    /** The entry of trainer_state.json's log_history. */
    Map<String, Object> history() {
        Map<String, Object> entry = new LinkedHashMap<>();
        entry.put("entropy", entropy);
        entry.put("epoch", epoch);
        entry.put("grad_norm", gradNorm);
        entry.put("learning_rate", learningRate);
        entry.put("loss", loss);
        entry.put("mean_token_accuracy", meanTokenAccuracy);
        entry.put("num_tokens", (double) numTokens);
        entry.put("step", step);
        return entry;
    }

    /** The line of metrics.jsonl. */
    Map<String, Object> line() {
        Map<String, Object> entry = new LinkedHashMap<>();
        entry.put("step", step);
        entry.put("loss", loss);
        entry.put("grad_norm", gradNorm);
        entry.put("learning_rate", learningRate);
        entry.put("entropy", entropy);
        entry.put("num_tokens", numTokens);
        entry.put("mean_token_accuracy", meanTokenAccuracy);
        entry.put("epoch", epoch);
        entry.put("step_seconds", stepSeconds);
        entry.put("tokens_per_second", tokensPerSecond);
        entry.put("samples_per_second", samplesPerSecond);
        if (mfu > 0) {
            entry.put("mfu", mfu);
        }
        entry.put("data_wait", dataWait);
        if (deviceBytes > 0) {
            entry.put("device_memory", deviceBytes);
        }
        entry.put("host_memory", hostBytes);
        return entry;
    }
}
