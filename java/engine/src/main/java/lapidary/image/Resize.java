package lapidary.image;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Bilinear resize with antialiasing of 8-bit RGB, in the integer arithmetic of the two libraries that Hugging Face's
 * image processors use, so that every byte is theirs.
 *
 * <p>Each axis on its own, rows first, rounded to 8 bits in between; an axis that keeps its length is not touched. An
 * output pixel's weights are a triangle over the source pixels, twice the scale wide when shrinking, made in double and
 * rounded to integers of {@code precision} binary places. The paths differ in that precision only.
 *
 * @see <a href="https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c">Pillow's resampling</a>;
 *     torch's is {@code aten/src/ATen/native/cpu/UpSampleKernelAVXAntialias.h}
 */
public final class Resize {

    /** Whose rounding of the weights. */
    public enum Precision {
        /** torchvision on a CPU with AVX2, AVX-512 or NEON: the most places with which an axis's weights fit int16. */
        TORCHVISION,
        /** Pillow: always 22 places. */
        PILLOW
    }

    private Resize() {}

    /**
     * @throws IllegalArgumentException if a side of the result is below 1 or above 65,535
     */
    public static Rgb bilinear(Rgb image, int width, int height, Precision precision) {
        if (width < 1
                || height < 1
                || width > Limits.MAX_SIDE
                || height > Limits.MAX_SIDE
                || (long) width * height > Limits.MAX_PIXELS) {
            throw new IllegalArgumentException(
                    "[resize] asked for " + width + " x " + height + " pixels, expected sides of 1 to "
                            + Limits.MAX_SIDE + " and at most " + Limits.MAX_PIXELS + " pixels");
        }
        if (image.width() == width && image.height() == height) {
            return image;
        }
        try (NativeImage pixels = new NativeImage()) {
            MemorySegment planes = pixels.resize(image, width, height, precision);
            return Rgb.ofPlanes(width, height, planes.toArray(ValueLayout.JAVA_BYTE));
        }
    }
}
