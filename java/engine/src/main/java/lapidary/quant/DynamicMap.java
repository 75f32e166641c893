package lapidary.quant;

import java.util.Arrays;

/**
 * bitsandbytes' dynamic map: the 256 numbers, rising, that codes of eight bits stand for.
 *
 * @see <a href="https://arxiv.org/abs/1511.04561">8-Bit Approximations for Parallelism in Deep Learning</a>
 */
public final class DynamicMap {
    /** Decades of magnitude that it covers. */
    private static final int DECADES = 7;

    private DynamicMap() {}

    /** For numbers of both signs: in decade i the middles of 2^i equal parts of [0.1, 1], scaled; 0 and 1. */
    public static float[] signed() {
        return of(true);
    }

    /** For numbers from 0: in decade i the middles of twice as many parts; 0 and 1. */
    public static float[] unsigned() {
        return of(false);
    }

    private static float[] of(boolean signed) {
        float[] map = new float[256];
        int n = 0;
        for (int decade = 0; decade < DECADES; decade++) {
            int parts = signed ? 1 << decade : 2 << decade;
            float scale = (float) Math.pow(10, decade - (DECADES - 1));
            for (int i = 0; i < parts; i++) {
                float middle = scale * ((bound(i, parts) + bound(i + 1, parts)) / 2);
                map[n++] = middle;
                if (signed) {
                    map[n++] = -middle;
                }
            }
        }
        map[n++] = 0;
        map[n] = 1;
        Arrays.sort(map);
        return map;
    }

    /** Bound i of equal parts of [0.1, 1], rounded as torch.linspace rounds: the upper half is counted from the end. */
    private static float bound(int i, int parts) {
        float step = (1f - 0.1f) / parts;
        return i < (parts + 1) / 2 ? Math.fma(step, i, 0.1f) : Math.fma(-step, parts - i, 1f);
    }
}
