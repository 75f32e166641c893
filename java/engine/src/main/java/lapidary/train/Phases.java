package lapidary.train;

import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/** Wall time of a run by what it went to. Every moment belongs to one phase, so that they add up. */
final class Phases {
    /** In the order of their beginnings. */
    enum Phase {
        /** Reading the weights; samples are looked at meanwhile. */
        LOAD,
        /** Waiting for the rest of the samples, those held out too, and for what a checkpoint restores. */
        SAMPLES,
        TRAIN,
        EVALUATE,
        SAVE
    }

    private final long[] nanos = new long[Phase.values().length];
    private Phase now = Phase.LOAD;
    private long since = System.nanoTime();

    void enter(Phase phase) {
        long time = System.nanoTime();
        nanos[now.ordinal()] += time - since;
        since = time;
        now = phase;
    }

    /** Seconds by phase, without those that took none. */
    Map<String, Double> seconds() {
        enter(now);
        Map<String, Double> seconds = new LinkedHashMap<>();
        for (Phase phase : Phase.values()) {
            if (nanos[phase.ordinal()] > 0) {
                seconds.put(phase.name().toLowerCase(Locale.ROOT), nanos[phase.ordinal()] / 1e9);
            }
        }
        return seconds;
    }
}
