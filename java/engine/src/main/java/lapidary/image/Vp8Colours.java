package lapidary.image;

/**
 * A frame's planes to RGB as libwebp does by default: chroma from the four nearest samples, weighted 9, 3, 3 and 1, in two
 * roundings, and BT.601 in 14-bit fixed point.
 */
final class Vp8Colours {
    private final Vp8Plane y;
    private final Vp8Plane u;
    private final Vp8Plane v;
    private final int width;
    private final int height;

    Vp8Colours(Vp8Plane y, Vp8Plane u, Vp8Plane v, int width, int height) {
        this.y = y;
        this.u = u;
        this.v = v;
        this.width = width;
        this.height = height;
    }

    Rgb convert() {
        byte[] rgb = new byte[3 * width * height];
        int[] rowU = new int[width + 2];
        int[] rowV = new int[width + 2];
        for (int row = 0; row < height; row++) {
            upsample(u, row, rowU);
            upsample(v, row, rowV);
            int at = y.at(0, row);
            int to = 3 * width * row;
            for (int x = 0; x < width; x++, to += 3) {
                int luma = (y.samples[at + x] & 0xff) * 19077 >> 8;
                rgb[to] = clamp(luma + (rowV[x] * 26149 >> 8) - 14234);
                rgb[to + 1] = clamp(luma - (rowU[x] * 6419 >> 8) - (rowV[x] * 13320 >> 8) + 8708);
                rgb[to + 2] = clamp(luma + (rowU[x] * 33050 >> 8) - 17685);
            }
        }
        return new Rgb(width, height, rgb);
    }

    private void upsample(Vp8Plane plane, int row, int[] out) {
        int last = (width - 1) / 2;
        int lastRow = (height - 1) / 2;
        int other = Math.max(0, Math.min(lastRow, row / 2 + (row % 2 == 0 ? -1 : 1)));
        byte[] s = plane.samples;
        int near = plane.at(0, row / 2);
        int far = plane.at(0, other);
        out[0] = edge(s[near], s[far]);
        for (int x = 1; x <= last; x++) {
            int near0 = s[near + x - 1] & 0xff;
            int near1 = s[near + x] & 0xff;
            int far0 = s[far + x - 1] & 0xff;
            int far1 = s[far + x] & 0xff;
            int sum = near0 + near1 + far0 + far1 + 8;
            out[2 * x - 1] = (sum + 2 * (near1 + far0) >> 3) + near0 >> 1;
            out[2 * x] = (sum + 2 * (near0 + far1) >> 3) + near1 >> 1;
        }
        if (width % 2 == 0) {
            out[width - 1] = edge(s[near + last], s[far + last]);
        }
    }

    private static int edge(byte near, byte far) {
        return 3 * (near & 0xff) + (far & 0xff) + 2 >> 2;
    }

    private static byte clamp(int value) {
        return (byte) Math.max(0, Math.min(255, value >> 6));
    }
}
