package lapidary.image;

/** What is wrong with an encoded image, and the cure. Decoders throw it; {@link ImageDecoder} adds the image's name. */
final class ImageFault extends Exception {
    private static final long serialVersionUID = 1;

    private ImageFault(String message) {
        super(message, null, false, false);
    }

    static ImageFault truncated(String format, String where) {
        return new ImageFault(format + " is truncated: the data ends " + where
                + "; copy or download the file again, or leave the picture out");
    }

    static ImageFault damaged(String format, String what) {
        return new ImageFault(format + " is damaged: " + what + "; replace the file, or leave the picture out");
    }

    static ImageFault unsupported(String what) {
        return new ImageFault(what + "; convert the file to PNG or to baseline JPEG");
    }

    static ImageFault tooLarge(String what) {
        return new ImageFault(what + "; make the image smaller");
    }
}
