package lapidary.image;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import lapidary.format.FormatException;
import lapidary.format.Json;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PanAndScanSettingsTest {
    private static final String PREPROCESSOR = "preprocessor_config.json";
    private static final String PROCESSOR = "processor_config.json";

    @TempDir
    private Path folder;

    private PanAndScanSettings found() {
        return PanAndScanSettings.find(folder).orElseThrow();
    }

    private void put(String file, String text) throws IOException {
        Files.writeString(folder.resolve(file), text);
    }

    @Test
    void isReadFromTheFileThatCounts() throws IOException {
        assertEquals(Optional.empty(), PanAndScanSettings.find(folder));
        put(PREPROCESSOR, "{\"do_pan_and_scan\": null, \"pan_and_scan_max_num_crops\": null}");
        assertEquals(PanAndScanSettings.OFF, found());
        put(PREPROCESSOR, "{\"do_pan_and_scan\": true}");
        assertEquals(new PanAndScanSettings(true, PanAndScan.DEFAULT), found());
        put(
                PREPROCESSOR,
                "{\"do_pan_and_scan\": true, \"pan_and_scan_min_crop_size\": 32, \"pan_and_scan_max_num_crops\": 3,"
                        + " \"pan_and_scan_min_ratio_to_activate\": 1.5}");
        assertEquals(new PanAndScan(32, 3, 1.5), found().inUse());
        put(PROCESSOR, "{\"image_seq_length\": 256}");
        assertTrue(found().isOn());
        put(PROCESSOR, "{\"image_processor\": {\"do_pan_and_scan\": false}}");
        assertEquals(PanAndScan.NONE, found().inUse());
    }

    @ParameterizedTest
    @CsvSource({
        "do_pan_and_scan, 1, true or false",
        "do_pan_and_scan, '\"yes\"', true or false",
        "pan_and_scan_min_crop_size, 0, a whole number from 1 on",
        "pan_and_scan_max_num_crops, 0, a whole number from 1 on",
        "pan_and_scan_max_num_crops, 2.5, a whole number from 1 on",
        "pan_and_scan_min_ratio_to_activate, -1, a positive number",
        "pan_and_scan_min_ratio_to_activate, '\"a\"', a positive number"
    })
    void whatIsNoneOfItsKindIsRefused(String key, String value, String expected) throws IOException {
        put(PREPROCESSOR, "{\"size\": {\"height\": 28, \"width\": 28}, \"" + key + "\": " + value + "}");
        FormatException e = assertThrows(FormatException.class, this::found);
        assertTrue(
                e.getMessage()
                        .startsWith(
                                folder.resolve(PREPROCESSOR) + ": " + key + " is " + value + ", expected " + expected),
                e.getMessage());
        assertThrows(FormatException.class, () -> ImagePreprocessor.read(folder)); // and not at the end of a run
    }

    @Test
    void isWrittenWhereItWasReadAndNothingElseChanges() throws IOException {
        PanAndScanSettings on = new PanAndScanSettings(true, PanAndScan.DEFAULT);
        on.write(folder);
        assertEquals(Optional.empty(), PanAndScanSettings.find(folder));
        put(PREPROCESSOR, "{\"rescale_factor\": 0.00392156862745098, \"do_pan_and_scan\": null, \"resample\": 2}");
        on.write(folder);
        assertEquals(on, found());
        Json json = Json.read(folder.resolve(PREPROCESSOR));
        assertEquals(0.00392156862745098, json.number("rescale_factor"));
        assertEquals(2, json.get("resample").integer());
        String outer = Files.readString(folder.resolve(PREPROCESSOR));

        put(PROCESSOR, "{\"image_processor\": {\"resample\": 2}, \"image_seq_length\": 16}");
        on.write(folder);
        assertEquals(on, found());
        assertEquals(
                16, Json.read(folder.resolve(PROCESSOR)).get("image_seq_length").integer());
        assertEquals(outer, Files.readString(folder.resolve(PREPROCESSOR)));
    }

    @Test
    void aFileThatSaysSoAlreadyKeepsItsBytes() throws IOException {
        String text = "{ \"do_pan_and_scan\":   true }";
        put(PREPROCESSOR, text);
        new PanAndScanSettings(true, PanAndScan.DEFAULT).write(folder);
        assertEquals(text, Files.readString(folder.resolve(PREPROCESSOR)));
        PanAndScanSettings.OFF.write(folder);
        assertEquals(PanAndScanSettings.OFF, found());
    }
}
