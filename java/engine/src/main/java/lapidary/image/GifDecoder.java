package lapidary.image;

import java.util.Arrays;

/**
 * GIF, first frame, on the whole canvas: what the frame does not cover has the transparent colour's entry if the frame
 * names one, else entry 0, as in Pillow.
 *
 * @see <a href="https://www.w3.org/Graphics/GIF/spec-gif89a.txt">GIF89a</a>
 */
final class GifDecoder {
    private static final String GIF = "GIF";
    private static final int MAX_CODES = 4096;
    private static final int MAX_CODE_BITS = 12;

    /** Rows of an interlaced frame: first row and step of each pass. */
    private static final int[][] PASSES = {{0, 8}, {4, 8}, {2, 4}, {1, 2}};

    private static final int[][] ONE_PASS = {{0, 1}};

    private final Bytes in;

    private GifDecoder(byte[] bytes) {
        this.in = new Bytes(GIF, bytes, 6, bytes.length);
    }

    static Decoded decode(byte[] bytes) throws ImageFault {
        return new Decoded(new GifDecoder(bytes).read(), Orientation.UPRIGHT);
    }

    private Rgb read() throws ImageFault {
        int width = in.u16le("the header");
        int height = in.u16le("the header");
        int flags = in.u8("the header");
        in.skip(2, "the header"); // background colour and aspect ratio, which browsers and Pillow do not heed either
        byte[] palette = (flags & 0x80) != 0 ? palette(flags) : new byte[0];
        int transparent = 0;
        while (true) {
            int block = in.u8("a block header");
            if (block == ',') {
                return frame(width, height, palette, transparent);
            } else if (block == '!') {
                int label = in.u8("an extension");
                int size = in.u8("an extension");
                in.need(size, "an extension");
                if (label == 0xf9 && size >= 4) { // graphic control
                    transparent = (in.data[in.position] & 1) != 0 ? in.data[in.position + 3] & 0xff : transparent;
                }
                in.position += size;
                if (size > 0) {
                    skipBlocks();
                }
            } else if (block == ';') {
                throw ImageFault.damaged(GIF, "it has no frame");
            }
        }
    }

    private void skipBlocks() throws ImageFault {
        for (int size = in.u8("an extension"); size > 0; size = in.u8("an extension")) {
            in.skip(size, "an extension");
        }
    }

    private byte[] palette(int flags) throws ImageFault {
        int bytes = 3 << (flags & 7) + 1;
        in.need(bytes, "a palette");
        byte[] palette = Arrays.copyOfRange(in.data, in.position, in.position + bytes);
        in.position += bytes;
        return palette;
    }

    private Rgb frame(int screenWidth, int screenHeight, byte[] global, int transparent) throws ImageFault {
        int left = in.u16le("a frame header");
        int top = in.u16le("a frame header");
        int frameWidth = in.u16le("a frame header");
        int frameHeight = in.u16le("a frame header");
        int flags = in.u8("a frame header");
        byte[] palette = (flags & 0x80) != 0 ? palette(flags) : global;
        int bits = in.u8("a frame header");
        if (frameWidth < 1 || frameHeight < 1 || bits < 1 || bits >= MAX_CODE_BITS) {
            throw ImageFault.damaged(
                    GIF,
                    "its first frame has " + frameWidth + " x " + frameHeight + " pixels and codes of " + bits
                            + " bits");
        }
        int width = Math.max(screenWidth, left + frameWidth);
        int height = Math.max(screenHeight, top + frameHeight);
        Limits.check(GIF, width, height, 4);
        if ((long) frameWidth * frameHeight > 8L * in.remaining() / (bits + 1) * MAX_CODES) {
            throw ImageFault.truncated(
                    GIF,
                    "after " + in.remaining() + " bytes of pixels, too few for " + frameWidth + " x " + frameHeight);
        }
        byte[] canvas = new byte[width * height];
        Arrays.fill(canvas, (byte) transparent);
        Lzw codes = new Lzw(bits);
        for (int[] pass : (flags & 0x40) != 0 ? PASSES : ONE_PASS) {
            for (int y = pass[0]; y < frameHeight; y += pass[1]) {
                codes.read(canvas, (top + y) * width + left, frameWidth);
            }
        }
        return new Rgb(width, height, colours(canvas, palette));
    }

    /** Without a palette, or with one that is a grey ramp from 0, Pillow takes indices for grey values; else black. */
    private static byte[] colours(byte[] canvas, byte[] palette) {
        boolean grey = true;
        for (int i = 0; i < palette.length; i++) {
            grey &= (palette[i] & 0xff) == i / 3;
        }
        byte[] rgb = new byte[3 * canvas.length];
        for (int i = 0; i < canvas.length; i++) {
            int index = canvas[i] & 0xff;
            for (int c = 0; c < 3; c++) {
                rgb[3 * i + c] = grey ? (byte) index : 3 * index < palette.length ? palette[3 * index + c] : 0;
            }
        }
        return rgb;
    }

    /** The frame's indices, from variable-length codes in blocks of at most 255 bytes. */
    private final class Lzw {
        private final int clear;
        private final int minimum;
        private int codeBits;
        private int next;
        private int previous = -1;
        private int first;
        private int blockLeft;
        private long bits;
        private int bitCount;

        // code -> the string of the code in prefix, then the byte in suffix
        private final short[] prefix = new short[MAX_CODES];
        private final byte[] suffix = new byte[MAX_CODES];
        private final byte[] string = new byte[MAX_CODES + 1]; // the current code's string, backwards
        private int pending;

        Lzw(int bits) {
            clear = 1 << bits;
            minimum = bits + 1;
            reset();
        }

        private void reset() {
            codeBits = minimum;
            next = clear + 2;
            previous = -1;
        }

        void read(byte[] to, int at, int count) throws ImageFault {
            int end = at + count;
            while (at < end) {
                if (pending == 0) {
                    expand(code());
                } else {
                    to[at++] = string[--pending];
                }
            }
        }

        private int code() throws ImageFault {
            while (bitCount < codeBits) {
                while (blockLeft == 0) {
                    // an empty block ends the data; real files go on after one only when damaged
                    blockLeft = in.u8("the pixels");
                    if (blockLeft == 0) {
                        throw ImageFault.truncated(GIF, "at byte " + in.position + ", before the last pixel");
                    }
                    in.need(1, "the pixels");
                }
                bits |= (long) in.u8("the pixels") << bitCount;
                bitCount += 8;
                blockLeft--;
            }
            int code = (int) bits & (1 << codeBits) - 1;
            bits >>>= codeBits;
            bitCount -= codeBits;
            return code;
        }

        private void expand(int code) throws ImageFault {
            if (code == clear) {
                reset();
                return;
            }
            if (code == clear + 1) {
                throw ImageFault.truncated(GIF, "at byte " + in.position + ", before the last pixel");
            }
            if (previous < 0) {
                if (code > clear) {
                    throw broken(code);
                }
                first = code;
                string[pending++] = (byte) code;
                previous = code;
                return;
            }
            if (code > next) {
                throw broken(code);
            }
            int at = code;
            if (code == next) {
                string[pending++] = (byte) first;
                at = previous;
            }
            while (at >= clear) {
                if (pending == string.length - 1 || at >= next) {
                    throw broken(code);
                }
                string[pending++] = suffix[at];
                at = prefix[at];
            }
            first = at;
            string[pending++] = (byte) at;
            if (next < MAX_CODES) {
                suffix[next] = (byte) at;
                prefix[next] = (short) previous;
                if (next == (1 << codeBits) - 1 && codeBits < MAX_CODE_BITS) {
                    codeBits++;
                }
                next++;
            }
            previous = code;
        }

        private ImageFault broken(int code) {
            return ImageFault.damaged(
                    GIF, "its pixels hold the code " + code + " at byte " + in.position + ", expected at most " + next);
        }
    }
}
