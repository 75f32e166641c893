package lapidary.image;

/** Limits on what a header may ask for, checked before anything is allocated for pixels. */
final class Limits {
    /** Twice Pillow's {@code MAX_IMAGE_PIXELS}: where Pillow raises {@code DecompressionBombError}. */
    static final long MAX_PIXELS = 178_956_970;

    static final int MAX_SIDE = 65_535;

    private Limits() {}

    /**
     * @param width as an unsigned header field, so possibly beyond int
     * @param bytesPerPixel peak bytes that decoding allocates for a pixel, the RGB result included
     */
    static void check(String format, long width, long height, double bytesPerPixel) throws ImageFault {
        if (width < 1 || height < 1) {
            throw ImageFault.damaged(
                    format, "its header says " + width + " x " + height + " pixels, expected at least 1 x 1");
        }
        if (width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS) {
            throw ImageFault.tooLarge(format + " header says " + width + " x " + height
                    + " pixels, expected sides of at most " + MAX_SIDE + " and at most " + MAX_PIXELS + " pixels");
        }
        double bytes = width * height * bytesPerPixel;
        long heap = Runtime.getRuntime().maxMemory();
        if (bytes > heap * 0.75) {
            throw ImageFault.tooLarge(format + " header says " + width + " x " + height + " pixels, which take "
                    + (long) Math.ceil(bytes / (1 << 20)) + " MiB to decode, but the Java heap is limited to "
                    + (heap >> 20)
                    + " MiB (raise it with -Xmx)");
        }
    }
}
