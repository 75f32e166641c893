package lapidary.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.hardwood.metadata.CompressionCodec;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import lapidary.gemma3.Message;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Golden files: bench/reference/make_data_golden.py (pyarrow). */
class PageStreamTest {
    private static final Path GOLDEN = Path.of("src/test/resources/lapidary/data");

    @TempDir
    Path dir;

    /** The script's long text. */
    private static String longText() {
        StringBuilder text = new StringBuilder();
        long x = 1;
        for (int i = 0; i < 50_000; i++) {
            x = (x * 1_103_515_245 + 12_345) % (1L << 31);
            text.append('w').append((x >> 16) % 40).append(' ');
        }
        return text.toString();
    }

    @ParameterizedTest
    @ValueSource(strings = {"snappy", "gzip", "zstd", "lz4", "brotli"})
    void longTextsOfEveryCodec(String codec) {
        try (Dataset data =
                Datasets.open(GOLDEN.resolve("long-" + codec + ".parquet").toString(), "train")) {
            assertEquals(Message.of("user", longText()), data.get(0).messages().get(0));
        }
    }

    @Test
    void hadoopsFramesAroundLz4() throws IOException {
        byte[] expected = longText().getBytes(StandardCharsets.UTF_8);
        Path file = GOLDEN.resolve("long.lz4");
        assertArrayEquals(expected, read(file, CompressionCodec.LZ4, expected.length));
        Path cut = Files.write(dir.resolve("cut"), Arrays.copyOf(Files.readAllBytes(file), (int) Files.size(file) / 2));
        assertThrows(IOException.class, () -> read(cut, CompressionCodec.LZ4, expected.length));
    }

    private static byte[] read(Path file, CompressionCodec codec, int size) throws IOException {
        try (FileChannel channel = FileChannel.open(file);
                PageStream in = PageStream.open(channel, 0, channel.size(), codec, size)) {
            byte[] bytes = in.readBytes(size);
            assertThrows(IOException.class, in::readByte); // no more than its size comes out
            return bytes;
        }
    }

    /** Blocks by hand, from the formats' descriptions. */
    @ParameterizedTest
    @CsvSource({
        "SNAPPY, 00, ''",
        "SNAPPY, 03 08 61 62 63, abc",
        "SNAPPY, 08 00 61 0d 01, aaaaaaaa", // a copy that reaches into itself
        "SNAPPY, 09 08 61 62 63 0a 03 00 0a 03 00, abcabcabc", // two-byte distances
        "SNAPPY, 06 08 61 62 63 0b 03 00 00 00, abcabc", // four-byte ones
        "SNAPPY, 02 f0 01 61 62, ab", // the literal's length in a byte of its own
        "LZ4, 30 61 62 63, abc",
        "LZ4, 13 61 01 00 10 62, aaaaaaaab",
        "LZ4, 32 61 62 63 03 00 20 64 65, abcabcabcde"
    })
    void blocksByHand(LzStream.Format format, String hex, String text) throws IOException {
        byte[] block = HexFormat.ofDelimiter(" ").parseHex(hex);
        byte[] expected = text.getBytes(StandardCharsets.UTF_8);
        for (int piece : new int[] {1, 2, 3, 100}) {
            LzStream in = new LzStream(format, new ByteArrayInputStream(block), expected.length);
            byte[] found = new byte[expected.length];
            for (int at = 0; at < found.length; ) {
                int n = in.read(found, at, Math.min(piece, found.length - at));
                assertTrue(n > 0);
                at += n;
            }
            assertEquals(-1, in.read());
            assertArrayEquals(expected, found);
        }
        for (int length = 0; length < block.length; length++) {
            byte[] cut = Arrays.copyOf(block, length);
            assertThrows(IOException.class, () -> new LzStream(format, new ByteArrayInputStream(cut), expected.length)
                    .readNBytes(expected.length + 1));
        }
    }

    @ParameterizedTest
    @CsvSource({
        "SNAPPY, 04 08 61 62 63, 3", // another size than the page's
        "SNAPPY, 03 0c 61 62 63 64, 3", // a literal beyond the end
        "SNAPPY, 08 00 61 0d 02, 8", // a copy from before the start
        "SNAPPY, 08 00 61 0d 00, 8", // and from nowhere
        "SNAPPY, 05 00 61 0d 01, 5", // and one beyond the end
        "SNAPPY, ff ff ff ff ff ff, 5",
        "LZ4, 40 61 62 63 64, 3",
        "LZ4, 13 61 02 00, 8",
        "LZ4, 13 61 00 00, 8",
        "LZ4, 13 61 01 00, 5",
        "LZ4, f0 ff ff ff ff, 5"
    })
    void wrongBlocksAreRefused(LzStream.Format format, String hex, int size) {
        byte[] block = HexFormat.ofDelimiter(" ").parseHex(hex);
        assertThrows(IOException.class, () -> new LzStream(format, new ByteArrayInputStream(block), size)
                .readNBytes(size + 1));
    }

    @ParameterizedTest
    @CsvSource({
        "1, 03 e5, 1 0 1 0 0 1 1 1", // eight packed bits
        "3, 03 88 c6 fa, 0 1 2 3 4 5 6 7", // the description's example
        "3, 0a 05 02 07, 5 5 5 5 5 7", // two runs
        "0, 06, 0 0 0",
        "12, 04 34 0a, 2612 2612",
        "32, 02 ff ff ff 7f, 2147483647"
    })
    void levelsByHand(int width, String hex, String numbers) throws IOException {
        HybridInts in = new HybridInts(PageStream.of(HexFormat.ofDelimiter(" ").parseHex(hex)), width);
        for (String number : numbers.split(" ")) {
            assertEquals(Integer.parseInt(number), in.next());
        }
        assertThrows(IOException.class, in::next);
    }

    @Test
    void differencesThatMakeNoSenseAreRefused() {
        for (String head :
                new String[] {"00 04 01 00", "80 01 00 01 00", "80 01 03 01 00", "ff ff ff ff 0f 01 01 00", "80 01"}) {
            byte[] bytes = HexFormat.ofDelimiter(" ").parseHex(head);
            assertThrows(IOException.class, () -> new DeltaLongs(PageStream.of(bytes)));
        }
    }
}
