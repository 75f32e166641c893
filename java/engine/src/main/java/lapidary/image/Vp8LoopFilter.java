package lapidary.image;

/**
 * Smoothing of the edges between blocks, after the whole frame is predicted.
 *
 * @see <a href="https://www.rfc-editor.org/rfc/rfc6386#section-15">RFC 6386, section 15</a>
 */
final class Vp8LoopFilter {
    private final boolean simple;
    private final int sharpness;

    // of the macroblock at hand
    private int edgeLimit;
    private int innerLimit;
    private int interior;
    private int variance;

    Vp8LoopFilter(boolean simple, int sharpness) {
        this.simple = simple;
        this.sharpness = sharpness;
    }

    /**
     * @param level 1 to 63
     * @param inner whether the edges of the blocks inside are filtered as well
     */
    void macroblock(Vp8Plane y, Vp8Plane u, Vp8Plane v, int mbX, int mbY, int level, boolean inner) {
        limits(level);
        int luma = y.at(16 * mbX, 16 * mbY);
        int chroma = u.at(8 * mbX, 8 * mbY);
        if (mbX > 0) {
            edge(y, luma, 1, y.stride, 16);
            chromaEdges(u, v, chroma, 1, u.stride);
        }
        for (int i = 4; inner && i < 16; i += 4) {
            innerEdge(y, luma + i, 1, y.stride, 16);
        }
        if (inner && !simple) {
            innerEdge(u, chroma + 4, 1, u.stride, 8);
            innerEdge(v, chroma + 4, 1, v.stride, 8);
        }
        if (mbY > 0) {
            edge(y, luma, y.stride, 1, 16);
            chromaEdges(u, v, chroma, u.stride, 1);
        }
        for (int i = 4; inner && i < 16; i += 4) {
            innerEdge(y, luma + i * y.stride, y.stride, 1, 16);
        }
        if (inner && !simple) {
            innerEdge(u, chroma + 4 * u.stride, u.stride, 1, 8);
            innerEdge(v, chroma + 4 * v.stride, v.stride, 1, 8);
        }
    }

    private void chromaEdges(Vp8Plane u, Vp8Plane v, int at, int across, int along) {
        if (!simple) {
            edge(u, at, across, along, 8);
            edge(v, at, across, along, 8);
        }
    }

    private void limits(int level) {
        int limit = level;
        if (sharpness > 0) {
            limit = Math.min(limit >> (sharpness > 4 ? 2 : 1), 9 - sharpness);
        }
        interior = Math.max(1, limit);
        innerLimit = 2 * (2 * level + interior) + 1;
        edgeLimit = 2 * (2 * level + interior + 4) + 1;
        variance = level >= 40 ? 2 : level >= 15 ? 1 : 0;
    }

    /** An edge between macroblocks: {@code across} steps over it, {@code along} steps to the next of {@code count}. */
    private void edge(Vp8Plane plane, int at, int across, int along, int count) {
        byte[] p = plane.samples;
        for (int i = 0; i < count; i++, at += along) {
            if (simple) {
                if (isEdge(p, at, across, edgeLimit)) {
                    two(p, at, across);
                }
            } else if (isEdge(p, at, across, edgeLimit) && isSmooth(p, at, across)) {
                if (isVaried(p, at, across)) {
                    two(p, at, across);
                } else {
                    six(p, at, across);
                }
            }
        }
    }

    private void innerEdge(Vp8Plane plane, int at, int across, int along, int count) {
        byte[] p = plane.samples;
        for (int i = 0; i < count; i++, at += along) {
            if (simple) {
                if (isEdge(p, at, across, innerLimit)) {
                    two(p, at, across);
                }
            } else if (isEdge(p, at, across, innerLimit) && isSmooth(p, at, across)) {
                if (isVaried(p, at, across)) {
                    two(p, at, across);
                } else {
                    four(p, at, across);
                }
            }
        }
    }

    private static int sample(byte[] p, int at) {
        return p[at] & 0xff;
    }

    private static int difference(byte[] p, int a, int b) {
        return Math.abs((p[a] & 0xff) - (p[b] & 0xff));
    }

    private static boolean isEdge(byte[] p, int at, int step, int limit) {
        return 4 * difference(p, at - step, at) + difference(p, at - 2 * step, at + step) <= limit;
    }

    private boolean isSmooth(byte[] p, int at, int step) {
        return difference(p, at - 4 * step, at - 3 * step) <= interior
                && difference(p, at - 3 * step, at - 2 * step) <= interior
                && difference(p, at - 2 * step, at - step) <= interior
                && difference(p, at + 3 * step, at + 2 * step) <= interior
                && difference(p, at + 2 * step, at + step) <= interior
                && difference(p, at + step, at) <= interior;
    }

    private boolean isVaried(byte[] p, int at, int step) {
        return difference(p, at - 2 * step, at - step) > variance || difference(p, at + step, at) > variance;
    }

    private static void two(byte[] p, int at, int step) {
        int a = 3 * (sample(p, at) - sample(p, at - step)) + signed(sample(p, at - 2 * step) - sample(p, at + step));
        p[at - step] = clamp(sample(p, at - step) + small(a + 3 >> 3));
        p[at] = clamp(sample(p, at) - small(a + 4 >> 3));
    }

    private static void four(byte[] p, int at, int step) {
        int a = 3 * (sample(p, at) - sample(p, at - step));
        int a1 = small(a + 4 >> 3);
        int a3 = a1 + 1 >> 1;
        p[at - 2 * step] = clamp(sample(p, at - 2 * step) + a3);
        p[at - step] = clamp(sample(p, at - step) + small(a + 3 >> 3));
        p[at] = clamp(sample(p, at) - a1);
        p[at + step] = clamp(sample(p, at + step) - a3);
    }

    private static void six(byte[] p, int at, int step) {
        int a = signed(
                3 * (sample(p, at) - sample(p, at - step)) + signed(sample(p, at - 2 * step) - sample(p, at + step)));
        int weight = 27;
        for (int i = 0; i < 3; i++, weight -= 9) {
            int change = weight * a + 63 >> 7;
            p[at - (i + 1) * step] = clamp(sample(p, at - (i + 1) * step) + change);
            p[at + i * step] = clamp(sample(p, at + i * step) - change);
        }
    }

    private static int signed(int value) {
        return Math.max(-128, Math.min(127, value));
    }

    private static int small(int value) {
        return Math.max(-16, Math.min(15, value));
    }

    private static byte clamp(int value) {
        return (byte) Math.max(0, Math.min(255, value));
    }
}
