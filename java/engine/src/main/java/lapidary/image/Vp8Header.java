package lapidary.image;

import java.util.Arrays;

/**
 * What a key frame's first partition says before its macroblocks.
 *
 * @see <a href="https://www.rfc-editor.org/rfc/rfc6386#section-9">RFC 6386, section 9</a>
 */
final class Vp8Header {
    static final int SEGMENTS = 4;

    final boolean segmentMap;
    final int[] segmentProbabilities = {255, 255, 255};

    /** Of each segment: y1 DC, y1 AC, y2 DC, y2 AC, chroma DC, chroma AC. */
    final int[][] quantisers = new int[SEGMENTS][6];

    final boolean simpleFilter;

    /** Of each segment, then of whole (0) and split (1) macroblocks: 0 to 63. */
    final int[][] filterLevels = new int[SEGMENTS][2];

    final int sharpness;
    final int partitions;

    /** [4 block types, 8 bands, 3 contexts, 11] */
    final int[] coefficients = Vp8Tables.COEFFICIENTS.clone();

    /** Probability that a macroblock is not skipped; -1 if none is. */
    final int skipProbability;

    Vp8Header(Vp8Bits in) {
        in.number(2); // colour space, and whether clamping may be left out: neither changes anything
        boolean segmented = in.flag();
        boolean map = false;
        boolean absolute = true;
        int[] segmentQuantisers = new int[SEGMENTS];
        int[] segmentLevels = new int[SEGMENTS];
        if (segmented) {
            map = in.flag();
            if (in.flag()) {
                absolute = in.flag();
                Arrays.setAll(segmentQuantisers, i -> in.optional(7));
                Arrays.setAll(segmentLevels, i -> in.optional(6));
            }
            if (map) {
                Arrays.setAll(segmentProbabilities, i -> in.flag() ? in.number(8) : 255);
            }
        }
        segmentMap = map;
        simpleFilter = in.flag();
        int level = in.number(6);
        sharpness = in.number(3);
        boolean adjusted = in.flag();
        int intraAdjustment = 0;
        int splitAdjustment = 0;
        if (adjusted && in.flag()) {
            int[] adjustments = new int[8]; // by reference frame, then by mode; a key frame uses the first of each
            Arrays.setAll(adjustments, i -> in.optional(6));
            intraAdjustment = adjustments[0];
            splitAdjustment = adjustments[4];
        }
        for (int s = 0; s < SEGMENTS; s++) {
            int base = !segmented ? level : absolute ? segmentLevels[s] : level + segmentLevels[s];
            filterLevels[s][0] = level == 0 ? 0 : clamp(base + intraAdjustment, 63);
            filterLevels[s][1] = level == 0 ? 0 : clamp(base + intraAdjustment + splitAdjustment, 63);
        }
        partitions = 1 << in.number(2);
        quantisers(in, segmented, absolute, segmentQuantisers);
        in.flag(); // whether the probabilities outlive this frame
        for (int i = 0; i < coefficients.length; i++) {
            if (in.bit(Vp8Tables.COEFFICIENT_UPDATES[i]) != 0) {
                coefficients[i] = in.number(8);
            }
        }
        skipProbability = in.flag() ? in.number(8) : -1;
    }

    private void quantisers(Vp8Bits in, boolean segmented, boolean absolute, int[] bySegment) {
        int base = in.number(7);
        int[] offsets = new int[5]; // y1 DC, y2 DC, y2 AC, chroma DC, chroma AC
        Arrays.setAll(offsets, i -> in.optional(4));
        for (int s = 0; s < SEGMENTS; s++) {
            int q = !segmented ? base : absolute ? bySegment[s] : base + bySegment[s];
            int[] dc = Vp8Tables.DC;
            int[] ac = Vp8Tables.AC;
            quantisers[s][0] = dc[clamp(q + offsets[0], 127)];
            quantisers[s][1] = ac[clamp(q, 127)];
            quantisers[s][2] = 2 * dc[clamp(q + offsets[1], 127)];
            quantisers[s][3] = Math.max(8, ac[clamp(q + offsets[2], 127)] * 155 / 100);
            quantisers[s][4] = dc[clamp(q + offsets[3], 117)];
            quantisers[s][5] = ac[clamp(q + offsets[4], 127)];
        }
    }

    private static int clamp(int value, int most) {
        return Math.max(0, Math.min(most, value));
    }
}
