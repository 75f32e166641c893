package lapidary.image;

import java.nio.charset.StandardCharsets;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Exif's orientation tag: where a file says it, and what it does to the pixels.
 *
 * <p>As Pillow's {@code getexif} looks it up: first directory of the Exif block, else the {@code tiff:Orientation} property
 * of the XMP packet. A block that cannot be read says nothing: cameras and editors damage them often.
 *
 * @see <a href="https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf">Exif 2.3, section 4.6.4</a>
 */
final class Orientation {
    static final int UPRIGHT = 1;

    private static final int TAG = 0x0112;
    private static final int SHORT = 3;
    private static final int LONG = 4;
    private static final String EXIF_PREFIX = "Exif\0\0";
    private static final Pattern XMP = Pattern.compile("tiff:Orientation(?:=\"|>)([0-9])");

    private Orientation() {}

    /** The orientation of a file with these blocks, empty where it has none. */
    static int of(byte[] exif, byte[] xmp) {
        int tag = ofExif(exif);
        return tag != 0 ? valid(tag) : valid(ofXmp(xmp));
    }

    private static int valid(int orientation) {
        return orientation >= 1 && orientation <= 8 ? orientation : UPRIGHT;
    }

    private static int ofXmp(byte[] xmp) {
        Matcher matcher = XMP.matcher(new String(xmp, StandardCharsets.ISO_8859_1));
        return matcher.find() ? matcher.group(1).charAt(0) - '0' : 0;
    }

    /** 0 if there is none. */
    private static int ofExif(byte[] exif) {
        int start = 0;
        while (Bytes.matches(exif, start, EXIF_PREFIX)) {
            start += EXIF_PREFIX.length();
        }
        boolean little = Bytes.matches(exif, start, "II*\0");
        if (!little && !Bytes.matches(exif, start, "MM\0*")) {
            return 0;
        }
        try {
            Bytes in = new Bytes("Exif", exif, start + 4, exif.length);
            long directory = little ? in.u32le("header") : in.u32be("header");
            in.position = start;
            in.skip(directory, "header");
            int entries = u16(in, little);
            int found = 0;
            for (int i = 0; i < entries && in.remaining() >= 12; i++) {
                int tag = u16(in, little);
                int type = u16(in, little);
                long count = little ? in.u32le("entry") : in.u32be("entry");
                int next = in.position + 4;
                if (tag == TAG && count == 1 && (type == SHORT || type == LONG)) {
                    long value = type == SHORT ? u16(in, little) : little ? in.u32le("entry") : in.u32be("entry");
                    found = (int) Math.min(value, Integer.MAX_VALUE);
                }
                in.position = next;
            }
            return found;
        } catch (ImageFault e) {
            return 0; // cut off: as good as none
        }
    }

    private static int u16(Bytes in, boolean little) throws ImageFault {
        return little ? in.u16le("entry") : in.u16be("entry");
    }

    /** The image as it is to be looked at. */
    static Rgb apply(Rgb image, int orientation) {
        int w = image.width();
        int h = image.height();
        // where the result's pixel (0, 0) comes from, and how far the source moves for a step right and a step down
        switch (orientation) {
            case 2:
                return move(image, w, h, w - 1, -1, w);
            case 3:
                return move(image, w, h, w * h - 1, -1, -w);
            case 4:
                return move(image, w, h, w * (h - 1), 1, -w);
            case 5:
                return move(image, h, w, 0, w, 1);
            case 6:
                return move(image, h, w, w * (h - 1), -w, 1);
            case 7:
                return move(image, h, w, w * h - 1, -w, -1);
            case 8:
                return move(image, h, w, w - 1, w, -1);
            default:
                return image;
        }
    }

    private static Rgb move(Rgb image, int width, int height, int origin, int right, int down) {
        byte[] from = image.pixels();
        byte[] to = new byte[from.length];
        int at = 0;
        for (int y = 0; y < height; y++) {
            int source = 3 * (origin + y * down);
            for (int x = 0; x < width; x++, at += 3, source += 3 * right) {
                to[at] = from[source];
                to[at + 1] = from[source + 1];
                to[at + 2] = from[source + 2];
            }
        }
        return new Rgb(width, height, to);
    }
}
