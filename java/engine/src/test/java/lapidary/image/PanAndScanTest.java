package lapidary.image;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PanAndScanTest {

    // width, height, crops, size of the first, size of the last: by pan_and_scan_batched of transformers 5.18
    @ParameterizedTest
    @CsvSource({
        "900, 880, 0, 0, 0", // not long enough
        "1200, 1000, 2, 600, 600", // 1.2 is enough; at least two
        "1199, 1000, 0, 0, 0",
        "1000, 400, 3, 334, 332", // 2.5 rounds up to 3
        "999, 400, 2, 500, 499", // 2.4975 rounds down
        "1300, 300, 4, 325, 325",
        "5000, 300, 4, 1250, 1250", // at most four
        "700, 300, 2, 350, 350",
        "600, 255, 0, 0, 0", // a crop would be too low
        "511, 300, 2, 256, 255", // crops of 256: just enough
        "510, 300, 0, 0, 0",
        "1, 1, 0, 0, 0",
    })
    void cutsTheLongSide(int width, int height, int count, int first, int last) {
        for (boolean upright : new boolean[] {false, true}) {
            List<PanAndScan.Crop> crops =
                    upright ? PanAndScan.DEFAULT.crops(height, width) : PanAndScan.DEFAULT.crops(width, height);
            assertEquals(count, crops.size());
            int at = 0;
            for (int i = 0; i < count; i++) {
                int length = i < count - 1 ? first : last;
                PanAndScan.Crop expected = upright
                        ? new PanAndScan.Crop(0, at, height, length)
                        : new PanAndScan.Crop(at, 0, length, height);
                assertEquals(expected, crops.get(i));
                at += length;
            }
            assertTrue(count == 0 || at == width, "the crops cover the image");
        }
    }

    @Test
    void neverCutsOutsideTheImage() {
        PanAndScan small = new PanAndScan(1, 7, 1.0);
        for (int width = 1; width < 40; width++) {
            for (int height = 1; height < 40; height++) {
                for (PanAndScan.Crop crop : small.crops(width, height)) {
                    assertTrue(crop.width() > 0 && crop.height() > 0, crop.toString());
                    assertTrue(crop.x() + crop.width() <= width && crop.y() + crop.height() <= height, crop.toString());
                }
            }
        }
    }

    @Test
    void refusesWhatIsNotPositive() {
        assertThrows(IllegalArgumentException.class, () -> new PanAndScan(0, 4, 1.2));
        assertThrows(IllegalArgumentException.class, () -> new PanAndScan(256, -1, 1.2));
        assertThrows(IllegalArgumentException.class, () -> new PanAndScan(256, 4, Double.NaN));
    }
}
