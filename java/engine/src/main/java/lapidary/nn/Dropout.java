package lapidary.nn;

/**
 * Which dropout masks are drawn: those of a seed, a position in the run and a layer, so that recomputation draws the same
 * mask again. One object is shared by the layers of a model; the trainer moves it on.
 */
public final class Dropout {
    private static final int PART_BITS = 12;

    private final float probability;
    private final long seed;
    private long position;
    private int part;
    private boolean training = true;

    public Dropout(float probability, long seed) {
        if (!(probability >= 0 && probability < 1)) {
            throw new IllegalArgumentException("dropout is " + probability + ", expected 0 <= p < 1");
        }
        this.probability = probability;
        this.seed = seed;
    }

    /** @param microBatch number of the micro-batch since the start of the run */
    public void moveTo(long microBatch) {
        position = microBatch;
    }

    /** @param number of a run of the same layers within a micro-batch, below 4096 */
    public void moveToPart(int number) {
        if (number < 0 || number >= 1 << PART_BITS) {
            throw new IllegalArgumentException(
                    "[dropout] part " + number + ", expected 0 to " + ((1 << PART_BITS) - 1));
        }
        part = number;
    }

    /** Off while evaluating and generating. */
    public void setTraining(boolean on) {
        training = on;
    }

    float rate() {
        return training ? probability : 0;
    }

    long seed() {
        return seed;
    }

    /** Distinct for every layer of every part of every micro-batch; no model has 2^20 adapters. */
    long stream(int layer) {
        return (position << (PART_BITS + 20)) | ((long) part << 20) | layer;
    }
}
