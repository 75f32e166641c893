package lapidary.image;

import java.util.Arrays;

/**
 * Lossless WebP: prefix-coded literals, copies and a colour cache, then up to four transforms undone.
 *
 * @see <a href="https://www.rfc-editor.org/rfc/rfc9649#section-3">RFC 9649, section 3</a>
 */
final class Vp8lDecoder {
    private static final String WEBP = "WebP";
    private static final int SIGNATURE = 0x2f;
    private static final int LENGTHS = 24;
    private static final int DISTANCES = 40;
    private static final int BLACK = 0xff000000;
    private static final int CACHE_HASH = 0x1e35a7bd;

    private static final int PREDICTOR = 0;
    private static final int COLOUR = 1;
    private static final int GREEN = 2;
    private static final int INDEXED = 3;

    /** The 120 nearest pixels, nearest first: rows above << 4 | 8 - columns to the right. */
    private static final int[] NEAR = {
        24, 7, 23, 25, 40, 6, 39, 41, 22, 26, 38, 42, 56, 5, 55, 57, 21, 27, 54, 58, 37, 43, 72, 4, 71, 73, 20, 28, 53,
        59, 70, 74, 36, 44, 88, 69, 75, 52, 60, 3, 87, 89, 19, 29, 86, 90, 35, 45, 68, 76, 85, 91, 51, 61, 104, 2, 103,
        105, 18, 30, 102, 106, 34, 46, 84, 92, 67, 77, 101, 107, 50, 62, 120, 1, 119, 121, 83, 93, 17, 31, 100, 108, 66,
        78, 118, 122, 33, 47, 117, 123, 49, 63, 99, 109, 82, 94, 0, 116, 124, 65, 79, 16, 32, 98, 110, 48, 115, 125, 81,
        95, 64, 114, 126, 97, 111, 80, 113, 127, 96, 112
    };

    /** One transform and its data: a picture of blocks, or a palette. {@code width} is that of what it gives. */
    private record Transform(int type, int width, int bits, int[] data) {}

    /** The five codes that a region of the picture uses. */
    private record Codes(
            Vp8lBits.Code green, Vp8lBits.Code red, Vp8lBits.Code blue, Vp8lBits.Code alpha, Vp8lBits.Code distance) {}

    private final Vp8lBits in;

    private Vp8lDecoder(Bytes chunk) {
        this.in = new Vp8lBits(chunk);
    }

    static Rgb decode(Bytes chunk) throws ImageFault {
        if (chunk.u8("the lossless header") != SIGNATURE) {
            throw ImageFault.damaged(WEBP, "its lossless picture does not start with 2f");
        }
        return new Vp8lDecoder(chunk).picture();
    }

    private Rgb picture() throws ImageFault {
        int width = in.read(14) + 1;
        int height = in.read(14) + 1;
        in.read(1); // whether alpha is used
        int version = in.read(3);
        if (version != 0) {
            throw ImageFault.unsupported("lossless WebP of version " + version + " is not supported");
        }
        Limits.check(WEBP, width, height, 11);
        Transform[] transforms = new Transform[4];
        int count = 0;
        int seen = 0;
        int packedWidth = width;
        while (in.read(1) != 0) {
            int type = in.read(2);
            if ((seen & 1 << type) != 0) {
                throw ImageFault.damaged(WEBP, "its lossless picture has two transforms of type " + type);
            }
            seen |= 1 << type;
            transforms[count] = transform(type, packedWidth, height);
            if (type == INDEXED) {
                packedWidth = blocks(packedWidth, transforms[count].bits);
            }
            count++;
        }
        int[] pixels = pixels(packedWidth, height, true);
        while (count > 0) {
            pixels = undo(transforms[--count], pixels, height);
        }
        byte[] rgb = new byte[3 * pixels.length];
        for (int i = 0; i < pixels.length; i++) {
            rgb[3 * i] = (byte) (pixels[i] >> 16);
            rgb[3 * i + 1] = (byte) (pixels[i] >> 8);
            rgb[3 * i + 2] = (byte) pixels[i];
        }
        return new Rgb(width, height, rgb);
    }

    private static int blocks(int size, int bits) {
        return size + (1 << bits) - 1 >> bits;
    }

    private Transform transform(int type, int width, int height) throws ImageFault {
        if (type == GREEN) {
            return new Transform(type, width, 0, new int[0]);
        }
        if (type == INDEXED) {
            int colours = in.read(8) + 1;
            int[] palette = pixels(colours, 1, false);
            for (int i = 1; i < colours; i++) {
                palette[i] = add(palette[i], palette[i - 1]);
            }
            int bits = colours > 16 ? 0 : colours > 4 ? 1 : colours > 2 ? 2 : 3;
            return new Transform(type, width, bits, Arrays.copyOf(palette, 256)); // beyond it, transparent black
        }
        int bits = in.read(3) + 2;
        return new Transform(type, width, bits, pixels(blocks(width, bits), blocks(height, bits), false));
    }

    /** An entropy-coded picture; only the outermost may have regions with codes of their own. */
    private int[] pixels(int width, int height, boolean outermost) throws ImageFault {
        boolean cached = in.read(1) != 0;
        int cacheBits = cached ? in.read(4) : 0;
        if (cached && (cacheBits < 1 || cacheBits > 11)) {
            throw ImageFault.damaged(WEBP, "a colour cache has " + cacheBits + " bits");
        }
        int regionBits = 0;
        int[] regions = {};
        int groups = 1;
        if (outermost && in.read(1) != 0) {
            regionBits = in.read(3) + 2;
            regions = pixels(blocks(width, regionBits), blocks(height, regionBits), false);
            for (int i = 0; i < regions.length; i++) {
                regions[i] = regions[i] >> 8 & 0xffff;
                groups = Math.max(groups, regions[i] + 1);
            }
        }
        Codes[] codes = codes(groups, regions, cacheBits);
        return new Picture(width, height, cacheBits, regionBits, regions, codes).read();
    }

    /** Every group's codes are in the file; only those that some region uses are kept. */
    private Codes[] codes(int groups, int[] regions, int cacheBits) throws ImageFault {
        boolean[] used = new boolean[groups];
        used[0] = regions.length == 0;
        for (int region : regions) {
            used[region] = true;
        }
        Codes[] codes = new Codes[groups];
        for (int i = 0; i < groups; i++) {
            Codes group = new Codes(
                    in.code(256 + LENGTHS + (cacheBits > 0 ? 1 << cacheBits : 0)),
                    in.code(256),
                    in.code(256),
                    in.code(256),
                    in.code(DISTANCES));
            if (used[i]) {
                codes[i] = group;
            }
        }
        return codes;
    }

    /** The decoding of one picture. */
    private final class Picture {
        private final int width;
        private final int[] pixels;
        private final int regionBits;
        private final int[] regions;
        private final Codes[] codes;
        private final int[] cache;
        private final int cacheShift;

        Picture(int width, int height, int cacheBits, int regionBits, int[] regions, Codes[] codes) {
            this.width = width;
            this.pixels = new int[width * height];
            this.regionBits = regionBits;
            this.regions = regions;
            this.codes = codes;
            this.cache = new int[cacheBits > 0 ? 1 << cacheBits : 0];
            this.cacheShift = 32 - cacheBits;
        }

        int[] read() throws ImageFault {
            int regionsAcross = blocks(width, regionBits);
            int at = 0;
            while (at < pixels.length) {
                Codes group = regions.length == 0
                        ? codes[0]
                        : codes[regions[(at / width >> regionBits) * regionsAcross + (at % width >> regionBits)]];
                int end = regions.length == 0 ? pixels.length : regionEnd(at);
                while (at < end) {
                    at = next(at, group);
                }
            }
            return pixels;
        }

        /** Where the region of pixel {@code at} ends in its row. */
        private int regionEnd(int at) {
            int x = at % width;
            return at - x + Math.min(width, (x >> regionBits) + 1 << regionBits);
        }

        private int next(int at, Codes group) throws ImageFault {
            int green = in.symbol(group.green);
            if (green < 256) {
                int red = in.symbol(group.red);
                int blue = in.symbol(group.blue);
                int alpha = in.symbol(group.alpha);
                put(at, alpha << 24 | red << 16 | green << 8 | blue);
                return at + 1;
            }
            if (green >= 256 + LENGTHS) {
                put(at, cache[green - 256 - LENGTHS]);
                return at + 1;
            }
            int length = number(green - 256);
            int distance = distance(number(in.symbol(group.distance)));
            if (distance > at || length > pixels.length - at) {
                throw ImageFault.damaged(
                        WEBP, "pixel " + at + " copies " + length + " pixels from " + distance + " before it");
            }
            for (int end = at + length; at < end; at++) {
                put(at, pixels[at - distance]);
            }
            return at;
        }

        private void put(int at, int pixel) {
            pixels[at] = pixel;
            if (cache.length > 0) {
                cache[CACHE_HASH * pixel >>> cacheShift] = pixel;
            }
        }

        private int number(int symbol) throws ImageFault {
            if (symbol < 4) {
                return symbol + 1;
            }
            int extra = symbol - 2 >> 1;
            return (2 + (symbol & 1) << extra) + in.read(extra) + 1;
        }

        private int distance(int code) {
            if (code > NEAR.length) {
                return code - NEAR.length;
            }
            int near = NEAR[code - 1];
            return Math.max(1, (near >> 4) * width + 8 - (near & 15));
        }
    }

    private static int[] undo(Transform transform, int[] pixels, int height) {
        switch (transform.type) {
            case PREDICTOR:
                predict(transform, pixels, height);
                return pixels;
            case COLOUR:
                decorrelate(transform, pixels, height);
                return pixels;
            case GREEN:
                for (int i = 0; i < pixels.length; i++) {
                    int green = pixels[i] >> 8 & 0xff;
                    pixels[i] = add(pixels[i], green << 16 | green);
                }
                return pixels;
            default:
                return unpack(transform, pixels, height);
        }
    }

    private static int[] unpack(Transform transform, int[] packed, int height) {
        int bits = transform.bits;
        int width = transform.width;
        int[] pixels = bits == 0 ? packed : new int[width * height];
        int indexBits = 8 >> bits;
        int packedWidth = blocks(width, bits);
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                int group = packed[y * packedWidth + (x >> bits)] >> 8 & 0xff;
                int index = group >> (x & (1 << bits) - 1) * indexBits & (1 << indexBits) - 1;
                pixels[y * width + x] = transform.data[index];
            }
        }
        return pixels;
    }

    private static void decorrelate(Transform transform, int[] pixels, int height) {
        int width = transform.width;
        int across = blocks(width, transform.bits);
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                int factors = transform.data[(y >> transform.bits) * across + (x >> transform.bits)];
                int pixel = pixels[y * width + x];
                int green = (byte) (pixel >> 8);
                int red = (pixel >> 16) + ((byte) factors * green >> 5);
                int blue = pixel + ((byte) (factors >> 8) * green >> 5) + ((byte) (factors >> 16) * (byte) red >> 5);
                pixels[y * width + x] = pixel & 0xff00ff00 | (red & 0xff) << 16 | blue & 0xff;
            }
        }
    }

    private static void predict(Transform transform, int[] p, int height) {
        int width = transform.width;
        int across = blocks(width, transform.bits);
        p[0] = add(p[0], BLACK);
        for (int x = 1; x < width; x++) {
            p[x] = add(p[x], p[x - 1]);
        }
        for (int y = 1; y < height; y++) {
            int row = y * width;
            p[row] = add(p[row], p[row - width]);
            for (int x = 1; x < width; x++) {
                int mode = transform.data[(y >> transform.bits) * across + (x >> transform.bits)] >> 8 & 15;
                int at = row + x;
                // above the right edge's right neighbour comes this row's first pixel: RFC 9649, 4.1
                p[at] = add(p[at], prediction(mode, p[at - 1], p[at - width], p[at - width + 1], p[at - width - 1]));
            }
        }
    }

    private static int prediction(int mode, int left, int up, int upRight, int upLeft) {
        switch (mode) {
            case 1:
                return left;
            case 2:
                return up;
            case 3:
                return upRight;
            case 4:
                return upLeft;
            case 5:
                return average(average(left, upRight), up);
            case 6:
                return average(left, upLeft);
            case 7:
                return average(left, up);
            case 8:
                return average(upLeft, up);
            case 9:
                return average(up, upRight);
            case 10:
                return average(average(left, upLeft), average(up, upRight));
            case 11:
                return nearer(left, up, upLeft);
            case 12:
                return clampedSum(left, up, upLeft);
            case 13:
                return clampedHalf(average(left, up), upLeft);
            default:
                return BLACK;
        }
    }

    /** Channel by channel, modulo 256. */
    private static int add(int a, int b) {
        return (a & 0xff00ff00) + (b & 0xff00ff00) & 0xff00ff00 | (a & 0x00ff00ff) + (b & 0x00ff00ff) & 0x00ff00ff;
    }

    private static int average(int a, int b) {
        return (((a ^ b) & 0xfefefefe) >>> 1) + (a & b);
    }

    /** Left or up, whichever is nearer to left + up - upLeft, summed over the channels. */
    private static int nearer(int left, int up, int upLeft) {
        int balance = 0;
        for (int shift = 0; shift < 32; shift += 8) {
            int corner = upLeft >>> shift & 0xff;
            balance += Math.abs((left >>> shift & 0xff) - corner) - Math.abs((up >>> shift & 0xff) - corner);
        }
        return balance <= 0 ? up : left;
    }

    private static int clampedSum(int a, int b, int c) {
        int sum = 0;
        for (int shift = 0; shift < 32; shift += 8) {
            sum |= clamp((a >>> shift & 0xff) + (b >>> shift & 0xff) - (c >>> shift & 0xff)) << shift;
        }
        return sum;
    }

    private static int clampedHalf(int a, int b) {
        int sum = 0;
        for (int shift = 0; shift < 32; shift += 8) {
            int channel = a >>> shift & 0xff;
            sum |= clamp(channel + (channel - (b >>> shift & 0xff)) / 2) << shift;
        }
        return sum;
    }

    private static int clamp(int value) {
        return Math.max(0, Math.min(255, value));
    }
}
