package lapidary.quant;

import java.util.Arrays;

/**
 * The constants of NF4 and of its double quantisation.
 *
 * @see <a href="https://arxiv.org/abs/2305.14314">QLoRA</a>; the dynamic map is from <a
 *     href="https://arxiv.org/abs/1511.04561">8-Bit Approximations for Parallelism in Deep Learning</a>
 */
public final class Nf4 {
    /** Decades of magnitude that the dynamic map covers. */
    private static final int DECADES = 7;

    private Nf4() {}

    /** The 16 numbers that codes stand for, rising. */
    public static float[] codes() {
        return new float[] {
            -1f,
            -0.6961928009986877f,
            -0.5250730514526367f,
            -0.39491748809814453f,
            -0.28444138169288635f,
            -0.18477343022823334f,
            -0.09105003625154495f,
            0f,
            0.07958029955625534f,
            0.16093020141124725f,
            0.24611230194568634f,
            0.33791524171829224f,
            0.44070982933044434f,
            0.5626170039176941f,
            0.7229568362236023f,
            1f
        };
    }

    /**
     * The 256 numbers that codes of block maxima stand for, rising: in decade i the middles of 2^i equal parts of [0.1, 1],
     * scaled, with both signs; 0 and 1.
     */
    public static float[] dynamicMap() {
        float[] map = new float[256];
        int n = 0;
        for (int decade = 0; decade < DECADES; decade++) {
            int parts = 1 << decade;
            float scale = (float) Math.pow(10, decade - (DECADES - 1));
            for (int i = 0; i < parts; i++) {
                float middle = scale * ((bound(i, parts) + bound(i + 1, parts)) / 2);
                map[n++] = middle;
                map[n++] = -middle;
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
