package lapidary.image;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import lapidary.format.FormatException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

class ImageDecoderTest {

    static List<String[]> goldens() {
        return Golden.table("decode.tsv");
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("goldens")
    void isByteForBytePillows(String file, int width, int height, String sha256) {
        Rgb image = ImageDecoder.decode(Golden.file(file), "x.tiff", true);
        assertEquals(width + " x " + height, image.width() + " x " + image.height());
        assertEquals(sha256, Golden.sha256(image.pixels()));
    }

    @Test
    void turnsOnlyWhenAsked() {
        Rgb stored = ImageDecoder.decode(Golden.file("exif-6.jpg"), "a", false);
        Rgb turned = ImageDecoder.decode(Golden.file("exif-6.jpg"), "a", true);
        assertEquals(11, stored.width());
        assertEquals(6, turned.width());
        for (int y = 0; y < 6; y++) { // a quarter turn clockwise: the left column becomes the top row, from below
            assertEquals(stored.pixels()[3 * 11 * y], turned.pixels()[3 * (5 - y)]);
        }
    }

    @Test
    void readsAFileWhenAsked(@TempDir Path folder) throws Exception {
        Path file = folder.resolve("picture.dat");
        ImageSource source = ImageSource.of(file);
        FormatException e = assertThrows(FormatException.class, () -> ImageDecoder.decode(source));
        assertTrue(e.getMessage().startsWith(file + ": there is no such image file"), e.getMessage());
        Files.write(file, Golden.file("gif-photo.gif"));
        assertEquals(90, ImageDecoder.decode(source).width());
        FormatException folderError =
                assertThrows(FormatException.class, () -> ImageDecoder.decode(ImageSource.of(folder)));
        assertTrue(folderError.getMessage().startsWith(folder + ": "), folderError.getMessage());
    }

    @Test
    void aJpegWithoutItsEndMarkerIsWholeWhenAllPixelsAre() {
        byte[] whole = Golden.file("jpeg-422-32x16.jpg");
        byte[] cut = Arrays.copyOf(whole, whole.length - 2);
        assertArrayEquals(
                ImageDecoder.decode(whole, "a", true).pixels(),
                ImageDecoder.decode(cut, "a", true).pixels());
    }

    /** As Pillow reads it; where pixels are missing, too, that is told. */
    @Test
    void aPngWithoutItsEndIsWholeWhenAllPixelsAre() {
        byte[] whole = Golden.file("png-0-1-13x11.png");
        for (int less : new int[] {1, 4, 11, 12}) {
            byte[] cut = Arrays.copyOf(whole, whole.length - less);
            assertArrayEquals(
                    ImageDecoder.decode(whole, "a", true).pixels(),
                    ImageDecoder.decode(cut, "a", true).pixels());
        }
        assertThrows(
                FormatException.class, () -> ImageDecoder.decode(Arrays.copyOf(whole, whole.length - 22), "a", true));
    }

    @Test
    void aDamagedExifBlockSaysNothing() {
        byte[] file = Golden.file("exif-6.jpg");
        int at = new String(file, StandardCharsets.ISO_8859_1).indexOf("Exif") + 6;
        for (int i = at; i < at + 26; i++) {
            byte[] damaged = file.clone();
            damaged[i] ^= (byte) 0xff;
            Rgb image = ImageDecoder.decode(damaged, "a", true);
            assertEquals(66, image.width() * image.height());
        }
    }

    @Test
    void threadsDoNotDisturbEachOther() {
        List<String[]> all = goldens();
        IntStream.range(0, 3 * all.size()).parallel().forEach(i -> {
            String[] golden = all.get(i % all.size());
            assertEquals(
                    golden[3],
                    Golden.sha256(ImageDecoder.decode(Golden.file(golden[0]), "a", true)
                            .pixels()));
        });
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "'' | is empty (0 bytes)",
                "<svg xmlns=\"http://www.w3.org/2000/svg\"/> | an SVG drawing",
                "<?xml version=\"1.0\"?><!-- x --><svg> | an SVG drawing",
                "<!DOCTYPE html><html> | an HTML page",
                "<Error><Code>AccessDenied</Code> | an XML or HTML file",
                "%PDF-1.7 | a PDF document",
                "version https://git-lfs.github.com/spec/v1 | a Git LFS pointer",
                "....ftypheic.... | a HEIC, AVIF or video file",
                "II*.xxxxxxxx | no known image format (12 bytes, starting with 49 49 2a 2e",
                "hello | no known image format (5 bytes, starting with 68 65 6c 6c 6f)",
                "B | no known image format",
                "RIFF....WAVE | no known image format",
            })
    void tellsWhatAFileIsInstead(String text, String expected) {
        byte[] bytes = text.getBytes(StandardCharsets.ISO_8859_1);
        FormatException e = assertThrows(FormatException.class, () -> ImageDecoder.decode(bytes, "p/q.png", true));
        assertTrue(e.getMessage().startsWith("p/q.png: th"), e.getMessage());
        assertTrue(e.getMessage().contains(expected), e.getMessage());
        assertTrue(e.getMessage().endsWith("; convert the file to PNG or to baseline JPEG"), e.getMessage());
    }

    @Test
    void tellsATiff() {
        FormatException e = assertThrows(
                FormatException.class, () -> ImageDecoder.decode(new byte[] {'M', 'M', 0, '*', 0, 0}, "a", true));
        assertTrue(e.getMessage().contains("a TIFF file"), e.getMessage());
    }
}
