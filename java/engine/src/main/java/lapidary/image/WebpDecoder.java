package lapidary.image;

import java.util.Arrays;

/**
 * WebP: the container around {@link Vp8Decoder} (lossy) and {@link Vp8lDecoder} (lossless); of an animation the first
 * frame, on a black canvas. Alpha is dropped, so its chunk is not read.
 *
 * @see <a href="https://www.rfc-editor.org/rfc/rfc9649">RFC 9649</a>
 */
final class WebpDecoder {
    static final String MAGIC = "RIFF";

    private static final String WEBP = "WebP";
    private static final int ANIMATION = 0x02;

    private final Bytes in;

    private WebpDecoder(Bytes in) {
        this.in = in;
    }

    static boolean matches(byte[] bytes) {
        return Bytes.matches(bytes, 0, MAGIC) && Bytes.matches(bytes, 8, "WEBP");
    }

    static Decoded decode(byte[] bytes) throws ImageFault {
        Bytes in = new Bytes(WEBP, bytes, 4, bytes.length);
        long size = in.u32le("the header");
        if (size < 12) {
            throw ImageFault.damaged(WEBP, "its header says that it has " + size + " bytes");
        }
        in.need(size, "the file, which its header says has " + (size + 8) + " bytes");
        return new WebpDecoder(new Bytes(WEBP, bytes, 12, (int) size + 8)).read();
    }

    private Decoded read() throws ImageFault {
        if (!is(in.position, "VP8X")) {
            return new Decoded(bitstream(in), Orientation.UPRIGHT);
        }
        Bytes header = chunk(in);
        int flags = header.u8("the extended header");
        header.skip(3, "the extended header");
        int width = header.u24le("the extended header") + 1;
        int height = header.u24le("the extended header") + 1;
        Limits.check(WEBP, width, height, 3);
        Rgb image = null;
        byte[] exif = {};
        byte[] xmp = {};
        while (in.remaining() >= 8) {
            int name = in.position;
            if (image == null && (is(name, "VP8 ") || is(name, "VP8L")) && (flags & ANIMATION) == 0) {
                image = bitstream(in);
                if (image.width() != width || image.height() != height) {
                    throw mismatch(image, width, height);
                }
                continue;
            }
            Bytes chunk = chunk(in);
            if (image == null && is(name, "ANMF") && (flags & ANIMATION) != 0) {
                image = firstFrame(chunk, width, height);
            } else if (is(name, "EXIF")) {
                exif = Arrays.copyOfRange(chunk.data, chunk.position, chunk.end);
            } else if (is(name, "XMP ")) {
                xmp = Arrays.copyOfRange(chunk.data, chunk.position, chunk.end);
            }
        }
        if (image == null) {
            throw ImageFault.damaged(WEBP, "it has no picture");
        }
        return new Decoded(image, Orientation.of(exif, xmp));
    }

    private static ImageFault mismatch(Rgb image, int width, int height) {
        return ImageFault.damaged(
                WEBP,
                "its picture has " + image.width() + " x " + image.height() + " pixels, its header says " + width
                        + " x " + height);
    }

    private boolean is(int at, String name) {
        return at + name.length() <= in.end && Bytes.matches(in.data, at, name);
    }

    /** The contents of the chunk that {@code from} is at, and past it. */
    private static Bytes chunk(Bytes from) throws ImageFault {
        from.skip(4, "a chunk header");
        long size = from.u32le("a chunk header");
        from.need(size, "a chunk of " + size + " bytes");
        Bytes chunk = new Bytes(WEBP, from.data, from.position, from.position + (int) size);
        from.position = Math.min(from.end, chunk.end + (int) (size & 1));
        return chunk;
    }

    /** Decodes the first picture chunk from {@code from} on, over an alpha chunk. */
    private Rgb bitstream(Bytes from) throws ImageFault {
        while (true) {
            from.need(8, "a chunk header");
            int name = from.position;
            Bytes chunk = chunk(from);
            if (is(name, "VP8 ")) {
                return Vp8Decoder.decode(chunk);
            } else if (is(name, "VP8L")) {
                return Vp8lDecoder.decode(chunk);
            }
        }
    }

    private Rgb firstFrame(Bytes chunk, int width, int height) throws ImageFault {
        int left = 2 * chunk.u24le("a frame header");
        int top = 2 * chunk.u24le("a frame header");
        int frameWidth = chunk.u24le("a frame header") + 1;
        int frameHeight = chunk.u24le("a frame header") + 1;
        chunk.skip(4, "a frame header"); // duration, and how to blend, which does not matter on an empty canvas
        if (left + frameWidth > width || top + frameHeight > height) {
            throw ImageFault.damaged(WEBP, "its first frame reaches beyond the canvas");
        }
        Rgb frame = bitstream(chunk);
        if (frame.width() != frameWidth || frame.height() != frameHeight) {
            throw mismatch(frame, frameWidth, frameHeight);
        }
        if (frameWidth == width && frameHeight == height) {
            return frame;
        }
        byte[] canvas = new byte[3 * width * height];
        for (int y = 0; y < frameHeight; y++) {
            System.arraycopy(
                    frame.pixels(), 3 * frameWidth * y, canvas, 3 * ((top + y) * width + left), 3 * frameWidth);
        }
        return new Rgb(width, height, canvas);
    }
}
