package lapidary.image;

import java.util.Arrays;

/**
 * One colour plane of a frame while it is predicted and filtered: whole macroblocks, with a border on the left, above and
 * on the right that holds what lies outside the frame.
 */
final class Vp8Plane {
    private static final int ABOVE = 127;
    private static final int LEFT = 129;

    /** Columns before the first of the frame; one is used, more would only align. */
    static final int BORDER = 1;

    /** What a 4 x 4 block may look at to the right of the frame. */
    private static final int RIGHT = 4;

    final int stride;
    final byte[] samples;

    Vp8Plane(int width, int height) {
        stride = BORDER + width + RIGHT;
        samples = new byte[stride * (height + 1)];
        Arrays.fill(samples, 0, stride, (byte) ABOVE);
        for (int y = 1; y <= height; y++) {
            samples[y * stride] = (byte) LEFT;
        }
    }

    int at(int x, int y) {
        return (y + 1) * stride + BORDER + x;
    }
}
