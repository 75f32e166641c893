package lapidary.image;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Objects;

/** A resized picture as codes of 0 to 255, a quarter of its values' size, with what makes values of them. */
public final class CodedPixels implements Pixels {

    /** Values that are made at a time, of codes that a processor's own cache holds. */
    private static final int AT_A_TIME = 1 << 15;

    private final ImagePreprocessor preprocessor;
    private final byte[] codes; // [3, height, width]

    CodedPixels(ImagePreprocessor preprocessor, byte[] codes) {
        this.preprocessor = preprocessor;
        this.codes = codes;
    }

    @Override
    public int length() {
        return codes.length;
    }

    @Override
    public long heapBytes() {
        return codes.length;
    }

    @Override
    public void values(int from, MemorySegment floats) {
        int end = from + Math.toIntExact(floats.byteSize() / Float.BYTES);
        Objects.checkFromToIndex(from, end, codes.length);
        int plane = codes.length / 3;
        try (NativeImage image = new NativeImage()) {
            MemorySegment some = image.allocate(Math.min(end - from, AT_A_TIME));
            int n;
            for (int at = from; at < end; at += n) {
                int channel = at / plane;
                n = Math.min(Math.min(AT_A_TIME, end - at), (channel + 1) * plane - at);
                MemorySegment.copy(codes, at, some, ValueLayout.JAVA_BYTE, 0, n);
                MemorySegment to = floats.asSlice((long) Float.BYTES * (at - from), (long) Float.BYTES * n);
                preprocessor.normalise(image, channel, to, some.asSlice(0, n));
            }
        }
    }

    /** What the model sees, for people. */
    public Rgb picture() {
        return Rgb.ofPlanes(preprocessor.width(), preprocessor.height(), codes);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof CodedPixels pixels
                && preprocessor.equals(pixels.preprocessor)
                && Arrays.equals(codes, pixels.codes);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(codes);
    }
}
