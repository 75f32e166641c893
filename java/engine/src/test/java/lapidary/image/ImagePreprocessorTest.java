package lapidary.image;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import lapidary.format.FormatException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
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
        List<CodedPixels> views =
                crops ? preprocessor.pixelValues(image, PanAndScan.DEFAULT) : List.of(preprocessor.pixelValues(image));
        assertEquals(count, views.size());
        ByteBuffer bytes =
                ByteBuffer.allocate(4 * count * views.get(0).length()).order(ByteOrder.LITTLE_ENDIAN);
        views.forEach(view -> {
            for (float value : view.values()) {
                bytes.putFloat(value);
            }
        });
        assertEquals(
                sha256, Golden.sha256(bytes.array()), preprocessor.precision().name());
    }

    @Test
    void blackIsMinusOneAndWhiteIsOne() {
        byte[] pixels = {0, 0, 0, -1, -1, -1};
        float[] values = ImagePreprocessor.gemma3(1)
                .pixelValues(new Rgb(1, 1, new byte[] {0, -1, 127}))
                .values();
        assertEquals(-1f, values[0]);
        assertEquals(1f, values[1]);
        assertEquals(3, values.length);
        values = new ImagePreprocessor(
                        1, 2, 1 / 255.0, List.of(0.5, 0.5, 0.5), List.of(0.5, 0.5, 0.5), Resize.Precision.PILLOW)
                .pixelValues(new Rgb(2, 1, pixels))
                .values();
        assertEquals(-1f, values[4]);
        assertEquals(1f, values[5]);
    }

    @ParameterizedTest
    @EnumSource(Resize.Precision.class)
    void anyPieceOfTheValuesIsThatOfTheWhole(Resize.Precision precision) {
        ImagePreprocessor preprocessor =
                new ImagePreprocessor(190, 181, 1 / 255.0, List.of(0.5, 0.4, 0.3), List.of(0.5, 0.6, 0.7), precision);
        CodedPixels pixels = preprocessor.pixelValues(Golden.noise(70, 50, false));
        float[] all = pixels.values();
        assertEquals(3 * 190 * 181, all.length);
        int[][] pieces = {{0, 1}, {5, 64}, {190 * 181 - 7, 20}, {100, 2 * 190 * 181}, {all.length - 3, 3}, {9, 0}};
        try (Arena arena = Arena.ofConfined()) {
            for (int[] piece : pieces) {
                MemorySegment floats = arena.allocate(ValueLayout.JAVA_FLOAT, piece[1]);
                pixels.values(piece[0], floats);
                assertArrayEquals(
                        Arrays.copyOfRange(all, piece[0], piece[0] + piece[1]), floats.toArray(ValueLayout.JAVA_FLOAT));
            }
            MemorySegment floats = arena.allocate(ValueLayout.JAVA_FLOAT, 4);
            assertThrows(IndexOutOfBoundsException.class, () -> pixels.values(all.length - 3, floats));
        }
    }

    @Test
    void pixelsAreEqualIfTheirValuesAre() {
        ImagePreprocessor preprocessor = ImagePreprocessor.gemma3(8);
        Rgb image = Golden.noise(20, 10, false);
        CodedPixels pixels = preprocessor.pixelValues(image);
        assertEquals(pixels, ImagePreprocessor.gemma3(8).pixelValues(image));
        assertEquals(pixels.hashCode(), preprocessor.pixelValues(image).hashCode());
        assertNotEquals(pixels, preprocessor.pixelValues(Golden.noise(20, 11, false)));
        ImagePreprocessor other = new ImagePreprocessor(
                8, 8, 1 / 255.0, List.of(0.5, 0.5, 0.4), preprocessor.std(), preprocessor.precision());
        assertNotEquals(pixels, other.pixelValues(image));
    }

    @Test
    void pixelsOfASizeThatIsKeptShowThePicture() {
        byte[] rgb = new byte[3 * 16 * 16];
        for (int i = 0; i < rgb.length; i++) {
            rgb[i] = (byte) (i * 37);
        }
        CodedPixels pixels = ImagePreprocessor.gemma3(16).pixelValues(new Rgb(16, 16, rgb));
        assertArrayEquals(rgb, pixels.picture().pixels());
        assertEquals(16, pixels.picture().width());
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
                "{\"height\": 896, \"width\": 896} | {\"height\": 65535, \"width\": 65535} | size",
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
