package lapidary.image;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.NoSuchFileException;
import lapidary.format.FormatException;

/**
 * Encoded images to RGB: PNG, JPEG, WebP, GIF and BMP, told by their first bytes and never by a name.
 *
 * <p>Other colour modes become RGB as Pillow's {@code convert("RGB")} makes them: grey is repeated, a palette is looked
 * up, alpha is dropped without blending, 16-bit grey is clipped at 255 and not scaled, 16-bit colour keeps its high byte,
 * ICC profiles are ignored. Of an animation the first frame counts. Stateless, so any number of threads may decode.
 */
public final class ImageDecoder {
    private static final String FORMATS = "PNG, JPEG, WebP, GIF or BMP";

    private ImageDecoder() {}

    /** Decodes an image, turned as its Exif orientation says. */
    public static Rgb decode(ImageSource source) {
        return decode(source, true);
    }

    /**
     * @param applyExif whether to turn the image as its Exif orientation says, as Hugging Face's datasets does
     * @throws FormatException if the source cannot be read or is not an image that this class decodes; it names the source
     */
    public static Rgb decode(ImageSource source, boolean applyExif) {
        byte[] bytes;
        try {
            bytes = source.bytes();
        } catch (NoSuchFileException e) {
            throw new FormatException(
                    source.name() + ": there is no such image file; correct the path, or leave the picture out", e);
        } catch (IOException e) {
            throw new FormatException(source.name() + ": the image cannot be read: " + e.getMessage(), e);
        }
        return decode(bytes, source.name(), applyExif);
    }

    /**
     * @param name what to call the image in an error
     * @throws FormatException if these bytes are not an image that this class decodes, or a damaged or truncated one
     */
    public static Rgb decode(byte[] bytes, String name, boolean applyExif) {
        try {
            Decoded decoded = decode(bytes);
            return applyExif ? Orientation.apply(decoded.image(), decoded.orientation()) : decoded.image();
        } catch (ImageFault e) {
            throw new FormatException(name + ": " + e.getMessage(), e);
        }
    }

    private static Decoded decode(byte[] bytes) throws ImageFault {
        if (bytes.length == 0) {
            throw ImageFault.unsupported("the image is empty (0 bytes), expected " + FORMATS);
        }
        if (Bytes.matches(bytes, 0, PngDecoder.MAGIC)) {
            return PngDecoder.decode(bytes);
        }
        if (Bytes.matches(bytes, 0, JpegDecoder.MAGIC)) {
            return JpegDecoder.decode(bytes);
        }
        if (WebpDecoder.matches(bytes)) {
            return WebpDecoder.decode(bytes);
        }
        if (Bytes.matches(bytes, 0, "GIF87a") || Bytes.matches(bytes, 0, "GIF89a")) {
            return GifDecoder.decode(bytes);
        }
        if (Bytes.matches(bytes, 0, "BM")) {
            return BmpDecoder.decode(bytes);
        }
        throw ImageFault.unsupported(describe(bytes) + ", expected " + FORMATS);
    }

    /** What bytes that are no image of ours seem to be. */
    private static String describe(byte[] bytes) {
        if (Bytes.matches(bytes, 4, "ftyp")) {
            return "this is a HEIC, AVIF or video file (ISO container)";
        }
        if (Bytes.matches(bytes, 0, "II*\0") || Bytes.matches(bytes, 0, "MM\0*")) {
            return "this is a TIFF file";
        }
        if (Bytes.matches(bytes, 0, "%PDF")) {
            return "this is a PDF document";
        }
        if (Bytes.matches(bytes, 0, "version https://git-lfs")) {
            return "this is a Git LFS pointer, not the image itself (run git lfs pull)";
        }
        if (Bytes.matches(bytes, 0, "PK\u0003\u0004")) {
            return "this is a ZIP archive";
        }
        if (Bytes.matches(bytes, 0, "\0\0\1\0")) {
            return "this is an ICO file";
        }
        if (Bytes.matches(bytes, 0, "\u00ff\n") || Bytes.matches(bytes, 4, "JXL ")) {
            return "this is a JPEG XL file";
        }
        if (Bytes.matches(bytes, 4, "jP  ") || Bytes.matches(bytes, 0, "\u00ff\u004f\u00ff\u0051")) {
            return "this is a JPEG 2000 file";
        }
        String start = new String(bytes, 0, Math.min(bytes.length, 512), StandardCharsets.ISO_8859_1);
        String markup = start.replaceFirst("^\u00ef\u00bb\u00bf", "").stripLeading();
        if (markup.startsWith("<")) {
            if (markup.contains("<svg")) {
                return "this is an SVG drawing";
            }
            return markup.regionMatches(true, 0, "<!doctype html", 0, 14)
                            || markup.regionMatches(true, 0, "<html", 0, 5)
                    ? "this is an HTML page, perhaps an error page of a download"
                    : "this is an XML or HTML file";
        }
        StringBuilder hex = new StringBuilder();
        for (int i = 0; i < Math.min(bytes.length, 8); i++) {
            hex.append(String.format(" %02x", bytes[i]));
        }
        return "this is no known image format (" + bytes.length + " bytes, starting with" + hex + ")";
    }
}
