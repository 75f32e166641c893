package lapidary.train;

import java.util.LinkedHashMap;
import java.util.Map;
import lapidary.format.Json;
import lapidary.format.JsonWriter;

/** Which evaluation was the best so far, and how long ago; the rules are those of transformers' Trainer. */
final class Best {
    private static final String KEY = "metric_for_best_model";
    private static final String GREATER = "greater_is_better";

    private final EvalOptions options;
    private final String key; // empty where nothing is compared
    private double metric = Double.NaN; // before the first evaluation
    private int step = -1;
    private int patienceUsed;

    Best(EvalOptions options, SaveOptions.Strategy saving) {
        this.options = options;
        this.key = options.bestKey(saving);
    }

    /**
     * Whether what another run found to be the best is to be compared with what this one finds; so it is where it found nothing.
     *
     * @param sameRows whether both evaluate the same
     */
    boolean isComparable(Json saved, boolean sameRows) {
        return saved.get("metric").isNull()
                || (sameRows
                        && saved.string(KEY, key).equals(key)
                        && (key.isEmpty()
                                || saved.bool(GREATER, options.isGreaterBetter(key)) == options.isGreaterBetter(key)));
    }

    /** Takes up where another run was. */
    void restore(Json saved) {
        metric = saved.get("metric").isNull() ? Double.NaN : saved.number("metric");
        step = (int) saved.integer("step");
        patienceUsed = (int) saved.integer("patience_used");
    }

    Map<String, Object> state() {
        Map<String, Object> state = new LinkedHashMap<>();
        state.put("metric", Double.isNaN(metric) ? null : metric);
        state.put("step", step);
        state.put("patience_used", patienceUsed);
        state.put(KEY, key);
        state.put(GREATER, !key.isEmpty() && options.isGreaterBetter(key));
        return state;
    }

    /** Whether an evaluation after {@code atStep} steps is the best so far. */
    boolean offer(Map<String, Object> metrics, int atStep) {
        if (key.isEmpty()) {
            return false;
        }
        double value = ((Number) metrics.get(key)).doubleValue();
        boolean first = Double.isNaN(metric);
        boolean better = first || (options.isGreaterBetter(key) ? value > metric : value < metric);
        boolean counts = first || (better && Math.abs(value - metric) > options.earlyStoppingThreshold());
        patienceUsed = counts ? 0 : patienceUsed + 1;
        if (better) {
            metric = value;
            step = atStep;
        }
        return better;
    }

    boolean isPatienceOver() {
        return options.earlyStoppingPatience() > 0 && patienceUsed >= options.earlyStoppingPatience();
    }

    /** Null before the first evaluation, as Hugging Face writes it. */
    Double metric() {
        return Double.isNaN(metric) ? null : metric;
    }

    /** Negative where there is none. */
    int step() {
        return step;
    }

    /** One line for people; empty where nothing was compared. */
    String describe() {
        return step < 0 ? "" : key + " " + JsonWriter.line(metric) + " after step " + step;
    }

    /** What transformers' EarlyStoppingCallback keeps in trainer_state.json. */
    Map<String, Object> callback() {
        Map<String, Object> arguments = new LinkedHashMap<>();
        arguments.put("early_stopping_patience", options.earlyStoppingPatience());
        arguments.put("early_stopping_threshold", options.earlyStoppingThreshold());
        Map<String, Object> callback = new LinkedHashMap<>();
        callback.put("args", arguments);
        callback.put("attributes", Map.of("early_stopping_patience_counter", patienceUsed));
        return callback;
    }
}
