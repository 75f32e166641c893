package lapidary.quant;

/** NF4 and its double quantisation in plain loops over F32 arithmetic, from the description of the format. */
final class Nf4Reference {
    static final float[] CODE = {
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

    private Nf4Reference() {}

    /** Codes of blocks of {@code size} values, one a byte, with the nearest entry of {@code map}; absmax by the way. */
    static byte[] codes(float[] x, float[] map, int size, float[] absmax) {
        byte[] codes = new byte[x.length];
        for (int from = 0; from < x.length; from += size) {
            int to = Math.min(x.length, from + size);
            float largest = 0;
            for (int i = from; i < to; i++) {
                largest = Math.max(largest, Math.abs(x[i]));
            }
            float divisor = Math.max(largest, 1e-38f);
            boolean whole = to - from == size;
            absmax[from / size] = whole ? largest : divisor;
            for (int i = from; i < to; i++) {
                float y = whole ? x[i] * (1f / divisor) : x[i] / divisor;
                codes[i] = (byte) nearest(map, Math.max(-1f, Math.min(1f, y)));
            }
        }
        return codes;
    }

    /** Two codes a byte, the first in the high half; a missing last one is a zero. */
    static byte[] pack(byte[] codes) {
        byte[] packed = new byte[(codes.length + 1) / 2];
        for (int i = 0; i < packed.length; i++) {
            packed[i] = (byte) (codes[2 * i] << 4 | (2 * i + 1 < codes.length ? codes[2 * i + 1] : 7));
        }
        return packed;
    }

    /** The entry that is closest; of two, the lower. */
    private static int nearest(float[] map, float y) {
        int code = 0;
        while (code + 1 < map.length && y > (map[code] + map[code + 1]) / 2) {
            code++;
        }
        return code;
    }
}
