package lapidary.image;

/**
 * Pixels of an image: 8-bit red, green, blue, interleaved, rows from top to bottom without padding.
 *
 * @param pixels [height, width, 3]; owned by this record, not to be changed
 */
public record Rgb(int width, int height, byte[] pixels) {
    public Rgb {
        if (width < 1 || height < 1 || 3L * width * height != pixels.length) {
            throw new IllegalArgumentException("image of " + width + " x " + height + " with " + pixels.length
                    + " bytes, expected width * height * 3");
        }
    }

    /** @param planes [3, height, width] */
    static Rgb ofPlanes(int width, int height, byte[] planes) {
        byte[] pixels = new byte[planes.length];
        int plane = width * height;
        for (int i = 0; i < plane; i++) {
            pixels[3 * i] = planes[i];
            pixels[3 * i + 1] = planes[i + plane];
            pixels[3 * i + 2] = planes[i + 2 * plane];
        }
        return new Rgb(width, height, pixels);
    }
}
