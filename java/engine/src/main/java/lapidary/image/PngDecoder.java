package lapidary.image;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * PNG, all colour types and depths, interlaced or not; of an APNG the default image.
 *
 * <p>Checksums of critical chunks are verified. Of ancillary chunks only those that may hold an orientation are read, and
 * at most {@link #MAX_TEXT} bytes of them inflated: a profile or text that unpacks to gigabytes costs nothing.
 *
 * @see <a href="https://www.w3.org/TR/png-3/">PNG specification</a>
 */
final class PngDecoder {
    static final String MAGIC = "\u0089PNG\r\n\u001a\n";

    private static final String PNG = "PNG";

    /** Pillow's limit for compressed text, bytes. */
    private static final int MAX_TEXT = 1 << 20;

    /** Deflate cannot do better than 258 bytes in 2 bits. */
    private static final int MAX_RATIO = 1032;

    private static final int GREY = 0;
    private static final int COLOUR = 2;
    private static final int PALETTE = 3;
    private static final int GREY_ALPHA = 4;
    private static final int COLOUR_ALPHA = 6;

    /** Adam7: first column, first row, column step, row step of each pass. */
    private static final int[][] PASSES = {
        {0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}
    };

    private static final int[][] ONE_PASS = {{0, 0, 1, 1}};

    private record Chunk(int from, int length) {}

    private final Bytes in;
    private int width;
    private int height;
    private int depth;
    private int type;
    private boolean interlaced;
    private byte[] palette = {};
    private final List<Chunk> data = new ArrayList<>();
    private byte[] exif = {};
    private byte[] rawProfile = {};
    private byte[] xmp = {};

    private PngDecoder(byte[] bytes) {
        this.in = new Bytes(PNG, bytes, MAGIC.length(), bytes.length);
    }

    static Decoded decode(byte[] bytes) throws ImageFault {
        PngDecoder decoder = new PngDecoder(bytes);
        decoder.readChunks();
        Rgb image = decoder.pixels();
        byte[] exif = decoder.exif.length > 0 ? decoder.exif : decoder.rawProfile;
        return new Decoded(image, Orientation.of(exif, decoder.xmp));
    }

    private void readChunks() throws ImageFault {
        boolean first = true;
        boolean dataEnded = false;
        while (true) {
            if (!data.isEmpty() && in.remaining() < 12) {
                return; // what follows the pixels may be missing
            }
            long length = in.u32be("a chunk header");
            int name = in.position;
            in.skip(4, "a chunk header");
            if (dataEnded && length + 4 > in.remaining()) {
                return;
            }
            in.need(length + 4, "chunk " + name(name) + " of " + length + " bytes");
            Chunk chunk = new Chunk(in.position, (int) length);
            in.position += chunk.length + 4;
            if (first && !is(name, "IHDR")) {
                throw ImageFault.damaged(PNG, "its first chunk is " + name(name) + ", expected IHDR");
            }
            first = false;
            boolean critical = (in.data[name] & 0x20) == 0;
            if (critical) {
                checkSum(name, chunk);
            }
            if (is(name, "IEND")) {
                break;
            } else if (is(name, "IDAT")) {
                if (!dataEnded) {
                    data.add(chunk);
                }
                continue;
            } else if (is(name, "IHDR")) {
                header(chunk);
            } else if (is(name, "PLTE")) {
                palette = Arrays.copyOfRange(in.data, chunk.from, chunk.from + chunk.length);
            } else if (critical) {
                throw ImageFault.damaged(PNG, "it has an unknown critical chunk " + name(name));
            } else {
                metadata(name, chunk);
            }
            dataEnded = !data.isEmpty();
        }
        if (data.isEmpty()) {
            throw ImageFault.damaged(PNG, "it has no pixel data (no IDAT chunk)");
        }
    }

    private boolean is(int at, String name) {
        return Bytes.matches(in.data, at, name);
    }

    private String name(int at) {
        StringBuilder name = new StringBuilder();
        for (int i = 0; i < 4; i++) {
            int c = in.data[at + i] & 0xff;
            name.append(c >= 'A' && c <= 'z' ? (char) c : '?');
        }
        return name.toString();
    }

    private void checkSum(int name, Chunk chunk) throws ImageFault {
        CRC32 sum = new CRC32();
        sum.update(in.data, name, 4 + chunk.length);
        long stored = new Bytes(PNG, in.data, chunk.from + chunk.length, in.end).u32be("a checksum");
        if (sum.getValue() != stored) {
            throw ImageFault.damaged(
                    PNG, "the checksum of chunk " + name(name) + " at byte " + (name - 4) + " is wrong");
        }
    }

    private void header(Chunk chunk) throws ImageFault {
        if (chunk.length != 13 || width != 0) {
            throw ImageFault.damaged(
                    PNG, width != 0 ? "it has two headers" : "its header has " + chunk.length + " bytes");
        }
        Bytes header = new Bytes(PNG, in.data, chunk.from, chunk.from + chunk.length);
        long w = header.u32be("header");
        long h = header.u32be("header");
        depth = header.u8("header");
        type = header.u8("header");
        int compression = header.u8("header");
        int filter = header.u8("header");
        int interlace = header.u8("header");
        boolean known = type == GREY && (depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16)
                || type == PALETTE && (depth == 1 || depth == 2 || depth == 4 || depth == 8)
                || (type == COLOUR || type == GREY_ALPHA || type == COLOUR_ALPHA) && (depth == 8 || depth == 16);
        if (!known || compression != 0 || filter != 0 || interlace > 1) {
            throw ImageFault.damaged(
                    PNG,
                    "its header says colour type " + type + ", " + depth + " bits, compression " + compression
                            + ", filter " + filter + ", interlace " + interlace);
        }
        Limits.check(PNG, w, h, 3);
        width = (int) w;
        height = (int) h;
        interlaced = interlace == 1;
    }

    private void metadata(int name, Chunk chunk) throws ImageFault {
        if (is(name, "eXIf")) {
            exif = Arrays.copyOfRange(in.data, chunk.from, chunk.from + chunk.length);
        } else if (is(name, "tEXt") || is(name, "zTXt")) {
            String key = "Raw profile type exif\0";
            if (chunk.length > key.length() + 1 && is(chunk.from, key)) {
                int from = chunk.from + key.length();
                int end = chunk.from + chunk.length;
                rawProfile =
                        hexProfile(is(name, "zTXt") ? inflate(from + 1, end) : Arrays.copyOfRange(in.data, from, end));
            }
        } else if (is(name, "iTXt")) {
            String key = "XML:com.adobe.xmp\0";
            if (chunk.length > key.length() + 2 && is(chunk.from, key)) {
                int flags = chunk.from + key.length();
                int end = chunk.from + chunk.length;
                int text = afterZero(afterZero(flags + 2, end), end); // language, translated keyword
                xmp = in.data[flags] != 0 ? inflate(text, end) : Arrays.copyOfRange(in.data, text, end);
            }
        }
    }

    private int afterZero(int from, int end) {
        int at = from;
        while (at < end && in.data[at] != 0) {
            at++;
        }
        return Math.min(at + 1, end);
    }

    /** Inflates a text; nothing if it is damaged or longer than {@link #MAX_TEXT}. */
    private byte[] inflate(int from, int end) {
        Inflater inflater = new Inflater();
        try {
            inflater.setInput(in.data, from, Math.max(0, end - from));
            byte[] text = new byte[MAX_TEXT];
            int length = 0;
            while (!inflater.finished() && length < text.length) {
                int count = inflater.inflate(text, length, text.length - length);
                if (count == 0) {
                    return new byte[0];
                }
                length += count;
            }
            return inflater.finished() ? Arrays.copyOf(text, length) : new byte[0];
        } catch (DataFormatException e) {
            return new byte[0]; // a text says nothing about the pixels
        } finally {
            inflater.end();
        }
    }

    /** ImageMagick's form of an Exif block: an empty line, its name, its length, then hexadecimal lines. */
    private static byte[] hexProfile(byte[] text) {
        int at = 0;
        for (int lines = 0; at < text.length && lines < 3; at++) {
            lines += text[at] == '\n' ? 1 : 0;
        }
        byte[] bytes = new byte[(text.length - at) / 2];
        int digits = 0;
        for (; at < text.length; at++) {
            int digit = Character.digit(text[at], 16);
            if (digit >= 0) {
                bytes[digits / 2] |= (byte) (digits % 2 == 0 ? digit << 4 : digit);
                digits++;
            }
        }
        return Arrays.copyOf(bytes, digits / 2);
    }

    private int bitsPerPixel() {
        switch (type) {
            case COLOUR:
                return 3 * depth;
            case GREY_ALPHA:
                return 2 * depth;
            case COLOUR_ALPHA:
                return 4 * depth;
            default:
                return depth;
        }
    }

    private Rgb pixels() throws ImageFault {
        if (type == PALETTE && (palette.length == 0 || palette.length % 3 != 0 || palette.length > 768)) {
            throw ImageFault.damaged(
                    PNG, "its palette has " + palette.length + " bytes, expected 3 to 768, a multiple of 3");
        }
        long packed = 0;
        for (Chunk chunk : data) {
            packed += chunk.length;
        }
        int rowBytes = (int) (((long) width * bitsPerPixel() + 7) / 8);
        if ((long) rowBytes * height > packed * MAX_RATIO) {
            throw ImageFault.truncated(
                    PNG, "after " + packed + " bytes of pixels, too few for " + width + " x " + height);
        }
        byte[] rgb = new byte[3 * width * height];
        Inflater inflater = new Inflater();
        try {
            Rows rows = new Rows(inflater, rowBytes);
            for (int[] pass : interlaced ? PASSES : ONE_PASS) {
                int columns = Math.ceilDiv(width - pass[0], pass[2]);
                if (columns > 0) {
                    rows.begin((int) (((long) columns * bitsPerPixel() + 7) / 8), Math.max(1, bitsPerPixel() / 8));
                    for (int y = pass[1]; y < height; y += pass[3]) {
                        unpack(rows.next(y), columns, rgb, 3 * (y * width + pass[0]), 3 * pass[2]);
                    }
                }
            }
        } finally {
            inflater.end();
        }
        return new Rgb(width, height, rgb);
    }

    /** Writes {@code count} pixels of a row, which starts at byte 1, to every {@code step}-th byte from {@code to}. */
    private void unpack(byte[] row, int count, byte[] rgb, int to, int step) {
        int sample = depth / 8;
        switch (type) {
            case COLOUR:
            case COLOUR_ALPHA: // the first byte of a 16-bit sample is its high one
                for (int x = 0, at = 1; x < count; x++, at += bitsPerPixel() / 8, to += step) {
                    rgb[to] = row[at];
                    rgb[to + 1] = row[at + sample];
                    rgb[to + 2] = row[at + 2 * sample];
                }
                break;
            case GREY_ALPHA:
                for (int x = 0, at = 1; x < count; x++, at += 2 * sample, to += step) {
                    grey(rgb, to, row[at]);
                }
                break;
            case PALETTE:
                for (int x = 0; x < count; x++, to += step) {
                    int index = packed(row, x);
                    if (3 * index < palette.length) {
                        rgb[to] = palette[3 * index];
                        rgb[to + 1] = palette[3 * index + 1];
                        rgb[to + 2] = palette[3 * index + 2];
                    }
                }
                break;
            default:
                for (int x = 0; x < count; x++, to += step) {
                    if (depth == 16) { // clipped, not scaled: what Pillow does with its mode I;16
                        grey(rgb, to, row[1 + 2 * x] != 0 ? (byte) 255 : row[2 + 2 * x]);
                    } else {
                        grey(rgb, to, (byte) (packed(row, x) * (255 / ((1 << depth) - 1))));
                    }
                }
        }
    }

    private int packed(byte[] row, int x) {
        int bit = x * depth;
        return (row[1 + bit / 8] & 0xff) >> (8 - depth - bit % 8) & (1 << depth) - 1;
    }

    private static void grey(byte[] rgb, int at, byte value) {
        rgb[at] = value;
        rgb[at + 1] = value;
        rgb[at + 2] = value;
    }

    /** The unfiltered rows of the passes, one after the other. */
    private final class Rows {
        private final Inflater inflater;
        private int chunk;
        private byte[] row;
        private byte[] above;
        private int length;
        private int bytesPerPixel;

        Rows(Inflater inflater, int longest) {
            this.inflater = inflater;
            this.row = new byte[longest + 1];
            this.above = new byte[longest + 1];
        }

        void begin(int rowBytes, int pixelBytes) {
            length = rowBytes;
            bytesPerPixel = pixelBytes;
            Arrays.fill(row, (byte) 0);
        }

        byte[] next(int y) throws ImageFault {
            byte[] swap = above;
            above = row;
            row = swap;
            fill(y);
            unfilter(y);
            return row;
        }

        private void fill(int y) throws ImageFault {
            int got = 0;
            while (got <= length) {
                try {
                    got += inflater.inflate(row, got, length + 1 - got);
                } catch (DataFormatException e) {
                    throw ImageFault.damaged(PNG, "its compressed pixels are broken at row " + y);
                }
                if (got <= length) {
                    if (inflater.finished()
                            || inflater.needsDictionary()
                            || inflater.needsInput() && chunk == data.size()) {
                        throw ImageFault.truncated(PNG, "in row " + y + " of " + height);
                    }
                    if (inflater.needsInput()) {
                        Chunk next = data.get(chunk++);
                        inflater.setInput(in.data, next.from, next.length);
                    }
                }
            }
        }

        private void unfilter(int y) throws ImageFault {
            int bpp = bytesPerPixel;
            switch (row[0]) {
                case 0:
                    break;
                case 1:
                    for (int i = bpp + 1; i <= length; i++) {
                        row[i] += row[i - bpp];
                    }
                    break;
                case 2:
                    for (int i = 1; i <= length; i++) {
                        row[i] += above[i];
                    }
                    break;
                case 3:
                    for (int i = 1; i <= length; i++) {
                        int left = i > bpp ? row[i - bpp] & 0xff : 0;
                        row[i] += (byte) ((left + (above[i] & 0xff)) >> 1);
                    }
                    break;
                case 4:
                    for (int i = 1; i <= Math.min(bpp, length); i++) {
                        row[i] += above[i];
                    }
                    for (int i = bpp + 1; i <= length; i++) {
                        row[i] += (byte) paeth(row[i - bpp] & 0xff, above[i] & 0xff, above[i - bpp] & 0xff);
                    }
                    break;
                default:
                    throw ImageFault.damaged(PNG, "row " + y + " has filter " + (row[0] & 0xff) + ", expected 0 to 4");
            }
        }

        private static int paeth(int left, int up, int upLeft) {
            int toLeft = Math.abs(up - upLeft);
            int toUp = Math.abs(left - upLeft);
            int toUpLeft = Math.abs(left + up - 2 * upLeft);
            return toLeft <= toUp && toLeft <= toUpLeft ? left : toUp <= toUpLeft ? up : upLeft;
        }
    }
}
