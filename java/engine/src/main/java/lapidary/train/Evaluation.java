package lapidary.train;

import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import lapidary.autograd.Tape;
import lapidary.data.Dataset;
import lapidary.data.Prefetch;
import lapidary.data.Samples;
import lapidary.gemma3.Gemma3;
import lapidary.op.LinearCrossEntropy;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * What the model makes of held-out rows, in their order, without dropout. Only sums are kept, whatever the number of rows.
 * Means are those of TRL's log: the loss of a batch is the mean over its tokens and counts by its rows; entropy and
 * accuracy are means over batches.
 */
final class Evaluation {
    /** What may be compared. */
    static final List<String> METRICS = List.of("loss", "mean_token_accuracy", "entropy");

    private final Gemma3 model;
    private final Units units;
    private final int batchSize;
    private final MicroBatches batches; // null where nothing is evaluated
    private final String fingerprint;
    private final HeldOut heldOut;

    private Evaluation(
            Gemma3 model, Units units, int batchSize, MicroBatches batches, String fingerprint, HeldOut heldOut) {
        this.model = model;
        this.units = units;
        this.batchSize = batchSize;
        this.batches = batches;
        this.fingerprint = fingerprint;
        this.heldOut = heldOut;
    }

    /**
     * Looks at every held-out row.
     *
     * @param heldOut the rows, which the caller closes; null where there is to be no evaluation
     */
    static Evaluation of(SftConfig config, Gemma3 model, Dataset heldOut, CheckCache cache, TrainingListener listener) {
        if (heldOut == null) {
            return new Evaluation(model, Units.all(0), 0, null, "", HeldOut.NONE);
        }
        Samples samples =
                Samples.of(model.config(), config.modelNameOrPath(), heldOut, config.profile(), config.data());
        CheckCache.Place place =
                cache.place(config, "evaluation " + config.evaluation().split(), heldOut);
        Units units = Units.heldOut(config, heldOut.size(), () -> samples, place, listener);
        MicroBatches batches = new MicroBatches(samples, model.config().text().padTokenId());
        Checked checked = units.isChecked()
                ? units.checked()
                : Checked.look(
                        samples, false, Runtime.getRuntime().availableProcessors(), () -> true, done -> {}, place);
        return new Evaluation(
                model,
                units,
                config.evaluation().batchSize(),
                batches,
                checked.fingerprint(),
                new HeldOut(checked.tokens(), checked.views()));
    }

    /** Rows held out. */
    int rows() {
        return units.size();
    }

    /** The rows, as far as memory depends on them. */
    HeldOut heldOut() {
        return heldOut;
    }

    /** Of the held-out rows; empty where there are none. */
    String fingerprint() {
        return fingerprint;
    }

    /**
     * Evaluates the model as it is.
     *
     * @param stopWanted asked before each batch
     * @return metrics by Hugging Face's names, without step and epoch; empty where it was stopped
     */
    Optional<Map<String, Object>> run(BooleanSupplier stopWanted) {
        long started = System.nanoTime();
        double loss = 0;
        double entropy = 0;
        double accuracy = 0;
        int count = 0;
        model.dropout().setTraining(false);
        try (Prefetch<int[], MicroBatch> ahead =
                new Prefetch<>(inOrder(), batches::load, Batches.HOST_THREADS, Batches.AHEAD)) {
            while (ahead.hasNext()) {
                if (stopWanted.getAsBoolean()) {
                    return Optional.empty();
                }
                MicroBatch batch = ahead.next();
                LinearCrossEntropy.Statistics statistics = forward(model, batch);
                loss += statistics.loss() * batch.rows().size();
                entropy += statistics.entropy() / Math.max(1, statistics.valid());
                accuracy += (double) statistics.correct() / Math.max(1, statistics.valid());
                count++;
            }
        } finally {
            model.dropout().setTraining(true);
        }
        double seconds = (System.nanoTime() - started) / 1e9;
        Map<String, Object> metrics = new LinkedHashMap<>();
        metrics.put("eval_entropy", entropy / count);
        metrics.put("eval_loss", loss / rows());
        metrics.put("eval_mean_token_accuracy", accuracy / count);
        metrics.put("eval_runtime", seconds);
        metrics.put("eval_samples_per_second", rows() / seconds);
        metrics.put("eval_steps_per_second", count / seconds);
        return Optional.of(metrics);
    }

    /** One batch. */
    static LinearCrossEntropy.Statistics forward(Gemma3 model, MicroBatch batch) {
        try (Frame frame = model.frame().child("evaluation")) {
            Tape tape = Tape.notRecording(frame);
            Tensor hidden = model.forward(tape, batch.packed(), true); // a frame a layer
            LinearCrossEntropy crossEntropy = new LinearCrossEntropy(
                    hidden,
                    model.lmHead(),
                    batch.targets(),
                    batch.trained(),
                    (float) model.config().text().finalLogitSoftcapping(),
                    null);
            tape.run(crossEntropy);
            return crossEntropy.statistics();
        }
    }

    private Iterator<int[]> inOrder() {
        return new Iterator<>() {
            private int next;

            @Override
            public boolean hasNext() {
                return next < rows();
            }

            @Override
            public int[] next() {
                if (!hasNext()) {
                    throw new NoSuchElementException();
                }
                int from = next;
                next = (int) Math.min(rows(), (long) next + batchSize);
                return IntStream.range(from, next)
                        .map(unit -> units.rows()[unit][0])
                        .toArray();
            }
        };
    }
}
