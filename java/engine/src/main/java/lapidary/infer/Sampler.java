package lapidary.infer;

import java.util.Arrays;
import java.util.PriorityQueue;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;

/**
 * Chooses the next token of one sequence. Drawing follows Transformers: logits over temperature, then top_k, top_p and min_p,
 * each of what the one before has left.
 */
final class Sampler {
    private final GenerationOptions options;
    private final float softcap; // 0 for none
    private final RandomGenerator random;

    Sampler(GenerationOptions options, float softcap, long seed) {
        this.options = options;
        this.softcap = softcap;
        this.random = RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
    }

    /**
     * @param logits one for each token of the vocabulary
     * @throws InferenceException where the largest is not a finite number
     */
    int next(float[] logits) {
        int best = argmax(logits);
        if (!Float.isFinite(logits[best])) {
            throw new InferenceException(
                    "the logits are not finite: a weight of the model or of the adapter is not, or is"
                            + " far too large for the dtype; --dtype float32 may help");
        }
        return options.isGreedy() ? best : draw(logits, best);
    }

    /** The first of the largest; a NaN counts as larger than anything. */
    private static int argmax(float[] logits) {
        int best = 0;
        float largest = logits[0];
        for (int i = 1; i < logits.length; i++) {
            if (!(logits[i] <= largest)) { // a comparison, as Java's first compiler makes a call of Math.max
                if (largest != largest) {
                    break;
                }
                best = i;
                largest = logits[i];
            }
        }
        return best;
    }

    private int draw(float[] logits, int best) {
        double largest = capped(logits[best]);
        long[] kept = candidates(logits);
        Arrays.sort(kept); // likeliest last
        double[] weights = new double[kept.length];
        double sum = 0;
        for (int i = 0; i < kept.length; i++) {
            // The difference first: a logit over a tiny temperature is infinite, and the largest must stay 1.
            weights[i] = Math.exp((capped(logit(kept[i])) - largest) / options.temperature());
            sum += weights[i];
        }
        int first = 0; // kept from here on; one is always left
        double below = 0;
        while (first < kept.length - 1
                && (below + weights[first] <= (1 - options.topP()) * sum && options.topP() < 1
                        || weights[first] < options.minP() * weights[kept.length - 1])) {
            below += weights[first++];
        }
        double left = random.nextDouble() * (sum - below);
        for (int i = kept.length - 1; i > first; i--) {
            left -= weights[i];
            if (left < 0) {
                return id(kept[i]);
            }
        }
        return id(kept[first]);
    }

    private double capped(float logit) {
        return softcap == 0 ? logit : softcap * Math.tanh(logit / softcap);
    }

    /** The tokens whose logit is at least the k-th largest, each packed with its logit so that they sort by that. */
    private long[] candidates(float[] logits) {
        int k = options.topK() == 0 ? logits.length : Math.min(options.topK(), logits.length);
        float least = k == logits.length ? Float.NEGATIVE_INFINITY : kthLargest(logits, k);
        long[] kept = new long[k];
        int n = 0;
        for (int id = 0; id < logits.length; id++) {
            float logit = logits[id];
            if (logit >= least && logit > Float.NEGATIVE_INFINITY) {
                if (n == kept.length) {
                    kept = Arrays.copyOf(kept, 2 * n); // equals of the k-th
                }
                kept[n++] = packed(logit, id);
            }
        }
        return Arrays.copyOf(kept, n);
    }

    private static float kthLargest(float[] logits, int k) {
        PriorityQueue<Float> largest = new PriorityQueue<>(k);
        for (int i = 0; i < k; i++) {
            largest.add(logits[i]);
        }
        float least = largest.peek(); // outside the queue: it is compared with all, and few are larger
        for (int i = k; i < logits.length; i++) {
            if (logits[i] > least) {
                largest.poll();
                largest.add(logits[i]);
                least = largest.peek();
            }
        }
        return least;
    }

    /** Sorts as the logit does; of equals the lower id last, so that it counts as likelier. */
    private static long packed(float logit, int id) {
        int bits = Float.floatToRawIntBits(logit);
        int ordered = bits ^ (bits >> 31 & 0x7fffffff);
        return (long) ordered << 32 | (0xffffffffL - id);
    }

    private static float logit(long packed) {
        int ordered = (int) (packed >> 32);
        return Float.intBitsToFloat(ordered ^ (ordered >> 31 & 0x7fffffff));
    }

    private static int id(long packed) {
        return (int) (0xffffffffL - (packed & 0xffffffffL));
    }
}
