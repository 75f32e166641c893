package lapidary.image;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.zip.CRC32;
import java.util.zip.Deflater;

/**
 * RGB to PNG, for showing pictures to people.
 *
 * @see <a href="https://www.w3.org/TR/png-3/">PNG</a>
 */
public final class PngWriter {
    private static final int SUB = 1; // filter: each byte less the one of the pixel before
    private static final int LEVEL = 6; // zlib's usual

    private PngWriter() {}

    /** The bytes of a PNG file of 8-bit RGB. */
    public static byte[] encode(Rgb image) {
        int row = 3 * image.width();
        byte[] filtered = new byte[Math.multiplyExact(row + 1, image.height())];
        byte[] pixels = image.pixels();
        for (int y = 0; y < image.height(); y++) {
            int to = y * (row + 1);
            int from = y * row;
            filtered[to] = SUB;
            for (int i = 0; i < row; i++) {
                filtered[to + 1 + i] = (byte) (pixels[from + i] - (i < 3 ? 0 : pixels[from + i - 3]));
            }
        }
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.writeBytes(PngDecoder.MAGIC.getBytes(StandardCharsets.ISO_8859_1));
        ByteBuffer header = ByteBuffer.allocate(13).putInt(image.width()).putInt(image.height());
        chunk(out, "IHDR", header.put(new byte[] {8, 2, 0, 0, 0}).array());
        chunk(out, "IDAT", deflate(filtered));
        chunk(out, "IEND", new byte[0]);
        return out.toByteArray();
    }

    private static byte[] deflate(byte[] bytes) {
        Deflater deflater = new Deflater(LEVEL);
        try {
            deflater.setInput(bytes);
            deflater.finish();
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            byte[] buffer = new byte[1 << 16];
            while (!deflater.finished()) {
                out.write(buffer, 0, deflater.deflate(buffer));
            }
            return out.toByteArray();
        } finally {
            deflater.end();
        }
    }

    private static void chunk(ByteArrayOutputStream out, String type, byte[] data) {
        byte[] name = type.getBytes(StandardCharsets.US_ASCII);
        CRC32 crc = new CRC32();
        crc.update(name);
        crc.update(data);
        out.writeBytes(ByteBuffer.allocate(4).putInt(data.length).array());
        out.writeBytes(name);
        out.writeBytes(data);
        out.writeBytes(ByteBuffer.allocate(4).putInt((int) crc.getValue()).array());
    }
}
