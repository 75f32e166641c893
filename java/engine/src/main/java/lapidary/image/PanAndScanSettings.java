package lapidary.image;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import lapidary.format.AtomicFile;
import lapidary.format.JsonWriter;

/**
 * What the image processor's file in a folder says of pan-and-scan. Beside an adapter it says how the adapter was trained.
 *
 * <p>Transformers' {@code Gemma3Processor} reads these keys and then overrules them: it cuts pictures only where its caller
 * passes {@code do_pan_and_scan=True}. Here they count wherever pictures are asked about.
 *
 * @param isOn whether long pictures are shown in parts, too
 * @param cuts where they are cut if it is on
 */
public record PanAndScanSettings(boolean isOn, PanAndScan cuts) {
    /** What files that say nothing mean. */
    public static final PanAndScanSettings OFF = new PanAndScanSettings(false, PanAndScan.DEFAULT);

    static final String ON = "do_pan_and_scan";
    static final String MIN_CROP_SIZE = "pan_and_scan_min_crop_size";
    static final String MAX_CROPS = "pan_and_scan_max_num_crops";
    static final String MIN_RATIO = "pan_and_scan_min_ratio_to_activate";

    /**
     * Reads the file that {@link ImagePreprocessor#read} reads; what is null in it is as Transformers has it where its caller
     * says nothing.
     *
     * @return empty where the folder has no such file
     * @throws lapidary.format.FormatException where a value is none of its kind; it names file and key
     */
    public static Optional<PanAndScanSettings> find(Path folder) {
        return ImagePreprocessor.Settings.find(folder).map(ImagePreprocessor.Settings::panAndScan);
    }

    /**
     * Has the file in a folder say this, as it does for Transformers, where it says something else; nothing where the folder
     * has none.
     */
    public void write(Path folder) {
        ImagePreprocessor.Settings.find(folder)
                .filter(settings -> !settings.panAndScan().equals(this))
                .ifPresent(settings -> {
                    Map<String, Object> keys = new LinkedHashMap<>();
                    keys.put(ON, isOn);
                    keys.put(MIN_CROP_SIZE, cuts.minCropSize());
                    keys.put(MAX_CROPS, cuts.maxCrops());
                    keys.put(MIN_RATIO, cuts.minRatio());
                    AtomicFile.writeString(settings.file(), JsonWriter.indented(settings.with(keys)) + "\n");
                });
    }

    /** The same, switched on or off. */
    public PanAndScanSettings with(boolean on) {
        return new PanAndScanSettings(on, cuts);
    }

    /** Where pictures are cut: nowhere where it is off. */
    public PanAndScan inUse() {
        return isOn ? cuts : PanAndScan.NONE;
    }
}
