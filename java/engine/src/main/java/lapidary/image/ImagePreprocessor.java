package lapidary.image;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import lapidary.format.FormatException;

/**
 * From RGB to the values that the vision tower reads, as transformers' {@code Gemma3ImageProcessor} makes them: resized to
 * a fixed size whatever the shape, rescaled, normalised per channel.
 *
 * @param rescaleFactor what a pixel of 0 to 255 is multiplied with
 * @param mean of each channel after rescaling
 * @param std of each channel after rescaling
 */
public record ImagePreprocessor(
        int height, int width, double rescaleFactor, List<Double> mean, List<Double> std, Resize.Precision precision) {

    private static final String SIZES =
            "sides of 1 to " + Limits.MAX_SIDE + " and at most " + Limits.MAX_PIXELS + " pixels";

    /** Gemma 3's own numbers at this size, by torchvision's arithmetic. */
    public static ImagePreprocessor gemma3(int size) {
        List<Double> half = List.of(0.5, 0.5, 0.5);
        return new ImagePreprocessor(size, size, 1 / 255.0, half, half, Resize.Precision.TORCHVISION);
    }

    public ImagePreprocessor {
        mean = List.copyOf(mean);
        std = List.copyOf(std);
        if (!isSize(height, width)) {
            throw new IllegalArgumentException(
                    "[image_preprocessor] size is " + height + " x " + width + ", expected " + SIZES);
        }
        if (mean.size() != 3
                || std.size() != 3
                || std.stream().anyMatch(s -> !(Math.abs(s) > 0) || s.isInfinite())
                || mean.stream().anyMatch(m -> m.isNaN() || m.isInfinite())) {
            throw new IllegalArgumentException(
                    "[image_preprocessor] mean " + mean + ", std " + std + ", expected 3 numbers each, std not 0");
        }
        if (!(rescaleFactor > 0) || Double.isInfinite(rescaleFactor)) {
            throw new IllegalArgumentException(
                    "[image_preprocessor] rescale_factor is " + rescaleFactor + ", expected a positive number");
        }
    }

    private static boolean isSize(int height, int width) {
        return height >= 1
                && width >= 1
                && height <= Limits.MAX_SIDE
                && width <= Limits.MAX_SIDE
                && (long) height * width <= Limits.MAX_PIXELS;
    }

    /** The same with another arithmetic. */
    public ImagePreprocessor with(Resize.Precision other) {
        return new ImagePreprocessor(height, width, rescaleFactor, mean, std, other);
    }

    /**
     * Reads a checkpoint's {@code processor_config.json}, if it holds an {@code image_processor} object, else its
     * {@code preprocessor_config.json}.
     *
     * @throws FormatException if neither is there, or a value asks for what is not done here; it names file and key
     */
    public static ImagePreprocessor read(Path modelFolder) {
        return Settings.find(modelFolder)
                .orElseThrow(() -> new FormatException(
                        modelFolder + ": there is no preprocessor_config.json, and no image_processor in a "
                                + "processor_config.json; copy the file from the checkpoint that the model came from"))
                .read();
    }

    /** One image: [3, height, width]. */
    public CodedPixels pixelValues(Rgb image) {
        try (NativeImage pixels = new NativeImage()) {
            MemorySegment codes = pixels.resize(image, width, height, precision);
            return new CodedPixels(this, codes.toArray(ValueLayout.JAVA_BYTE));
        }
    }

    /**
     * The whole image, then each of its crops, if it is long enough to be cut: each [3, height, width].
     */
    public List<CodedPixels> pixelValues(Rgb image, PanAndScan panAndScan) {
        List<CodedPixels> views = new ArrayList<>();
        views.add(pixelValues(image));
        for (PanAndScan.Crop crop : panAndScan.crops(image.width(), image.height())) {
            views.add(pixelValues(cut(image, crop)));
        }
        return views;
    }

    /** Values of a channel's codes, rounded where the library rounds. */
    void normalise(NativeImage image, int channel, MemorySegment values, MemorySegment codes) {
        if (precision == Resize.Precision.TORCHVISION) {
            image.normalise(values, codes, 1, folded(mean, channel), folded(std, channel));
        } else {
            float m = mean.get(channel).floatValue();
            float s = std.get(channel).floatValue();
            image.normalise(values, codes, rescaleFactor, m, s);
        }
    }

    private static Rgb cut(Rgb image, PanAndScan.Crop crop) {
        byte[] pixels = new byte[3 * crop.width() * crop.height()];
        for (int y = 0; y < crop.height(); y++) {
            int from = 3 * ((crop.y() + y) * image.width() + crop.x());
            System.arraycopy(image.pixels(), from, pixels, 3 * crop.width() * y, 3 * crop.width());
        }
        return new Rgb(crop.width(), crop.height(), pixels);
    }

    /** A channel's mean or deviation for codes that are not rescaled: torch folds the factor into both. */
    private float folded(List<Double> of, int channel) {
        return of.get(channel).floatValue() * (float) (1.0 / rescaleFactor);
    }

    /** The JSON object, key by key: each is read, or must have the one value that is done here, or is ignored. */
    record Settings(Path file, String object, JsonNode json) {
        private static final String NESTED = "image_processor";

        private static final ObjectMapper MAPPER = new ObjectMapper()
                .enable(JsonParser.Feature.STRICT_DUPLICATE_DETECTION)
                .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

        private static final Set<String> READ = Set.of("size", "rescale_factor", "image_mean", "image_std");

        /** Transformers' numbering of PIL's filters: 2 is bilinear, 3 (bicubic) and the others are not done here. */
        private static final int BILINEAR = 2;

        private static final Set<String> MUST_BE_TRUE =
                Set.of("do_resize", "do_rescale", "do_normalize", "do_convert_rgb", "default_to_square");

        private static final Set<String> MUST_BE_FALSE = Set.of("do_center_crop", "do_pad");

        private static final Set<String> CLASSES =
                Set.of("Gemma3ImageProcessor", "Gemma3ImageProcessorFast", "Gemma3ImageProcessorPil");

        /** Keys that change nothing here, and why. */
        private static final Map<String, String> IGNORED = Map.ofEntries(
                Map.entry("image_seq_length", "the text processor's, which reads it from processor_config.json"),
                Map.entry("processor_class", "names the class around this one"),
                Map.entry("auto_map", "names Python code"),
                Map.entry("feature_extractor_type", "the old name of image_processor_type"),
                Map.entry("model_input_names", "names of tensors in Python"),
                Map.entry(
                        PanAndScanSettings.ON,
                        "PanAndScanSettings reads it, where a model answers; a run has an option"),
                Map.entry(PanAndScanSettings.MIN_CROP_SIZE, "as do_pan_and_scan"),
                Map.entry(PanAndScanSettings.MAX_CROPS, "as do_pan_and_scan"),
                Map.entry(PanAndScanSettings.MIN_RATIO, "as do_pan_and_scan"),
                Map.entry("crop_size", "of do_center_crop, which is refused"),
                Map.entry("pad_size", "of do_pad, which is refused"),
                Map.entry("device", "of the Python process"),
                Map.entry("disable_grouping", "of the Python process: the order of work, not its result"),
                Map.entry("return_tensors", "of the Python process"),
                Map.entry("input_data_format", "of arrays given in Python"));

        /** Of a folder; empty where it has none. */
        static Optional<Settings> find(Path folder) {
            Path processor = folder.resolve("processor_config.json");
            if (Files.exists(processor)) {
                JsonNode nested = parse(processor).get(NESTED);
                if (nested != null && !nested.isNull()) {
                    return Optional.of(new Settings(processor, NESTED, nested));
                }
            }
            Path preprocessor = folder.resolve("preprocessor_config.json");
            return Files.exists(preprocessor)
                    ? Optional.of(new Settings(preprocessor, "", parse(preprocessor)))
                    : Optional.empty();
        }

        private static JsonNode parse(Path file) {
            JsonNode json;
            try {
                json = MAPPER.readTree(Files.readAllBytes(file));
            } catch (JsonProcessingException e) {
                throw new FormatException(file + ": not valid JSON: " + e.getOriginalMessage() + " at line "
                        + e.getLocation().getLineNr() + "; download the file again");
            } catch (IOException e) {
                throw new FormatException(file + ": cannot be read: " + e.getMessage(), e);
            }
            if (json == null || !json.isObject()) {
                throw new FormatException(file + ": expected a JSON object; download the file again");
            }
            return json;
        }

        private String where() {
            return object.isEmpty() ? file.toString() : file + ": " + object;
        }

        private void requireObject() {
            if (!json.isObject()) {
                throw new FormatException(where() + " is " + json + ", expected a JSON object");
            }
        }

        PanAndScanSettings panAndScan() {
            requireObject();
            JsonNode on = json.path(PanAndScanSettings.ON);
            if (json.hasNonNull(PanAndScanSettings.ON) && !on.isBoolean()) {
                throw new FormatException(where() + ": do_pan_and_scan is " + on + ", expected true or false");
            }
            PanAndScan usual = PanAndScan.DEFAULT;
            return new PanAndScanSettings(
                    on.asBoolean(false),
                    new PanAndScan(
                            count(PanAndScanSettings.MIN_CROP_SIZE, usual.minCropSize()),
                            count(PanAndScanSettings.MAX_CROPS, usual.maxCrops()),
                            json.hasNonNull(PanAndScanSettings.MIN_RATIO)
                                    ? positive(PanAndScanSettings.MIN_RATIO)
                                    : usual.minRatio()));
        }

        private int count(String key, int usual) {
            if (!json.hasNonNull(key)) {
                return usual;
            }
            JsonNode value = json.get(key);
            if (!value.isInt() || value.intValue() < 1) {
                throw new FormatException(
                        where() + ": " + key + " is " + value + ", expected a whole number from 1 on");
            }
            return value.intValue();
        }

        /** The whole file, with other values of these keys. */
        Map<String, Object> with(Map<String, Object> keys) {
            Map<String, Object> changed = map(json);
            changed.putAll(keys);
            if (object.isEmpty()) {
                return changed;
            }
            Map<String, Object> whole = map(parse(file));
            whole.put(object, changed);
            return whole;
        }

        private static Map<String, Object> map(JsonNode object) {
            Map<String, Object> map = new LinkedHashMap<>();
            object.properties().forEach(entry -> map.put(entry.getKey(), entry.getValue()));
            return map;
        }

        ImagePreprocessor read() {
            requireObject();
            for (Map.Entry<String, JsonNode> entry : json.properties()) {
                if (!entry.getValue().isNull()) {
                    check(entry.getKey(), entry.getValue());
                }
            }
            panAndScan(); // what is wrong in it is told before a run that would write it again at its end
            JsonNode size = get("size");
            if (!size.isObject()) {
                throw refused("size", size, "an object with height and width");
            }
            for (Map.Entry<String, JsonNode> entry : size.properties()) {
                if (!Set.of("height", "width").contains(entry.getKey())
                        && !entry.getValue().isNull()) {
                    throw refused("size", size, "height and width alone");
                }
            }
            if (!isSize(side(size, "height"), side(size, "width"))) {
                throw refused("size", size, SIZES);
            }
            // transformers: IMAGENET_STANDARD_MEAN and _STD, and 1/255, where the file is silent
            return new ImagePreprocessor(
                    side(size, "height"),
                    side(size, "width"),
                    json.hasNonNull("rescale_factor") ? positive("rescale_factor") : 1 / 255.0,
                    channels("image_mean", false),
                    channels("image_std", true),
                    Resize.Precision.TORCHVISION);
        }

        private void check(String key, JsonNode value) {
            if (MUST_BE_TRUE.contains(key)) {
                expect(key, value, value.isBoolean() && value.booleanValue(), "true");
            } else if (MUST_BE_FALSE.contains(key)) {
                expect(key, value, value.isBoolean() && !value.booleanValue(), "false");
            } else if (key.equals("resample")) {
                expect(key, value, value.isInt() && value.intValue() == BILINEAR, "2 (bilinear)");
            } else if (key.equals("image_processor_type")) {
                expect(key, value, value.isTextual() && CLASSES.contains(value.textValue()), "Gemma3ImageProcessor");
            } else if (key.equals("data_format")) {
                expect(key, value, value.asText().equals("channels_first"), "channels_first");
            } else if (!READ.contains(key) && !IGNORED.containsKey(key)) {
                throw new FormatException(
                        where() + ": " + key + " = " + value + " is not known to this version, so the images "
                                + "might come out wrong; remove the key if it has no effect for Gemma 3");
            }
        }

        private void expect(String key, JsonNode value, boolean holds, String expected) {
            if (!holds) {
                throw refused(key, value, expected);
            }
        }

        private FormatException refused(String key, JsonNode value, String expected) {
            return new FormatException(where() + ": " + key + " is " + value + ", expected " + expected
                    + ": nothing else is supported for Gemma 3");
        }

        private JsonNode get(String key) {
            JsonNode value = json.get(key);
            if (value == null || value.isNull()) {
                throw new FormatException(where() + ": " + key + " is missing");
            }
            return value;
        }

        private int side(JsonNode size, String key) {
            JsonNode side = size.path(key);
            if (!side.isInt() || side.intValue() < 1 || side.intValue() > Limits.MAX_SIDE) {
                throw refused("size." + key, side, "an integer from 1 to " + Limits.MAX_SIDE);
            }
            return side.intValue();
        }

        private double positive(String key) {
            JsonNode value = json.get(key);
            if (!value.isNumber() || !(value.doubleValue() > 0) || Double.isInfinite(value.doubleValue())) {
                throw refused(key, value, "a positive number");
            }
            return value.doubleValue();
        }

        private List<Double> channels(String key, boolean notZero) {
            if (!json.hasNonNull(key)) {
                return List.of(0.5, 0.5, 0.5);
            }
            JsonNode value = json.get(key);
            Double[] channels = new Double[3];
            if (value.isNumber()) {
                Arrays.fill(channels, value.doubleValue());
            } else if (value.isArray() && value.size() == 3) {
                for (int c = 0; c < 3; c++) {
                    channels[c] = value.get(c).isNumber() ? value.get(c).doubleValue() : Double.NaN;
                }
            } else {
                throw refused(key, value, "3 numbers");
            }
            for (double channel : channels) {
                if (Double.isNaN(channel) || Double.isInfinite(channel) || notZero && channel == 0) {
                    throw refused(key, value, notZero ? "3 numbers other than 0" : "3 numbers");
                }
            }
            return List.of(channels);
        }
    }
}
