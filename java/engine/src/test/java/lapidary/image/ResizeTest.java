package lapidary.image;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

class ResizeTest {

    static List<String[]> goldens() {
        return Golden.table("resize.tsv");
    }

    @ParameterizedTest(name = "{0} x {1} to {2} x {3}, black and white {4}")
    @MethodSource("goldens")
    void isByteForByteTorchvisionsAndPillows(
            int width,
            int height,
            int toWidth,
            int toHeight,
            boolean blackAndWhite,
            String torchvision,
            String pillow) {
        Rgb image = Golden.noise(width, height, blackAndWhite);
        Rgb ours = Resize.bilinear(image, toWidth, toHeight, Resize.Precision.PILLOW);
        assertEquals(toWidth, ours.width());
        assertEquals(toHeight, ours.height());
        assertEquals(pillow, Golden.sha256(ours.pixels()), "Pillow");
        if (!torchvision.equals("-")) { // torch 2.13 fails an assertion of its own
            ours = Resize.bilinear(image, toWidth, toHeight, Resize.Precision.TORCHVISION);
            assertEquals(torchvision, Golden.sha256(ours.pixels()), "torchvision");
        }
    }

    @ParameterizedTest
    @EnumSource(Resize.Precision.class)
    void oneColourStaysOneColour(Resize.Precision precision) {
        for (int value : new int[] {0, 1, 127, 254, 255}) {
            byte[] pixels = new byte[3 * 37 * 23];
            Arrays.fill(pixels, (byte) value);
            for (int size : new int[] {1, 2, 22, 23, 36, 38, 400}) {
                byte[] resized = Resize.bilinear(new Rgb(37, 23, pixels), size, size, precision)
                        .pixels();
                byte[] expected = new byte[resized.length];
                Arrays.fill(expected, (byte) value);
                assertArrayEquals(expected, resized, value + " at " + size);
            }
        }
    }

    @Test
    void theSameSizeIsTheSameImage() {
        Rgb image = Golden.noise(7, 5, false);
        assertSame(image, Resize.bilinear(image, 7, 5, Resize.Precision.TORCHVISION));
    }

    @ParameterizedTest
    @CsvSource({"0,5", "5,0", "-1,5", "65536,1", "1,65536", "60000,60000"})
    void refusesASizeThatIsNone(int width, int height) {
        Rgb image = Golden.noise(7, 5, false);
        IllegalArgumentException e = assertThrows(
                IllegalArgumentException.class,
                () -> Resize.bilinear(image, width, height, Resize.Precision.TORCHVISION));
        assertTrue(e.getMessage().contains(width + " x " + height), e.getMessage());
    }
}
