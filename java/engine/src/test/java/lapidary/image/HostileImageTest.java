package lapidary.image;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Random;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import lapidary.format.FormatException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Files that are cut, flipped, or made to cost their reader dear. */
class HostileImageTest {
    private static final String[] VICTIMS = {
        "jpeg-420-33x31.jpg",
        "jpeg-420-33x31-progressive.jpg",
        "jpeg-cmyk.jpg",
        "jpeg-cmyk-progressive.jpg",
        "jpeg-restart-3.jpg",
        "jpeg-restart-progressive.jpg",
        "exif-6.jpg",
        "png-2-8-13x11.png",
        "png-3-4-interlaced-13x11.png",
        "png-0-16-interlaced-13x11.png",
        "png-exif-ztext.png",
        "png-xmp-3.png",
        "gif-photo.gif",
        "gif-interlaced.gif",
        "gif-partial-transparent.gif",
        "bmp-565.bmp",
        "bmp-32-v4.bmp",
        "bmp-rle8.bmp",
        "bmp-rle4.bmp",
        "bmp-os2-8.bmp",
        "webp-lossless-33x31.webp",
        "webp-lossless-13-colours-100x75.webp",
        "webp-lossless-best.webp",
        "webp-lossy-75-33x31.webp",
        "webp-lossy-alpha-33x31.webp",
        "webp-animated-partial.webp",
        "webp-exif-5.webp",
    };

    static String[] victims() {
        return VICTIMS;
    }

    /** Only what follows the last pixel may be missing. */
    @ParameterizedTest
    @MethodSource("victims")
    void aCutFileIsRefusedOrWhole(String name) {
        byte[] file = Golden.file(name);
        byte[] whole = ImageDecoder.decode(file, name, false).pixels();
        for (int length = 0; length < file.length; length += Math.max(1, file.length / 500)) {
            Rgb image = decodeOrRefuse(Arrays.copyOf(file, length), length);
            if (image.pixels().length > 3) {
                assertArrayEquals(whole, image.pixels(), length + " bytes gave other pixels");
                assertTrue(length > file.length / 2, "half a file gave a whole picture");
            }
        }
    }

    @ParameterizedTest
    @MethodSource("victims")
    void aFlippedFileIsRefusedOrDecoded(String name) {
        byte[] file = Golden.file(name);
        Random random = new Random(name.hashCode());
        for (int i = 0; i < 400; i++) {
            byte[] flipped = file.clone();
            for (int n = random.nextInt(4); n >= 0; n--) {
                int at = random.nextInt(random.nextBoolean() ? Math.min(80, file.length) : file.length);
                flipped[at] =
                        (byte) (random.nextBoolean() ? random.nextInt(256) : flipped[at] ^ 1 << random.nextInt(8));
            }
            decodeOrRefuse(flipped, i);
        }
    }

    /** A pixel where the file was refused. */
    private static Rgb decodeOrRefuse(byte[] file, int number) {
        try {
            return ImageDecoder.decode(file, "victim.png", false);
        } catch (FormatException e) {
            assertInstanceOf(ImageFault.class, e.getCause(), "case " + number);
            assertTrue(e.getMessage().startsWith("victim.png: "), e.getMessage());
            assertTrue(e.getMessage().contains("; "), e.getMessage());
            assertEquals(1, e.getMessage().lines().count());
            return new Rgb(1, 1, new byte[3]);
        }
    }

    @ParameterizedTest
    @CsvSource({"65535,65535", "65536,1", "1,65536", "13378,13378", "2147483647,2147483647", "-1,-1", "0,5", "5,0"})
    void dimensionsAreCheckedBeforeAnythingIsAllocated(int width, int height) {
        byte[] ihdr = ByteBuffer.allocate(13)
                .putInt(width)
                .putInt(height)
                .put(new byte[] {8, 2, 0, 0, 0})
                .array();
        refused(png(chunk("IHDR", ihdr), chunk("IDAT", deflate(new byte[99])), chunk("IEND", new byte[0])), " pixels");
        byte[] bmp = Golden.file("bmp-32.bmp");
        ByteBuffer.wrap(bmp).putInt(18, Integer.reverseBytes(width)).putInt(22, Integer.reverseBytes(height));
        if (height != -1 || width < 0) {
            refused(bmp, " pixels");
        }
    }

    @Test
    void aShortFileCannotAskForALargePicture() {
        byte[] ihdr = ByteBuffer.allocate(13)
                .putInt(13000)
                .putInt(13000)
                .put(new byte[] {8, 2, 0, 0, 0})
                .array();
        refused(
                png(chunk("IHDR", ihdr), chunk("IDAT", deflate(new byte[99])), chunk("IEND", new byte[0])),
                "truncated");

        byte[] gif = Golden.file("gif-no-palette.gif");
        for (int at : new int[] {6, 8}) {
            gif[at] = (byte) 0xff;
            gif[at + 1] = (byte) 0xff;
        }
        refused(gif, "65535 x 65535");
        byte[] frame = Golden.file("gif-no-palette.gif");
        int header = new String(frame, StandardCharsets.ISO_8859_1).indexOf(',') + 5;
        frame[header + 1] = 0x30;
        frame[header + 3] = 0x30;
        refused(frame, "truncated");

        for (String name : new String[] {"jpeg-420-33x31.jpg", "jpeg-420-33x31-progressive.jpg"}) {
            byte[] jpeg = Golden.file(name);
            int sof = sof(jpeg);
            ByteBuffer.wrap(jpeg).putShort(sof + 5, (short) 13000).putShort(sof + 7, (short) 13000);
            refused(jpeg, "truncated");
            ByteBuffer.wrap(jpeg).putShort(sof + 5, (short) 65535).putShort(sof + 7, (short) 65535);
            refused(jpeg, "65535 x 65535");
            ByteBuffer.wrap(jpeg).putShort(sof + 5, (short) 0);
            refused(jpeg, " x 0 pixels");
        }

        byte[] lossy = Golden.file("webp-lossy-75-33x31.webp");
        int size = new String(lossy, StandardCharsets.ISO_8859_1).indexOf("\u009d\u0001\u002a") + 3;
        ByteBuffer.wrap(lossy).putShort(size, (short) 0xff3f).putShort(size + 2, (short) 0xff29);
        refused(lossy, "truncated");
        ByteBuffer.wrap(lossy).putShort(size, (short) 0xff3f).putShort(size + 2, (short) 0xff3f);
        refused(lossy, "16383 x 16383");
        byte[] canvas = Golden.file("webp-animated-partial.webp");
        Arrays.fill(canvas, 24, 30, (byte) 0xff);
        refused(canvas, "16777216 x 16777216");
    }

    private static int sof(byte[] jpeg) {
        String text = new String(jpeg, StandardCharsets.ISO_8859_1);
        return Math.max(text.indexOf("\u00ff\u00c0"), text.indexOf("\u00ff\u00c2"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"zTXt", "iTXt", "iCCP"})
    void packedTextsAreNotUnpacked(String type) {
        byte[] bomb = deflate(new byte[200 << 20]);
        String[] keys = {"zTXt", "Raw profile type exif\0\0", "iTXt", "XML:com.adobe.xmp\0\1\0\0\0", "iCCP", "icc\0\0"};
        byte[] key = keys[Arrays.asList(keys).indexOf(type) + 1].getBytes(StandardCharsets.ISO_8859_1);
        byte[] body = Arrays.copyOf(key, key.length + bomb.length);
        System.arraycopy(bomb, 0, body, key.length, bomb.length);
        byte[] ihdr = ByteBuffer.allocate(13)
                .putInt(2)
                .putInt(1)
                .put(new byte[] {8, 0, 0, 0, 0})
                .array();
        byte[] file = png(
                chunk("IHDR", ihdr),
                chunk(type, body),
                chunk("IDAT", deflate(new byte[] {0, 7, 9})),
                chunk("IEND", new byte[0]));
        long before = allocated();
        byte[] pixels = ImageDecoder.decode(file, "a", true).pixels();
        long cost = allocated() - before;
        assertArrayEquals(new byte[] {7, 7, 7, 9, 9, 9}, pixels);
        assertTrue(cost < 4 << 20, cost + " bytes allocated");
    }

    @Test
    void anImageOfOnePixelsWidthIsFine() {
        for (int[] size : new int[][] {{1, 65535}, {65535, 1}}) {
            byte[] rows = new byte[(size[0] + 1) * size[1]];
            byte[] ihdr = ByteBuffer.allocate(13)
                    .putInt(size[0])
                    .putInt(size[1])
                    .put(new byte[] {8, 0, 0, 0, 0})
                    .array();
            Rgb image = ImageDecoder.decode(
                    png(chunk("IHDR", ihdr), chunk("IDAT", deflate(rows)), chunk("IEND", new byte[0])), "a", true);
            assertEquals(size[0], image.width());
            assertEquals(size[1], image.height());
            assertEquals(
                    3 * 896 * 896,
                    ImagePreprocessor.gemma3(896).pixelValues(image).length());
        }
    }

    @ParameterizedTest
    @CsvSource({
        "195, lossless JPEG (marker ffc3)",
        "201, arithmetic-coded JPEG (marker ffc9)",
        "202, arithmetic-coded JPEG (marker ffca)",
        "197, hierarchical JPEG (marker ffc5)"
    })
    void otherKindsOfJpegAreNamed(int marker, String expected) {
        byte[] jpeg = Golden.file("jpeg-420-33x31.jpg");
        jpeg[sof(jpeg) + 1] = (byte) marker;
        refused(jpeg, expected);
    }

    @Test
    void otherJpegsAreNamed() {
        byte[] deep = Golden.file("jpeg-420-33x31.jpg");
        deep[sof(deep) + 4] = 12;
        refused(deep, "12 bits a sample");
        byte[] odd = Golden.file("jpeg-420-33x31.jpg");
        odd[sof(odd) + 11] = 0x31;
        odd[sof(odd) + 14] = 0x21;
        refused(odd, "sampling factors 2 x 1 beside 3 x 1");
        byte[] noTable = Golden.file("jpeg-420-33x31.jpg");
        noTable[sof(noTable) + 12] = 3;
        refused(noTable, "quantiser table 3 is missing");
    }

    /** The half picture that others fill with grey. */
    @Test
    void aJpegWithPixelsMissingBeforeItsEndMarkerIsRefused() {
        for (String name :
                new String[] {"jpeg-420-33x31.jpg", "jpeg-420-33x31-progressive.jpg", "jpeg-restart-3.jpg"}) {
            byte[] whole = Golden.file(name);
            byte[] half = Arrays.copyOf(whole, whole.length * 4 / 5);
            half[half.length - 2] = (byte) 0xff;
            half[half.length - 1] = (byte) 0xd9;
            assertThrows(FormatException.class, () -> ImageDecoder.decode(half, "a", true), name);
        }
    }

    @Test
    void aWrongChecksumIsRefused() {
        byte[] file = Golden.file("png-2-8-13x11.png");
        int data = new String(file, StandardCharsets.ISO_8859_1).indexOf("IDAT");
        file[data + 9] ^= 1;
        refused(file, "the checksum of chunk IDAT");
    }

    @Test
    void endlessProgressIsRefused() {
        byte[] file = Golden.file("jpeg-420-33x31-progressive.jpg");
        String text = new String(file, StandardCharsets.ISO_8859_1);
        int scan = text.indexOf("\u00ff\u00da");
        int next = text.indexOf("\u00ff\u00c4", scan);
        ByteArrayOutputStream twice = new ByteArrayOutputStream();
        twice.write(file, 0, next);
        twice.write(file, scan, file.length - scan);
        refused(twice.toByteArray(), "does not follow from the scans before");
    }

    private static void refused(byte[] file, String expected) {
        long before = allocated();
        FormatException e = assertThrows(FormatException.class, () -> ImageDecoder.decode(file, "a", true));
        long cost = allocated() - before;
        assertTrue(e.getMessage().contains(expected), e.getMessage());
        assertTrue(cost < 2 << 20, cost + " bytes allocated for: " + e.getMessage());
    }

    private static long allocated() {
        return ((com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean()).getCurrentThreadAllocatedBytes();
    }

    private static byte[] png(byte[]... chunks) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.writeBytes(PngDecoder.MAGIC.getBytes(StandardCharsets.ISO_8859_1));
        for (byte[] chunk : chunks) {
            out.writeBytes(chunk);
        }
        return out.toByteArray();
    }

    private static byte[] chunk(String type, byte[] body) {
        byte[] name = type.getBytes(StandardCharsets.US_ASCII);
        CRC32 sum = new CRC32();
        sum.update(name);
        sum.update(body);
        return ByteBuffer.allocate(body.length + 12)
                .putInt(body.length)
                .put(name)
                .put(body)
                .putInt((int) sum.getValue())
                .array();
    }

    private static byte[] deflate(byte[] bytes) {
        Deflater deflater = new Deflater(1);
        deflater.setInput(bytes);
        deflater.finish();
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        byte[] buffer = new byte[1 << 16];
        while (!deflater.finished()) {
            out.write(buffer, 0, deflater.deflate(buffer));
        }
        deflater.end();
        return out.toByteArray();
    }
}
