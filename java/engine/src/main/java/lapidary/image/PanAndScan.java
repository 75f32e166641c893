package lapidary.image;

import java.util.ArrayList;
import java.util.List;

/**
 * Where a long image is cut into further views, beside the view of the whole.
 *
 * @param minCropSize pixels that a crop must have on both sides
 * @param maxCrops crops of one image; 0 for {@link #NONE}
 * @param minRatio long side over short side from which on an image is cut
 */
public record PanAndScan(int minCropSize, int maxCrops, double minRatio) {
    /** What {@code Gemma3Processor} passes when its caller only switches pan-and-scan on. */
    public static final PanAndScan DEFAULT = new PanAndScan(256, 4, 1.2);

    /** No image is cut. */
    public static final PanAndScan NONE = new PanAndScan(256, 0, 1.2);

    /** A part of an image, in pixels; the last one of a row may be narrower than its neighbours. */
    public record Crop(int x, int y, int width, int height) {}

    public PanAndScan {
        if (minCropSize < 1 || maxCrops < 0 || !(minRatio > 0)) {
            throw new IllegalArgumentException("[pan_and_scan] min_crop_size " + minCropSize + ", max_num_crops "
                    + maxCrops + ", min_ratio_to_activate " + minRatio + ", expected positive numbers, or no crops");
        }
    }

    /** The crops of an image of this size, from left to right or from top to bottom; empty if it is not cut. */
    public List<Crop> crops(int width, int height) {
        int longSide = Math.max(width, height);
        int shortSide = Math.min(width, height);
        double ratio = (double) longSide / shortSide;
        if (maxCrops == 0 || ratio < minRatio) {
            return List.of();
        }
        int count = Math.min(maxCrops, Math.max(2, Math.min(longSide / minCropSize, (int) Math.floor(ratio + 0.5))));
        int size = Math.ceilDiv(longSide, count);
        if (Math.min(size, shortSide) < minCropSize) {
            return List.of();
        }
        List<Crop> crops = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            int length = Math.min(size, longSide - i * size);
            if (length < 1) {
                break; // more crops than pixels to fill them
            }
            crops.add(width >= height ? new Crop(i * size, 0, length, height) : new Crop(0, i * size, width, length));
        }
        return List.copyOf(crops);
    }
}
