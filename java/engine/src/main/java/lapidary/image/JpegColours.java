package lapidary.image;

import java.util.List;

/**
 * From decoded components to RGB: chroma upsampled by libjpeg's triangle filter, colours by its 16-bit fixed point.
 *
 * @see <a href="https://www.w3.org/Graphics/JPEG/jfif3.pdf">JFIF 1.02</a> for the colour equations
 */
final class JpegColours {
    enum Space {
        GREY,
        RGB,
        YCC,
        CMYK,
        YCCK
    }

    private static final int PLACES = 16;
    private static final int HALF = 1 << PLACES - 1;
    private static final int RED_OF_CR = fixed(1.40200);
    private static final int BLUE_OF_CB = fixed(1.77200);
    private static final int GREEN_OF_CR = -fixed(0.71414);
    private static final int GREEN_OF_CB = -fixed(0.34414);

    private static int fixed(double value) {
        return (int) (value * (1 << PLACES) + 0.5);
    }

    private final JpegComponent[] components;
    private final int width;
    private final int height;
    private final Space space;
    private final int across; // largest sampling factors
    private final int down;
    private final int[] green; // of a row; red and blue take the place of what they are made of

    JpegColours(JpegComponent[] components, int width, int height, int across, int down, Space space) {
        this.components = components;
        this.width = width;
        this.height = height;
        this.across = across;
        this.down = down;
        this.space = space;
        this.green = new int[width + 8];
    }

    Rgb convert() {
        byte[] rgb = new byte[3 * width * height];
        int[][] row = new int[components.length][width + 8];
        for (int y = 0; y < height; y++) {
            for (int c = 0; c < components.length; c++) {
                upsample(components[c], y, row[c]);
            }
            colour(row, rgb, 3 * width * y);
        }
        return new Rgb(width, height, rgb);
    }

    /** Row {@code y} of the picture, of one component. */
    private void upsample(JpegComponent c, int y, int[] out) {
        int h = across / c.across;
        int v = down / c.down;
        int source = y / v * c.stride();
        if (h == 1 && v == 1) {
            byte[] s = c.samples;
            for (int x = 0; x < width; x++) {
                out[x] = s[source + x] & 0xff;
            }
        } else if (h == 2 && v == 1 && c.width > 2) {
            doubleAcross(c, source, out);
        } else if (h == 1 && v == 2) {
            doubleDown(c, source, neighbour(c, y), y % 2 == 0 ? 1 : 2, out);
        } else if (h == 2 && v == 2 && c.width > 2) {
            doubleBoth(c, source, neighbour(c, y), out);
        } else {
            for (int x = 0; x < width; x++) {
                out[x] = c.samples[source + x / h] & 0xff;
            }
        }
    }

    /** The row that is a quarter of row y: above for an even y, below for an odd one; at the edges, its own. */
    private static int neighbour(JpegComponent c, int y) {
        int row = y / 2 + (y % 2 == 0 ? -1 : 1);
        return Math.max(0, Math.min(c.height - 1, row)) * c.stride();
    }

    // Three quarters of the near sample, one of the far; rounding leans left and right in turn.
    private static void doubleAcross(JpegComponent c, int source, int[] out) {
        byte[] s = c.samples;
        int last = c.width - 1;
        out[0] = s[source] & 0xff;
        out[1] = 3 * (s[source] & 0xff) + (s[source + 1] & 0xff) + 2 >> 2;
        for (int x = 1; x < last; x++) {
            int near = 3 * (s[source + x] & 0xff);
            out[2 * x] = near + (s[source + x - 1] & 0xff) + 1 >> 2;
            out[2 * x + 1] = near + (s[source + x + 1] & 0xff) + 2 >> 2;
        }
        out[2 * last] = 3 * (s[source + last] & 0xff) + (s[source + last - 1] & 0xff) + 1 >> 2;
        out[2 * last + 1] = s[source + last] & 0xff;
    }

    private void doubleDown(JpegComponent c, int near, int far, int bias, int[] out) {
        byte[] s = c.samples;
        for (int x = 0; x < width; x++) {
            out[x] = 3 * (s[near + x] & 0xff) + (s[far + x] & 0xff) + bias >> 2;
        }
    }

    private static void doubleBoth(JpegComponent c, int near, int far, int[] out) {
        byte[] s = c.samples;
        int last = c.width - 1;
        int before;
        int here = 3 * (s[near] & 0xff) + (s[far] & 0xff);
        int after = 3 * (s[near + 1] & 0xff) + (s[far + 1] & 0xff);
        out[0] = 4 * here + 8 >> 4;
        out[1] = 3 * here + after + 7 >> 4;
        for (int x = 1; x < last; x++) {
            before = here;
            here = after;
            after = 3 * (s[near + x + 1] & 0xff) + (s[far + x + 1] & 0xff);
            out[2 * x] = 3 * here + before + 8 >> 4;
            out[2 * x + 1] = 3 * here + after + 7 >> 4;
        }
        out[2 * last] = 3 * after + here + 8 >> 4;
        out[2 * last + 1] = 4 * after + 7 >> 4;
    }

    private void colour(int[][] row, byte[] rgb, int to) {
        switch (space) {
            case GREY:
                store(row[0], row[0], row[0], rgb, to);
                break;
            case RGB:
                store(row[0], row[1], row[2], rgb, to);
                break;
            case YCC:
                colours(row[0], row[1], row[2]);
                store(row[2], green, row[1], rgb, to);
                break;
            case CMYK: // Adobe stores 255 minus the ink
                for (int c = 0; c < 3; c++) {
                    for (int x = 0; x < width; x++) {
                        row[c][x] = ink(255 - row[c][x], row[3][x]);
                    }
                }
                store(row[0], row[1], row[2], rgb, to);
                break;
            default: // YCCK: the colour equations give 255 minus the stored ink, that is the ink
                colours(row[0], row[1], row[2]);
                for (int[] ink : List.of(row[2], green, row[1])) {
                    for (int x = 0; x < width; x++) {
                        ink[x] = ink(ink[x], row[3][x]);
                    }
                }
                store(row[2], green, row[1], rgb, to);
        }
    }

    /** Brightness and two differences of colour to red, green and blue. A loop that stores one thing the JIT compiler makes SIMD of. */
    private void colours(int[] y, int[] cb, int[] cr) {
        for (int x = 0; x < green.length; x++) {
            green[x] = clamp(y[x] + (GREEN_OF_CB * (cb[x] - 128) + GREEN_OF_CR * (cr[x] - 128) + HALF >> PLACES));
        }
        add(cr, y, RED_OF_CR);
        add(cb, y, BLUE_OF_CB);
    }

    private static void add(int[] difference, int[] y, int factor) {
        for (int x = 0; x < difference.length; x++) {
            difference[x] = clamp(y[x] + (factor * (difference[x] - 128) + HALF >> PLACES));
        }
    }

    private void store(int[] red, int[] green, int[] blue, byte[] rgb, int to) {
        for (int x = 0; x < width; x++, to += 3) {
            rgb[to] = (byte) red[x];
            rgb[to + 1] = (byte) green[x];
            rgb[to + 2] = (byte) blue[x];
        }
    }

    private static int clamp(int value) {
        return Math.max(0, Math.min(255, value));
    }

    /** Pillow's CMYK to RGB: what the ink leaves of the white that black leaves. */
    private static int ink(int ink, int white) {
        int product = ink * white + 128;
        return clamp(white - ((product >> 8) + product >> 8));
    }
}
