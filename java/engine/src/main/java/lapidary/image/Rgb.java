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
}
