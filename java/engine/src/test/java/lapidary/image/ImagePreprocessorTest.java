package lapidary.image;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import lapidary.format.FormatException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class ImagePreprocessorTest {
    private static final String CONFIG =
            """
            {"do_convert_rgb": null, "do_normalize": true, "do_pan_and_scan": null, "do_rescale": true, "do_resize": true,
             "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "Gemma3ImageProcessor", "image_seq_length": 256,
             "image_std": [0.5, 0.5, 0.5], "pan_and_scan_max_num_crops": null, "pan_and_scan_min_crop_size": null,
             "pan_and_scan_min_ratio_to_activate": null, "processor_class": "Gemma3Processor", "resample": 2,
             "rescale_factor": 0.00392156862745098, "size": {"height": 896, "width": 896}}
            """;

    @TempDir
    Path folder;

    static List<String[]> goldens() {
        return Golden.table("pixels.tsv");
    }

    @ParameterizedTest
    @MethodSource("goldens")
    void valuesAreThoseOfBothProcessors(
            int width,
            int height,
            int size,
            String mean,
            String std,
            boolean crops,
            int torchvisionViews,
            String torchvision,
            int pillowViews,
            String pillow) {
        ImagePreprocessor preprocessor =
                new ImagePreprocessor(size, size, 1 / 255.0, numbers(mean), numbers(std), Resize.Precision.TORCHVISION);
        Rgb image = Golden.noise(width, height, false);
        check(preprocessor, image, crops, torchvisionViews, torchvision);
        check(preprocessor.with(Resize.Precision.PILLOW), image, crops, pillowViews, pillow);
    }

    private static List<Double> numbers(String text) {
        return Stream.of(text.split(",")).map(Double::valueOf).toList();
    }

    private static void check(ImagePreprocessor preprocessor, Rgb image, boolean crops, int count, String sha256) {
        List<float[]> views =
                crops ? preprocessor.pixelValues(image, PanAndScan.DEFAULT) : List.of(preprocessor.pixelValues(image));
        assertEquals(count, views.size());
        ByteBuffer bytes = ByteBuffer.allocate(4 * count * views.get(0).length).order(ByteOrder.LITTLE_ENDIAN);
        views.forEach(view -> {
            for (float value : view) {
                bytes.putFloat(value);
            }
        });
        assertEquals(
                sha256, Golden.sha256(bytes.array()), preprocessor.precision().name());
    }

    @Test
    void blackIsMinusOneAndWhiteIsOne() {
        byte[] pixels = {0, 0, 0, -1, -1, -1};
        float[] values = ImagePreprocessor.gemma3(1).pixelValues(new Rgb(1, 1, new byte[] {0, -1, 127}));
        assertEquals(-1f, values[0]);
        assertEquals(1f, values[1]);
        assertEquals(3, values.length);
        values = new ImagePreprocessor(
                        1, 2, 1 / 255.0, List.of(0.5, 0.5, 0.5), List.of(0.5, 0.5, 0.5), Resize.Precision.PILLOW)
                .pixelValues(new Rgb(2, 1, pixels));
        assertEquals(-1f, values[4]);
        assertEquals(1f, values[5]);
    }

    @Test
    void readsTheHubsFile() throws IOException {
        write("preprocessor_config.json", CONFIG);
        assertEquals(ImagePreprocessor.gemma3(896), ImagePreprocessor.read(folder));
    }

    @Test
    void fillsInTheClassDefaults() throws IOException {
        write("preprocessor_config.json", "{\"size\": {\"height\": 24, \"width\": 36}}");
        ImagePreprocessor read = ImagePreprocessor.read(folder);
        assertEquals(24, read.height());
        assertEquals(36, read.width());
        assertEquals(List.of(0.5, 0.5, 0.5), read.mean());
        assertEquals(1 / 255.0, read.rescaleFactor());
    }

    @Test
    void anImageProcessorInsideTheProcessorFileWins() throws IOException {
        write("preprocessor_config.json", CONFIG);
        write(
                "processor_config.json",
                "{\"image_seq_length\": 256, \"image_processor\": " + CONFIG.replace("896", "112") + "}");
        assertEquals(112, ImagePreprocessor.read(folder).height());
        write("processor_config.json", "{\"image_seq_length\": 256}");
        assertEquals(896, ImagePreprocessor.read(folder).height());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "\"resample\": 2 | \"resample\": 3 | resample",
                "\"do_resize\": true | \"do_resize\": false | do_resize",
                "\"do_rescale\": true | \"do_rescale\": false | do_rescale",
                "\"do_normalize\": true | \"do_normalize\": \"yes\" | do_normalize",
                "\"do_convert_rgb\": null | \"do_convert_rgb\": false | do_convert_rgb",
                "\"do_convert_rgb\": null | \"do_center_crop\": true | do_center_crop",
                "\"do_convert_rgb\": null | \"brightness\": 2 | brightness",
                "Gemma3ImageProcessor | SiglipImageProcessor | image_processor_type",
                "\"height\": 896 | \"shortest_edge\": 896 | size",
                "\"height\": 896 | \"height\": 0 | size.height",
                "\"height\": 896 | \"height\": 70000 | size.height",
                "\"height\": 896 | \"height\": 1e300 | size.height",
                "[0.5, 0.5, 0.5], \"image_processor_type\" | [0.5, 0.5], \"image_processor_type\" | image_mean",
                "\"image_std\": [0.5, 0.5, 0.5] | \"image_std\": [0.5, 0, 0.5] | image_std",
                "\"image_std\": [0.5, 0.5, 0.5] | \"image_std\": [0.5, \"a\", 0.5] | image_std",
                "\"rescale_factor\": 0.00392156862745098 | \"rescale_factor\": 0 | rescale_factor",
            })
    void refusesWhatItDoesNotDoByName(String from, String to, String key) throws IOException {
        assertTrue(CONFIG.contains(from));
        write("preprocessor_config.json", CONFIG.replace(from, to));
        FormatException e = assertThrows(FormatException.class, () -> ImagePreprocessor.read(folder));
        assertTrue(e.getMessage().contains("preprocessor_config.json: " + key + " "), e.getMessage());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "null", "{\"size\": 3}", "{}", "{\"size\":{}, \"size\":{}}", "{} {}"})
    void refusesWhatIsNoConfiguration(String text) throws IOException {
        write("preprocessor_config.json", text);
        FormatException e = assertThrows(FormatException.class, () -> ImagePreprocessor.read(folder));
        assertTrue(e.getMessage().contains("preprocessor_config.json: "), e.getMessage());
    }

    @Test
    void saysWhenThereIsNone() {
        FormatException e = assertThrows(FormatException.class, () -> ImagePreprocessor.read(folder));
        assertTrue(e.getMessage().startsWith(folder + ": there is no preprocessor_config.json"), e.getMessage());
    }

    private void write(String name, String text) throws IOException {
        Files.writeString(folder.resolve(name), text);
    }
}
