package lapidary.image;

import java.util.Arrays;

/**
 * The inverse cosine transform of libjpeg's {@code JDCT_ISLOW}: integers, 13 binary places for the constants, 2 kept
 * between the passes. Any other would differ from Pillow by 1 in some samples.
 *
 * @see <a href="https://doi.org/10.1109/ICASSP.1989.266596">Loeffler, Ligtenberg and Moschytz (1989)</a>, figure 8
 */
final class JpegTransform {
    private static final int PLACES = 13;
    private static final int KEPT = 2;

    private static final int C0_298 = 2446;
    private static final int C0_390 = 3196;
    private static final int C0_541 = 4433;
    private static final int C0_765 = 6270;
    private static final int C0_899 = 7373;
    private static final int C1_175 = 9633;
    private static final int C1_501 = 12299;
    private static final int C1_847 = 15137;
    private static final int C1_961 = 16069;
    private static final int C2_053 = 16819;
    private static final int C2_562 = 20995;
    private static final int C3_072 = 25172;

    /** Place of each zigzag index in a block of rows. */
    static final int[] NATURAL = {
        0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14,
        21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60,
        61, 54, 47, 55, 62, 63
    };

    private final int[] block = new int[64];

    /** Dequantises a block, transforms it, and writes its 8 x 8 samples. */
    void inverse(short[] coefficients, int from, int[] quantisers, byte[] samples, int to, int stride) {
        int last = 63;
        while (last > 0 && coefficients[from + last] == 0) {
            last--;
        }
        if (last == 0) {
            flat(coefficients[from] * quantisers[0], samples, to, stride);
            return;
        }
        int[] v = block;
        Arrays.fill(v, 0);
        for (int k = 0; k <= last; k++) {
            v[NATURAL[k]] = coefficients[from + k] * quantisers[k];
        }
        columns(v);
        for (int y = 0; y < 64; y += 8, to += stride) {
            row(v, y, samples, to);
        }
    }

    /** What both passes make of a lone DC coefficient. */
    private static void flat(int dc, byte[] samples, int to, int stride) {
        byte value = clamp(((dc << KEPT) + 16 >> 5) + 128);
        for (int y = 0; y < 8; y++, to += stride) {
            for (int x = 0; x < 8; x++) {
                samples[to + x] = value;
            }
        }
    }

    private static byte clamp(int value) {
        return (byte) Math.max(0, Math.min(255, value));
    }

    // The two passes are written out each with its own places: an index that the compiler knows needs no check.

    private static void columns(int[] v) {
        for (int x = 0; x < 8; x++) {
            int in1 = v[x + 8];
            int in2 = v[x + 16];
            int in3 = v[x + 24];
            int in4 = v[x + 32];
            int in5 = v[x + 40];
            int in6 = v[x + 48];
            int in7 = v[x + 56];
            if ((in1 | in2 | in3 | in4 | in5 | in6 | in7) == 0) {
                int flat = v[x] << KEPT; // which is what the sums below come to
                for (int at = x; at < 64; at += 8) {
                    v[at] = flat;
                }
                continue;
            }
            int even = (in2 + in6) * C0_541;
            int even2 = even - in6 * C1_847;
            int even3 = even + in2 * C0_765;
            int even0 = (v[x] + in4 << PLACES) + (1 << PLACES - KEPT - 1);
            int even1 = (v[x] - in4 << PLACES) + (1 << PLACES - KEPT - 1);
            int a = even0 + even3;
            int d = even0 - even3;
            int b = even1 + even2;
            int c = even1 - even2;
            int turn = (in7 + in3 + in5 + in1) * C1_175;
            int z1 = -(in7 + in1) * C0_899;
            int z2 = -(in5 + in3) * C2_562;
            int z3 = turn - (in7 + in3) * C1_961;
            int z4 = turn - (in5 + in1) * C0_390;
            int odd0 = in7 * C0_298 + z1 + z3;
            int odd1 = in5 * C2_053 + z2 + z4;
            int odd2 = in3 * C3_072 + z2 + z3;
            int odd3 = in1 * C1_501 + z1 + z4;
            v[x] = a + odd3 >> PLACES - KEPT;
            v[x + 56] = a - odd3 >> PLACES - KEPT;
            v[x + 8] = b + odd2 >> PLACES - KEPT;
            v[x + 48] = b - odd2 >> PLACES - KEPT;
            v[x + 16] = c + odd1 >> PLACES - KEPT;
            v[x + 40] = c - odd1 >> PLACES - KEPT;
            v[x + 24] = d + odd0 >> PLACES - KEPT;
            v[x + 32] = d - odd0 >> PLACES - KEPT;
        }
    }

    private static void row(int[] v, int y, byte[] samples, int to) {
        int shift = PLACES + KEPT + 3;
        int in1 = v[y + 1];
        int in2 = v[y + 2];
        int in3 = v[y + 3];
        int in4 = v[y + 4];
        int in5 = v[y + 5];
        int in6 = v[y + 6];
        int in7 = v[y + 7];
        int even = (in2 + in6) * C0_541;
        int even2 = even - in6 * C1_847;
        int even3 = even + in2 * C0_765;
        int even0 = (v[y] + in4 << PLACES) + (1 << shift - 1);
        int even1 = (v[y] - in4 << PLACES) + (1 << shift - 1);
        int a = even0 + even3;
        int d = even0 - even3;
        int b = even1 + even2;
        int c = even1 - even2;
        int turn = (in7 + in3 + in5 + in1) * C1_175;
        int z1 = -(in7 + in1) * C0_899;
        int z2 = -(in5 + in3) * C2_562;
        int z3 = turn - (in7 + in3) * C1_961;
        int z4 = turn - (in5 + in1) * C0_390;
        int odd0 = in7 * C0_298 + z1 + z3;
        int odd1 = in5 * C2_053 + z2 + z4;
        int odd2 = in3 * C3_072 + z2 + z3;
        int odd3 = in1 * C1_501 + z1 + z4;
        samples[to] = clamp((a + odd3 >> shift) + 128);
        samples[to + 1] = clamp((b + odd2 >> shift) + 128);
        samples[to + 2] = clamp((c + odd1 >> shift) + 128);
        samples[to + 3] = clamp((d + odd0 >> shift) + 128);
        samples[to + 4] = clamp((d - odd0 >> shift) + 128);
        samples[to + 5] = clamp((c - odd1 >> shift) + 128);
        samples[to + 6] = clamp((b - odd2 >> shift) + 128);
        samples[to + 7] = clamp((a - odd3 >> shift) + 128);
    }
}
