package lapidary.image;

/**
 * Windows and OS/2 bitmaps: 1, 4, 8, 16, 24 and 32 bits, bit fields, run lengths, either direction.
 *
 * @see <a href="https://learn.microsoft.com/windows/win32/gdi/bitmap-storage">Bitmap storage</a>
 */
final class BmpDecoder {
    private static final String BMP = "BMP";
    private static final int PLAIN = 0;
    private static final int RLE8 = 1;
    private static final int RLE4 = 2;
    private static final int FIELDS = 3;

    private final Bytes in;
    private int width;
    private int height;
    private boolean topDown;
    private int bits;
    private int compression;
    private long colours;
    private final int[] masks = new int[3]; // of red, green, blue
    private byte[] palette = {}; // 4 bytes a colour: blue, green, red, unused

    private BmpDecoder(byte[] bytes) {
        this.in = new Bytes(BMP, bytes, 0, bytes.length);
    }

    static Decoded decode(byte[] bytes) throws ImageFault {
        BmpDecoder decoder = new BmpDecoder(bytes);
        decoder.header();
        return new Decoded(decoder.pixels(), Orientation.UPRIGHT);
    }

    private void header() throws ImageFault {
        in.skip(10, "the header");
        long offset = in.u32le("the header");
        long headerSize = in.u32le("the header");
        long w;
        long h;
        if (headerSize == 12) {
            w = in.u16le("the header");
            h = in.u16le("the header");
        } else if (headerSize == 40
                || headerSize == 52
                || headerSize == 56
                || headerSize == 64
                || headerSize == 108
                || headerSize == 124) {
            in.need(headerSize - 4, "the header");
            w = in.u32le("the header");
            int signed = (int) in.u32le("the header");
            topDown = signed < 0;
            h = Math.abs((long) signed);
        } else {
            throw ImageFault.damaged(
                    BMP, "its header has " + headerSize + " bytes, expected 12, 40, 52, 56, 64, 108 or 124");
        }
        in.skip(2, "the header");
        bits = in.u16le("the header");
        Limits.check(BMP, w, h, bits <= 8 ? 4 : 3);
        width = (int) w;
        height = (int) h;
        if (headerSize > 12) {
            compression = (int) in.u32le("the header");
            in.skip(12, "the header");
            colours = in.u32le("the header");
            in.skip(4, "the header");
        }
        boolean known =
                compression == PLAIN && (bits == 1 || bits == 4 || bits == 8 || bits == 16 || bits == 24 || bits == 32)
                        || compression == RLE8 && bits == 8
                        || compression == RLE4 && bits == 4
                        || compression == FIELDS && (bits == 16 || bits == 32);
        if (!known) {
            throw ImageFault.unsupported(
                    "BMP with " + bits + " bits a pixel and compression " + compression + " is not supported");
        }
        masks(headerSize);
        if (bits <= 8) {
            palette(headerSize);
        }
        if (offset != 0) {
            in.position = 0;
            in.skip(offset, "the header");
        }
    }

    private void masks(long headerSize) throws ImageFault {
        if (compression == FIELDS) { // behind a header of 40 bytes, inside the longer ones: the same place
            for (int i = 0; i < 3; i++) {
                masks[i] = (int) in.u32le("the bit masks");
            }
            if ((masks[0] | masks[1] | masks[2]) != 0) {
                check(masks);
                return;
            }
        }
        int[] plain = bits == 16 ? new int[] {0x7c00, 0x3e0, 0x1f} : new int[] {0xff0000, 0xff00, 0xff};
        System.arraycopy(plain, 0, masks, 0, 3);
    }

    private void check(int[] masks) throws ImageFault {
        int seen = 0;
        for (int mask : masks) {
            int shifted = mask >>> Integer.numberOfTrailingZeros(mask);
            boolean inside = bits == 32 || mask >>> 16 == 0;
            if (mask == 0 || (shifted & shifted + 1) != 0 || shifted > 0xff || (seen & mask) != 0 || !inside) {
                throw ImageFault.unsupported(String.format(
                        "BMP with the bit masks %08x, %08x, %08x is not supported", masks[0], masks[1], masks[2]));
            }
            seen |= mask;
        }
    }

    private void palette(long headerSize) throws ImageFault {
        in.position = 14;
        in.skip(headerSize, "the header");
        int entry = headerSize == 12 ? 3 : 4;
        long count = colours == 0 ? 1L << bits : colours;
        if (count > 65_536) {
            throw ImageFault.damaged(BMP, "its palette has " + count + " colours");
        }
        int stored = (int) Math.min(count, in.remaining() / entry);
        palette = new byte[4 * stored];
        for (int i = 0; i < stored; i++) {
            System.arraycopy(in.data, in.position + entry * i, palette, 4 * i, 3);
        }
        in.position += entry * stored;
    }

    private Rgb pixels() throws ImageFault {
        if (bits <= 8) {
            return new Rgb(width, height, look(compression == PLAIN ? plainIndices() : runs()));
        }
        long stride = stride();
        in.need(stride * height, "the pixels");
        byte[] rgb = new byte[3 * width * height];
        for (int y = 0; y < height; y++) {
            int from = in.position + (int) stride * y;
            row(from, rgb, 3 * width * (topDown ? y : height - 1 - y));
        }
        return new Rgb(width, height, rgb);
    }

    /** Rows are padded to 4 bytes. */
    private long stride() {
        return ((long) width * bits + 31) / 32 * 4;
    }

    private void row(int from, byte[] rgb, int to) {
        byte[] data = in.data;
        if (bits == 24) {
            for (int x = 0; x < width; x++, from += 3, to += 3) {
                rgb[to] = data[from + 2];
                rgb[to + 1] = data[from + 1];
                rgb[to + 2] = data[from];
            }
            return;
        }
        for (int x = 0; x < width; x++, to += 3, from += bits / 8) {
            int pixel = (data[from] & 0xff) | (data[from + 1] & 0xff) << 8;
            if (bits == 32) {
                pixel |= (data[from + 2] & 0xff) << 16 | (data[from + 3] & 0xff) << 24;
            }
            for (int c = 0; c < 3; c++) {
                int shift = Integer.numberOfTrailingZeros(masks[c]);
                int most = masks[c] >>> shift;
                rgb[to + c] = (byte) (((pixel & masks[c]) >>> shift) * 255 / most);
            }
        }
    }

    private byte[] plainIndices() throws ImageFault {
        long stride = stride();
        in.need(stride * height, "the pixels");
        byte[] indices = new byte[width * height];
        int mask = (1 << bits) - 1;
        for (int y = 0; y < height; y++) {
            int from = in.position + (int) stride * y;
            int to = width * (topDown ? y : height - 1 - y);
            for (int x = 0; x < width; x++) {
                int bit = x * bits;
                indices[to + x] = (byte) ((in.data[from + bit / 8] & 0xff) >> (8 - bits - bit % 8) & mask);
            }
        }
        return indices;
    }

    /**
     * Run lengths: (n, v) repeats; (0, 0) ends a row, (0, 1) the image, (0, 2, dx, dy) moves, (0, n) is followed by n
     * values. What is left out has index 0.
     */
    private byte[] runs() throws ImageFault {
        byte[] indices = new byte[width * height];
        int x = 0;
        int y = 0;
        while (y < height) {
            if (in.remaining() == 0 && y == height - 1 && x == width) {
                break; // the end mark may be missing
            }
            int count = in.u8("the pixels");
            int value = in.u8("the pixels");
            if (count > 0) {
                for (int i = 0; i < count && x < width; i++, x++) {
                    indices[width * row(y) + x] = (byte) (bits == 8 ? value : i % 2 == 0 ? value >> 4 : value & 15);
                }
            } else if (value == 0) {
                x = 0;
                y++;
            } else if (value == 1) {
                break;
            } else if (value == 2) {
                x = Math.min(width, x + in.u8("the pixels"));
                y += in.u8("the pixels");
            } else {
                int bytes = bits == 8 ? value : (value + 1) / 2;
                in.need(bytes, "the pixels");
                for (int i = 0; i < value && x < width; i++, x++) {
                    int packed = in.data[in.position + (bits == 8 ? i : i / 2)] & 0xff;
                    indices[width * row(y) + x] = (byte) (bits == 8 ? packed : i % 2 == 0 ? packed >> 4 : packed & 15);
                }
                in.position += bytes;
                if (bytes % 2 == 1) {
                    in.skip(1, "the pixels");
                }
            }
        }
        return indices;
    }

    private int row(int y) {
        return topDown ? y : height - 1 - y;
    }

    private byte[] look(byte[] indices) {
        byte[] rgb = new byte[3 * indices.length];
        for (int i = 0; i < indices.length; i++) {
            int entry = 4 * (indices[i] & 0xff);
            if (entry < palette.length) {
                rgb[3 * i] = palette[entry + 2];
                rgb[3 * i + 1] = palette[entry + 1];
                rgb[3 * i + 2] = palette[entry];
            }
        }
        return rgb;
    }
}
