package lapidary.image;

import java.util.Arrays;

/**
 * Lossy WebP: a VP8 key frame, to RGB with libwebp's upsampling and fixed-point colours.
 *
 * @see <a href="https://www.rfc-editor.org/rfc/rfc6386">RFC 6386</a>
 */
final class Vp8Decoder {
    private static final String WEBP = "WebP";

    private static final int[] ZIGZAG = {0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15};
    private static final int[] BANDS = {0, 1, 2, 3, 6, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 0};

    // extra bits of the tokens for large values: RFC 6386, 13.2
    private static final int[][] LARGE = {
        {173, 148, 140},
        {176, 155, 140, 135},
        {180, 157, 141, 134, 130},
        {254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129}
    };

    /** Tree of 4 x 4 modes: where to go on for a 0 and a 1, or -mode. RFC 6386, 11.2. */
    private static final int[] MODE_TREE = {-0, 1, -1, 2, -2, 3, 4, 6, -3, 5, -4, -5, -6, 7, -7, 8, -8, -9};

    private static final int LUMA_BEHIND_DC = 0;
    private static final int LUMA_DC = 1;
    private static final int CHROMA = 2;
    private static final int LUMA = 3;

    private final int width;
    private final int height;
    private final int across; // macroblocks
    private final int down;
    private final Vp8Bits modes;
    private final Vp8Header header;
    private final Vp8Bits[] tokens;
    private final Vp8Plane y;
    private final Vp8Plane u;
    private final Vp8Plane v;
    private final Vp8Prediction yPrediction;
    private final Vp8Prediction uPrediction;
    private final Vp8Prediction vPrediction;

    // context: modes and non-zero flags of the blocks above (4 luma, 2 + 2 chroma, DC per macroblock) and to the left
    private final int[] modesAbove;
    private final int[] modesLeft = new int[4];
    private final boolean[] filledAbove;
    private final boolean[] filledLeft = new boolean[9];

    // the macroblock at hand
    private final short[] coefficients = new short[25 * 16]; // 16 luma, 4 + 4 chroma, luma DC
    private final int[] blockModes = new int[16];
    private int segment;
    private boolean skipped;
    private boolean split;
    private int lumaMode;
    private int chromaMode;
    private final int[] work = new int[16];

    /** Of each macroblock: filter level << 1 | whether to filter inside. */
    private final byte[] filters;

    private Vp8Decoder(Bytes in) throws ImageFault {
        int tag = in.u24le("the frame header");
        if ((tag & 1) != 0 || (tag >> 1 & 7) > 3 || (tag >> 4 & 1) == 0) {
            throw ImageFault.damaged(WEBP, "its lossy picture is not a key frame that is shown");
        }
        int firstSize = tag >> 5;
        if (in.u24le("the frame header") != 0x2a019d) {
            throw ImageFault.damaged(WEBP, "its lossy picture has no start code");
        }
        width = in.u16le("the frame header") & 0x3fff; // above it, a scale for display
        height = in.u16le("the frame header") & 0x3fff;
        Limits.check(WEBP, width, height, 5);
        across = Math.ceilDiv(width, 16);
        down = Math.ceilDiv(height, 16);
        in.need(firstSize, "the first partition");
        if ((long) across * down / 4 > firstSize) { // the modes of a macroblock take more than 2 bits
            throw ImageFault.truncated(
                    WEBP, "after " + firstSize + " bytes of modes, too few for " + width + " x " + height);
        }
        modes = new Vp8Bits(in.data, in.position, in.position + firstSize);
        header = new Vp8Header(modes);
        in.position += firstSize;
        tokens = partitions(in, header.partitions);
        y = new Vp8Plane(16 * across, 16 * down);
        u = new Vp8Plane(8 * across, 8 * down);
        v = new Vp8Plane(8 * across, 8 * down);
        yPrediction = new Vp8Prediction(y);
        uPrediction = new Vp8Prediction(u);
        vPrediction = new Vp8Prediction(v);
        modesAbove = new int[4 * across];
        filledAbove = new boolean[9 * across];
        filters = new byte[across * down];
    }

    private static Vp8Bits[] partitions(Bytes in, int count) throws ImageFault {
        Bytes sizes = new Bytes(WEBP, in.data, in.position, in.end);
        in.skip(3L * (count - 1), "the partition sizes");
        Vp8Bits[] partitions = new Vp8Bits[count];
        for (int i = 0; i < count; i++) {
            int size = i < count - 1 ? sizes.u24le("the partition sizes") : in.remaining();
            in.need(size, "a partition");
            partitions[i] = new Vp8Bits(in.data, in.position, in.position + size);
            in.position += size;
        }
        return partitions;
    }

    static Rgb decode(Bytes chunk) throws ImageFault {
        return new Vp8Decoder(chunk).picture();
    }

    private Rgb picture() throws ImageFault {
        for (int mbY = 0; mbY < down; mbY++) {
            Vp8Bits in = tokens[mbY & header.partitions - 1];
            Arrays.fill(modesLeft, Vp8Prediction.DC);
            Arrays.fill(filledLeft, false);
            for (int mbX = 0; mbX < across; mbX++) {
                readModes(mbX);
                Arrays.fill(coefficients, (short) 0);
                boolean filled = !skipped && readCoefficients(in, mbX);
                if (skipped) {
                    clearContext(mbX);
                }
                if (modes.exhausted() || in.exhausted()) {
                    throw ImageFault.truncated(WEBP, "in the lossy pixels, near row " + 16 * mbY + " of " + height);
                }
                reconstruct(mbX, mbY, filled);
                int level = header.filterLevels[segment][split ? 1 : 0];
                filters[mbY * across + mbX] = (byte) (level << 1 | (split || filled ? 1 : 0));
            }
        }
        filter();
        return new Vp8Colours(y, u, v, width, height).convert();
    }

    private void readModes(int mbX) {
        segment = 0;
        if (header.segmentMap) {
            int[] p = header.segmentProbabilities;
            segment = modes.bit(p[0]) == 0 ? modes.bit(p[1]) : 2 + modes.bit(p[2]);
        }
        skipped = header.skipProbability >= 0 && modes.bit(header.skipProbability) != 0;
        split = modes.bit(145) == 0;
        if (split) {
            for (int i = 0; i < 16; i++) {
                int above = 4 * mbX + i % 4;
                blockModes[i] = blockMode(modesAbove[above], modesLeft[i / 4]);
                modesAbove[above] = blockModes[i];
                modesLeft[i / 4] = blockModes[i];
            }
        } else {
            if (modes.bit(156) != 0) {
                lumaMode = modes.bit(128) != 0 ? Vp8Prediction.TRUE_MOTION : Vp8Prediction.HORIZONTAL;
            } else {
                lumaMode = modes.bit(163) != 0 ? Vp8Prediction.VERTICAL : Vp8Prediction.DC;
            }
            Arrays.fill(modesAbove, 4 * mbX, 4 * mbX + 4, lumaMode);
            Arrays.fill(modesLeft, lumaMode);
        }
        if (modes.bit(142) == 0) {
            chromaMode = Vp8Prediction.DC;
        } else if (modes.bit(114) == 0) {
            chromaMode = Vp8Prediction.VERTICAL;
        } else {
            chromaMode = modes.bit(183) != 0 ? Vp8Prediction.TRUE_MOTION : Vp8Prediction.HORIZONTAL;
        }
    }

    private int blockMode(int above, int left) {
        int p = (above * 10 + left) * 9;
        int node = 0;
        do {
            node = MODE_TREE[2 * node + modes.bit(Vp8Tables.BLOCK_MODES[p + node])];
        } while (node > 0);
        return -node;
    }

    /** Without coefficients; the DC block's flag stays where the macroblock has none. */
    private void clearContext(int mbX) {
        int count = split ? 8 : 9;
        Arrays.fill(filledLeft, 0, count, false);
        Arrays.fill(filledAbove, 9 * mbX, 9 * mbX + count, false);
    }

    /** Reads and dequantises the macroblock's coefficients; whether any is not zero. */
    private boolean readCoefficients(Vp8Bits in, int mbX) {
        int[] q = header.quantisers[segment];
        boolean filled = false;
        int first = 0;
        int type = LUMA;
        if (!split) {
            boolean any = block(in, LUMA_DC, 8, 9 * mbX + 8, 0, 384, q[2], q[3]) > 0;
            filledLeft[8] = any;
            filledAbove[9 * mbX + 8] = any;
            if (any) {
                spreadDc();
            }
            first = 1;
            type = LUMA_BEHIND_DC;
        }
        for (int i = 0; i < 16; i++) {
            int above = 9 * mbX + i % 4;
            int end = block(in, type, i / 4, above, first, 16 * i, q[0], q[1]);
            filledLeft[i / 4] = end > first;
            filledAbove[above] = end > first;
            filled |= end > 1 || coefficients[16 * i] != 0;
        }
        for (int i = 0; i < 8; i++) { // 4 of u, 4 of v
            int left = 4 + i / 4 * 2 + i % 4 / 2;
            int above = 9 * mbX + 4 + i / 4 * 2 + i % 2;
            int end = block(in, CHROMA, left, above, 0, 256 + 16 * i, q[4], q[5]);
            filledLeft[left] = end > 0;
            filledAbove[above] = end > 0;
            filled |= end > 1 || coefficients[256 + 16 * i] != 0;
        }
        return filled;
    }

    /** Reads one block; the index behind its last token. */
    private int block(Vp8Bits in, int type, int left, int above, int first, int to, int dc, int ac) {
        int[] p = header.coefficients;
        int context = (filledLeft[left] ? 1 : 0) + (filledAbove[above] ? 1 : 0);
        int n = first;
        int at = probabilities(type, n, context);
        while (n < 16) {
            if (in.bit(p[at]) == 0) {
                return n;
            }
            while (in.bit(p[at + 1]) == 0) {
                n++;
                if (n == 16) {
                    return 16;
                }
                at = probabilities(type, n, 0);
            }
            int value = 1;
            int next = 1;
            if (in.bit(p[at + 2]) != 0) {
                value = large(in, p, at);
                next = 2;
            }
            int signed = in.bit(128) != 0 ? -value : value;
            coefficients[to + ZIGZAG[n]] = (short) (signed * (n > 0 ? ac : dc));
            n++;
            at = probabilities(type, n, next);
        }
        return 16;
    }

    private static int probabilities(int type, int index, int context) {
        return ((type * 8 + BANDS[index]) * 3 + context) * 11;
    }

    private static int large(Vp8Bits in, int[] p, int at) {
        if (in.bit(p[at + 3]) == 0) {
            return in.bit(p[at + 4]) == 0 ? 2 : 3 + in.bit(p[at + 5]);
        }
        if (in.bit(p[at + 6]) == 0) {
            if (in.bit(p[at + 7]) == 0) {
                return 5 + in.bit(159);
            }
            int high = in.bit(165);
            return 7 + 2 * high + in.bit(145);
        }
        int high = in.bit(p[at + 8]);
        int category = 2 * high + in.bit(p[at + 9 + high]);
        int extra = 0;
        for (int probability : LARGE[category]) {
            extra = 2 * extra + in.bit(probability);
        }
        return 3 + (8 << category) + extra;
    }

    /** The Walsh-Hadamard transform of the DC block, to the first coefficient of each luma block. */
    private void spreadDc() {
        for (int i = 0; i < 4; i++) {
            int c0 = coefficients[384 + i];
            int c1 = coefficients[388 + i];
            int c2 = coefficients[392 + i];
            int c3 = coefficients[396 + i];
            work[i] = c0 + c3 + c1 + c2;
            work[8 + i] = c0 + c3 - c1 - c2;
            work[4 + i] = c0 - c3 + c1 - c2;
            work[12 + i] = c0 - c3 - c1 + c2;
        }
        for (int i = 0; i < 4; i++) {
            int outer = work[4 * i] + work[4 * i + 3] + 3;
            int inner = work[4 * i + 1] + work[4 * i + 2];
            int outerTurn = work[4 * i] - work[4 * i + 3] + 3;
            int innerTurn = work[4 * i + 1] - work[4 * i + 2];
            coefficients[64 * i] = (short) (outer + inner >> 3);
            coefficients[64 * i + 16] = (short) (outerTurn + innerTurn >> 3);
            coefficients[64 * i + 32] = (short) (outer - inner >> 3);
            coefficients[64 * i + 48] = (short) (outerTurn - innerTurn >> 3);
        }
    }

    private void reconstruct(int mbX, int mbY, boolean filled) {
        int luma = y.at(16 * mbX, 16 * mbY);
        if (split) {
            int aboveRight = luma - y.stride + 16;
            if (mbY > 0 && mbX == across - 1) { // beyond the frame: its last sample again
                Arrays.fill(y.samples, aboveRight, aboveRight + 4, y.samples[aboveRight - 1]);
            }
            for (int i = 0; i < 16; i++) {
                int at = luma + i / 4 * 4 * y.stride + i % 4 * 4;
                yPrediction.quarter(blockModes[i], at, i % 4 == 3 ? aboveRight : at - y.stride + 4);
                addResidual(y, at, 16 * i, filled);
            }
        } else {
            yPrediction.whole(lumaMode, luma, 16, mbY > 0, mbX > 0);
            for (int i = 0; i < 16; i++) {
                addResidual(y, luma + i / 4 * 4 * y.stride + i % 4 * 4, 16 * i, filled);
            }
        }
        int chroma = u.at(8 * mbX, 8 * mbY);
        uPrediction.whole(chromaMode, chroma, 8, mbY > 0, mbX > 0);
        vPrediction.whole(chromaMode, chroma, 8, mbY > 0, mbX > 0);
        for (int i = 0; i < 4; i++) {
            int at = chroma + i / 2 * 4 * u.stride + i % 2 * 4;
            addResidual(u, at, 256 + 16 * i, filled);
            addResidual(v, at, 320 + 16 * i, filled);
        }
    }

    /** The inverse transform of RFC 6386, 14.3, added to the prediction. */
    private void addResidual(Vp8Plane plane, int at, int from, boolean filled) {
        if (!filled) {
            return;
        }
        short[] c = coefficients;
        for (int i = 0; i < 4; i++) {
            int a = c[from + i] + c[from + 8 + i];
            int b = c[from + i] - c[from + 8 + i];
            int turn = sine(c[from + 4 + i]) - cosine(c[from + 12 + i]);
            int rest = cosine(c[from + 4 + i]) + sine(c[from + 12 + i]);
            work[4 * i] = a + rest;
            work[4 * i + 1] = b + turn;
            work[4 * i + 2] = b - turn;
            work[4 * i + 3] = a - rest;
        }
        byte[] p = plane.samples;
        for (int i = 0; i < 4; i++, at += plane.stride) {
            int a = work[i] + 4 + work[8 + i];
            int b = work[i] + 4 - work[8 + i];
            int turn = sine(work[4 + i]) - cosine(work[12 + i]);
            int rest = cosine(work[4 + i]) + sine(work[12 + i]);
            p[at] = clamp((p[at] & 0xff) + (a + rest >> 3));
            p[at + 1] = clamp((p[at + 1] & 0xff) + (b + turn >> 3));
            p[at + 2] = clamp((p[at + 2] & 0xff) + (b - turn >> 3));
            p[at + 3] = clamp((p[at + 3] & 0xff) + (a - rest >> 3));
        }
    }

    /** Times sqrt(2) cos(pi / 8), in 16 binary places. */
    private static int cosine(int value) {
        return (value * 20091 >> 16) + value;
    }

    /** Times sqrt(2) sin(pi / 8), in 16 binary places. */
    private static int sine(int value) {
        return value * 35468 >> 16;
    }

    private static byte clamp(int value) {
        return (byte) Math.max(0, Math.min(255, value));
    }

    private void filter() {
        Vp8LoopFilter filter = new Vp8LoopFilter(header.simpleFilter, header.sharpness);
        for (int mbY = 0; mbY < down; mbY++) {
            for (int mbX = 0; mbX < across; mbX++) {
                int settings = filters[mbY * across + mbX];
                if (settings >> 1 > 0) {
                    filter.macroblock(y, u, v, mbX, mbY, settings >> 1, (settings & 1) != 0);
                }
            }
        }
    }
}
