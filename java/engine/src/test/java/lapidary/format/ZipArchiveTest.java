package lapidary.format;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ZipArchiveTest {
    private static final byte[] WORDS = "words and more words ".repeat(5000).getBytes(StandardCharsets.UTF_8);

    @TempDir
    Path dir;

    private static byte[] zip(int method, String... names) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ZipOutputStream out = new ZipOutputStream(bytes)) {
            out.setComment("a comment");
            for (String name : names) {
                ZipEntry entry = new ZipEntry(name);
                entry.setMethod(method);
                byte[] content = name.endsWith("/") ? new byte[0] : name.equals("empty") ? new byte[0] : WORDS;
                if (method == ZipEntry.STORED) {
                    CRC32 crc = new CRC32();
                    crc.update(content);
                    entry.setCrc(crc.getValue());
                    entry.setSize(content.length);
                }
                out.putNextEntry(entry);
                out.write(content);
            }
        }
        return bytes.toByteArray();
    }

    private ZipArchive open(byte[] bytes) throws IOException {
        return ZipArchive.open(Files.write(dir.resolve("a.zip"), bytes));
    }

    @ParameterizedTest
    @ValueSource(ints = {ZipEntry.STORED, ZipEntry.DEFLATED})
    void readsEntriesInPlace(int method) throws IOException {
        try (ZipArchive zip = open(zip(method, "folder/", "folder/é.png", "empty", "b.png"))) {
            assertEquals(3, zip.size());
            assertArrayEquals(WORDS, zip.read("folder/é.png"));
            assertArrayEquals(WORDS, zip.read("b.png"));
            assertArrayEquals(new byte[0], zip.read("empty"));
            assertEquals(WORDS.length, zip.length("b.png"));
            assertFalse(zip.has("folder/"));
            assertEquals("b.png", zip.nearest("B.PNG").orElseThrow());
            refused(zip, "c.png", "entry \"c.png\" of " + dir.resolve("a.zip") + " is not in the archive");
        }
    }

    /** What a program that streams writes: lengths behind the content, so that the local header has none. */
    @Test
    void lengthsAreThoseOfTheList() throws IOException {
        byte[] bytes = zip(ZipEntry.DEFLATED, "a");
        assertEquals(0, ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getInt(18));
        try (ZipArchive zip = open(bytes)) {
            assertArrayEquals(WORDS, zip.read("a"));
        }
    }

    @Test
    void wideFieldsAreRead() throws IOException {
        byte[] content = {1, 2, 3};
        List<Long> wide = List.of(3L, 3L, 0L);
        ByteBuffer extra = ByteBuffer.allocate(28).order(ByteOrder.LITTLE_ENDIAN);
        extra.putShort((short) 1).putShort((short) 24);
        wide.forEach(extra::putLong);
        Raw raw = new Raw();
        raw.local("x", content);
        raw.entry("x", 0, 0, -1, -1, crc(content), -1, extra.array(), 0);
        raw.end64(1);
        try (ZipArchive zip = open(raw.bytes())) {
            assertArrayEquals(content, zip.read("x"));
        }
    }

    @Test
    void namesThatClimbAreThereButEqualNoPath() throws IOException {
        byte[] content = {1};
        Raw raw = new Raw();
        raw.plain("../evil.png", content);
        raw.plain("/etc/passwd", content);
        raw.plain("C:\\x.png", content);
        try (ZipArchive zip = open(raw.bytes())) {
            assertFalse(zip.has("evil.png"));
            assertFalse(zip.has("etc/passwd"));
            assertArrayEquals(content, zip.read("../evil.png")); // read, never written anywhere
        }
        assertEquals(List.of("a.zip"), Arrays.asList(dir.toFile().list()));
    }

    @Test
    void linksTwinsAndOtherKindsAreRefusedByName() throws IOException {
        byte[] content = {1, 2};
        Raw raw = new Raw();
        raw.local("link", content);
        raw.entry("link", 0, 0, 2, 2, crc(content), 0, new byte[0], 0xA1FF << 16);
        raw.plain("twin", content);
        raw.plain("twin", content);
        raw.plain("case", content);
        raw.plain("CASE", new byte[] {9});
        raw.entry("secret", 1, 0, 2, 2, crc(content), 0, new byte[0], 0);
        raw.entry("lzma", 0, 14, 2, 2, crc(content), 0, new byte[0], 0);
        raw.entry("beyond", 0, 0, 1 << 20, 1 << 20, crc(content), 0, new byte[0], 0);
        raw.entry("nowhere", 0, 0, 2, 2, crc(content), 1 << 30, new byte[0], 0);
        raw.entry("astray", 0, 0, 2, 2, crc(content), 3, new byte[0], 0);
        raw.entry("spoilt", 0, 0, 2, 2, crc(content) + 1, 0, new byte[0], 0);
        try (ZipArchive zip = open(raw.bytes())) {
            refused(zip, "link", "symbolic link");
            refused(zip, "twin", "is there twice");
            assertArrayEquals(content, zip.read("case"));
            assertArrayEquals(new byte[] {9}, zip.read("CASE"));
            refused(zip, "secret", "encrypted");
            refused(zip, "lzma", "packed by method 14");
            refused(zip, "beyond", "lengths that cannot be");
            refused(zip, "nowhere", "lengths that cannot be");
            refused(zip, "astray", "has no header at byte 3");
            refused(zip, "spoilt", "checksum");
        }
    }

    @Test
    void bombsAreRefusedBeforeTheyAreUnpacked() throws IOException {
        byte[] packed = deflate(new byte[64 << 20]);
        Raw raw = new Raw();
        raw.local("bomb", packed);
        raw.entry("bomb", 0, 8, packed.length, 64 << 20, 0, 0, new byte[0], 0);
        raw.entry("liar", 0, 8, packed.length, 100, 0, 0, new byte[0], 0);
        raw.entry("huge", 0, 8, packed.length, Integer.MAX_VALUE, 0, 0, new byte[0], 0);
        raw.entry("short", 0, 8, 10, 100, 0, 0, new byte[0], 0);
        try (ZipArchive zip = open(raw.bytes())) {
            refused(zip, "bomb", "zip bomb");
            refused(zip, "liar", "longer than the 100 bytes");
            refused(zip, "huge", "expected at most 1073741824");
            refused(zip, "short", "");
        }
        Raw many = new Raw();
        many.plain("a", new byte[1]);
        byte[] bytes = many.bytes();
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putShort(bytes.length - 12, (short) 9999);
        assertDamaged(bytes, "claims 9999 entries");
    }

    @Test
    void damagedArchivesAreNamed() throws IOException {
        byte[] good = zip(ZipEntry.DEFLATED, "a", "b");
        assertDamaged(new byte[0], "truncated or no zip file");
        assertDamaged("PK".getBytes(StandardCharsets.UTF_8), "truncated or no zip file");
        assertDamaged(Arrays.copyOf(good, good.length - 40), "truncated or no zip file");
        byte[] list = good.clone();
        ByteBuffer.wrap(list).order(ByteOrder.LITTLE_ENDIAN).putInt(list.length - 9 - 22 + 16, 5);
        assertDamaged(list, "list of entries is broken");
        ByteBuffer.wrap(list).order(ByteOrder.LITTLE_ENDIAN).putInt(list.length - 9 - 22 + 16, 1 << 30);
        assertDamaged(list, "outside of its");
        assertTrue(assertThrows(FormatException.class, () -> ZipArchive.open(dir.resolve("none.zip")))
                .getMessage()
                .startsWith("no such file"));
    }

    /** Whatever is in the file, it is told in one of two ways and at once. */
    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3})
    void anyDamageIsTold(long seed) throws IOException {
        byte[] good = zip(ZipEntry.DEFLATED, "a", "b/c", "d");
        Random random = new Random(seed);
        for (int i = 0; i < 300; i++) {
            byte[] bytes = good.clone();
            for (int k = 0; k < 3; k++) {
                bytes[random.nextInt(bytes.length)] = (byte) random.nextInt();
            }
            try (ZipArchive zip = open(bytes)) {
                for (String name : List.of("a", "b/c", "d")) {
                    try {
                        assertArrayEquals(WORDS, zip.read(name));
                    } catch (IOException e) {
                        assertTrue(e.getMessage().contains("a.zip"), e.getMessage());
                    }
                }
            } catch (FormatException e) {
                assertTrue(e.getMessage().contains("a.zip"), e.getMessage());
            }
        }
    }

    private void assertDamaged(byte[] bytes, String why) {
        String message = assertThrows(FormatException.class, () -> open(bytes)).getMessage();
        assertTrue(message.startsWith("cannot read " + dir.resolve("a.zip") + ": "), message);
        assertTrue(message.contains(why), message);
    }

    private static void refused(ZipArchive zip, String name, String why) {
        String message = assertThrows(IOException.class, () -> zip.read(name)).getMessage();
        assertTrue(message.startsWith("entry \"" + name + "\" of "), message);
        assertTrue(message.contains(why), message);
    }

    private static int crc(byte[] content) {
        CRC32 crc = new CRC32();
        crc.update(content);
        return (int) crc.getValue();
    }

    private static byte[] deflate(byte[] content) {
        Deflater deflater = new Deflater(9, true);
        deflater.setInput(content);
        deflater.finish();
        byte[] packed = new byte[1 << 20];
        int n = deflater.deflate(packed);
        deflater.end();
        return Arrays.copyOf(packed, n);
    }

    /** Writes archives as no decent program does. */
    private static final class Raw {
        private final ByteBuffer locals = ByteBuffer.allocate(1 << 21).order(ByteOrder.LITTLE_ENDIAN);
        private final ByteBuffer list = ByteBuffer.allocate(1 << 16).order(ByteOrder.LITTLE_ENDIAN);
        private int count;
        private boolean wide;

        void local(String name, byte[] packed) {
            byte[] text = name.getBytes(StandardCharsets.UTF_8);
            locals.putInt(0x04034b50).position(locals.position() + 22);
            locals.putShort((short) text.length).putShort((short) 0).put(text).put(packed);
        }

        void plain(String name, byte[] content) {
            int at = locals.position();
            local(name, content);
            entry(name, 0, 0, content.length, content.length, crc(content), at, new byte[0], 0);
        }

        void entry(
                String name, int flags, int method, int packed, int length, int crc, int at, byte[] extra, int mode) {
            byte[] text = name.getBytes(StandardCharsets.UTF_8);
            list.putInt(0x02014b50).putShort((short) (3 << 8)).putShort((short) 20);
            list.putShort((short) flags).putShort((short) method).putInt(0).putInt(crc);
            list.putInt(packed).putInt(length).putShort((short) text.length).putShort((short) extra.length);
            list.putShort((short) 0).putInt(0).putInt(mode).putInt(at).put(text).put(extra);
            count++;
        }

        void end64(int entries) {
            wide = true;
        }

        byte[] bytes() {
            int start = locals.position();
            int length = list.position();
            ByteBuffer all = ByteBuffer.allocate(start + length + 98).order(ByteOrder.LITTLE_ENDIAN);
            all.put(locals.flip()).put(list.flip());
            if (wide) {
                int at = all.position();
                all.putInt(0x06064b50)
                        .putLong(44)
                        .putInt(0)
                        .putLong(0)
                        .putLong(count)
                        .putLong(count);
                all.putLong(length).putLong(start);
                all.putInt(0x07064b50).putInt(0).putLong(at).putInt(1);
                all.putInt(0x06054b50)
                        .putInt(0)
                        .putShort((short) -1)
                        .putShort((short) -1)
                        .putInt(-1)
                        .putInt(-1);
            } else {
                all.putInt(0x06054b50).putInt(0).putShort((short) count).putShort((short) count);
                all.putInt(length).putInt(start);
            }
            all.putShort((short) 0);
            return Arrays.copyOf(all.array(), all.position());
        }
    }
}
