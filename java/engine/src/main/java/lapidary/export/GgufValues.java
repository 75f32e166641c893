package lapidary.export;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Values in the types of GGUF, by ggml's own arithmetic. */
final class GgufValues {
    private static final int BLOCK = 32;

    private GgufValues() {}

    /**
     * Rows in blocks of 32: a scale d in F16, d the largest magnitude over 127, then round(x / d), halves away from zero. The
     * quotient is with the unrounded d's reciprocal in F32.
     *
     * @param values a multiple of 32
     * @see <a href="https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c">quantize_row_q8_0_ref</a>
     */
    static MemorySegment q80(float[] values) {
        ByteBuffer out = ByteBuffer.allocate(Math.multiplyExact(values.length / BLOCK, 34))
                .order(ByteOrder.LITTLE_ENDIAN);
        for (int from = 0; from < values.length; from += BLOCK) {
            float max = 0;
            for (int i = from; i < from + BLOCK; i++) {
                max = Math.max(max, Math.abs(values[i]));
            }
            float d = max / 127;
            float inverse = d == 0 ? 0 : 1 / d;
            out.putShort(Float.floatToFloat16(d));
            for (int i = from; i < from + BLOCK; i++) {
                double x = values[i] * inverse; // the product in F32, halves added without another rounding
                out.put((byte) (int) (x + Math.copySign(0.5, x)));
            }
        }
        return MemorySegment.ofArray(out.array());
    }

    /**
     * The same values in F16, ties to even.
     *
     * @param tensor for messages
     * @throws lapidary.format.FormatException where a value is beyond F16's range
     */
    static MemorySegment f16(String tensor, float[] values) {
        short[] halves = new short[values.length];
        for (int i = 0; i < values.length; i++) {
            halves[i] = Float.floatToFloat16(values[i]);
            if ((halves[i] & 0x7c00) == 0x7c00) {
                throw new lapidary.format.FormatException("weight " + tensor + " holds " + values[i]
                        + ", which float16 cannot hold (65504 is its largest); use --outtype bf16 or f32");
            }
        }
        return MemorySegment.ofArray(halves);
    }
}
