package lapidary.image;

import java.io.ByteArrayOutputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import lapidary.ffi.image.ImageTable;
import lapidary.ffi.image.im_scan;

/**
 * JPEG of 8 bits, Huffman coded: baseline, extended and progressive; grey, RGB, YCbCr, CMYK and YCCK.
 *
 * <p>Arithmetic is libjpeg-turbo's with its default settings, which Pillow uses: same bytes. Stricter than Pillow in one
 * point: where pixels are missing or do not decode, it paints grey or noise with a warning that nobody sees; this throws.
 *
 * @see <a href="https://www.w3.org/Graphics/JPEG/itu-t81.pdf">ITU-T T.81</a>
 */
final class JpegDecoder {
    static final String MAGIC = "\u00ff\u00d8\u00ff";

    private static final String JPEG = "JPEG";
    private static final String XMP = "http://ns.adobe.com/xap/1.0/\0";
    private static final int DHT = 0xc4;
    private static final int RST0 = 0xd0;
    private static final int SOI = 0xd8;
    private static final int EOI = 0xd9;
    private static final int SOS = 0xda;
    private static final int DQT = 0xdb;
    private static final int DRI = 0xdd;
    private static final int APP0 = 0xe0;
    private static final int APP1 = 0xe1;
    private static final int APP14 = 0xee;
    private static final int TEM = 0x01;

    private final Bytes in;
    private final NativeImage pixels;
    private final Quantisers[] quantisers = new Quantisers[4];
    private final boolean[] hasDcCodes = new boolean[4];
    private final boolean[] hasAcCodes = new boolean[4];
    private final ByteArrayOutputStream exif = new ByteArrayOutputStream();
    private byte[] xmp = {};
    private int restartInterval;
    private boolean jfif;
    private boolean adobe;
    private int adobeTransform;

    private JpegComponent[] components = {};
    private boolean progressive;
    private int width;
    private int height;
    private int across; // largest sampling factors
    private int down;

    /** Where in the file a table of 64 quantisers is, of two bytes each where it is wide. */
    private record Quantisers(int position, boolean wide) {}

    private JpegDecoder(byte[] bytes, NativeImage pixels) {
        this.in = new Bytes(JPEG, bytes, 2, bytes.length);
        this.pixels = pixels;
    }

    static Decoded decode(byte[] bytes) throws ImageFault {
        try (NativeImage pixels = new NativeImage()) {
            JpegDecoder decoder = new JpegDecoder(bytes, pixels);
            pixels.jpegFile(bytes);
            decoder.readSegments();
            Rgb image = pixels.jpegPixels(decoder.width, decoder.height, decoder.space());
            return new Decoded(image, Orientation.of(decoder.exif.toByteArray(), decoder.xmp));
        }
    }

    /** Until the end marker, or until every pixel of a sequential frame is there. */
    private void readSegments() throws ImageFault {
        while (true) {
            int marker = nextMarker(in);
            if (marker == EOI) {
                if (!complete()) {
                    throw ImageFault.damaged(
                            JPEG, components.length == 0 ? "it has no frame" : "a colour component is missing");
                }
                return;
            }
            if (marker == SOI || marker == TEM || marker >= RST0 && marker < RST0 + 8) {
                continue; // without a length
            }
            int length = in.u16be("a segment header");
            if (length < 2) {
                throw ImageFault.damaged(JPEG, "a segment says that it has " + length + " bytes");
            }
            in.need(length - 2L, "a segment");
            Bytes segment = new Bytes(JPEG, in.data, in.position, in.position + length - 2);
            in.position += length - 2;
            if (marker == SOS) {
                scan(segment);
                if (!progressive && complete()) {
                    return;
                }
            } else {
                segment(marker, segment);
            }
        }
    }

    private void segment(int marker, Bytes segment) throws ImageFault {
        switch (marker) {
            case DQT:
                quantisers(segment);
                break;
            case DHT:
                huffmanTables(segment);
                break;
            case DRI:
                restartInterval = segment.u16be("the restart interval");
                break;
            case APP0:
                jfif |= segment.remaining() >= 14 && Bytes.matches(in.data, segment.position, "JFIF\0");
                break;
            case APP1:
                applicationData(segment);
                break;
            case APP14:
                if (segment.remaining() >= 12 && Bytes.matches(in.data, segment.position, "Adobe")) {
                    adobe = true;
                    adobeTransform = in.data[segment.position + 11] & 0xff;
                }
                break;
            case 0xc0:
            case 0xc1:
            case 0xc2:
                frame(marker, segment);
                break;
            default:
                if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc8 && marker != 0xcc) {
                    throw ImageFault.unsupported(
                            String.format("%s JPEG (marker ff%02x) is not supported", kind(marker), marker));
                }
        }
    }

    private static String kind(int marker) {
        if (marker == 0xc3) {
            return "lossless";
        }
        return marker > 0xc8 ? "arithmetic-coded" : "hierarchical";
    }

    private void applicationData(Bytes segment) {
        if (segment.remaining() >= 6 && Bytes.matches(in.data, segment.position, "Exif\0\0")) {
            int from = exif.size() == 0 ? segment.position : segment.position + 6;
            exif.write(in.data, from, segment.end - from);
        } else if (segment.remaining() >= XMP.length() && Bytes.matches(in.data, segment.position, XMP)) {
            xmp = Arrays.copyOfRange(in.data, segment.position + XMP.length(), segment.end);
        }
    }

    private void quantisers(Bytes segment) throws ImageFault {
        while (segment.remaining() > 0) {
            int head = segment.u8("a quantiser table");
            if ((head & 15) > 3 || head >> 4 > 1) {
                throw ImageFault.damaged(
                        JPEG, "a quantiser table has number " + (head & 15) + ", precision " + (head >> 4));
            }
            boolean wide = head >> 4 == 1;
            quantisers[head & 15] = new Quantisers(segment.position, wide);
            segment.skip(wide ? 128 : 64, "a quantiser table");
        }
    }

    private void huffmanTables(Bytes segment) throws ImageFault {
        while (segment.remaining() > 0) {
            int head = segment.u8("a Huffman table");
            if ((head & 15) > 3 || head >> 4 > 1) {
                throw ImageFault.damaged(JPEG, "a Huffman table has number " + (head & 15) + ", class " + (head >> 4));
            }
            int position = segment.position;
            int[] counts = new int[17];
            int sum = 0;
            for (int i = 1; i <= 16; i++) {
                counts[i] = segment.u8("a Huffman table");
                sum += counts[i];
            }
            if (sum > 256) {
                throw ImageFault.damaged(JPEG, "a Huffman table has " + sum + " symbols");
            }
            segment.skip(sum, "a Huffman table");
            checkCodes(counts);
            pixels.jpegCodes(head >> 4 == 1, head & 15, position);
            (head >> 4 == 0 ? hasDcCodes : hasAcCodes)[head & 15] = true;
        }
    }

    /** @param counts of the codes of 1 to 16 bits, from index 1 */
    private static void checkCodes(int[] counts) throws ImageFault {
        int code = 0; // the next one of this length
        for (int length = 1; length <= 16; length++) {
            code += counts[length];
            if (code > 1 << length) {
                throw ImageFault.damaged(JPEG, "a Huffman table has too many codes of " + length + " bits");
            }
            code <<= 1;
        }
    }

    private void frame(int marker, Bytes segment) throws ImageFault {
        if (components.length > 0) {
            throw ImageFault.damaged(JPEG, "it has two frames");
        }
        progressive = marker == 0xc2;
        int bits = segment.u8("the frame header");
        height = segment.u16be("the frame header");
        width = segment.u16be("the frame header");
        int count = segment.u8("the frame header");
        if (bits != 8) {
            throw ImageFault.unsupported("JPEG with " + bits + " bits a sample is not supported");
        }
        if (count != 1 && count != 3 && count != 4) {
            throw ImageFault.unsupported("JPEG with " + count + " colour components is not supported");
        }
        JpegComponent[] found = new JpegComponent[count];
        for (int i = 0; i < count; i++) {
            int id = segment.u8("the frame header");
            int factors = segment.u8("the frame header");
            found[i] = new JpegComponent(id, factors >> 4, factors & 15, segment.u8("the frame header"));
            if (found[i].across < 1
                    || found[i].across > 4
                    || found[i].down < 1
                    || found[i].down > 4
                    || found[i].tableNumber > 3) {
                throw ImageFault.damaged(
                        JPEG,
                        "a component has sampling " + found[i].across + " x " + found[i].down + " and quantiser table "
                                + found[i].tableNumber);
            }
            across = Math.max(across, found[i].across);
            down = Math.max(down, found[i].down);
        }
        double samples = 0;
        for (JpegComponent c : found) {
            if (across % c.across != 0 || down % c.down != 0) {
                throw ImageFault.unsupported("JPEG with sampling factors " + c.across + " x " + c.down + " beside "
                        + across + " x " + down + " is not supported");
            }
            samples += (double) c.across * c.down / (across * down);
        }
        Limits.check(JPEG, width, height, 3 + samples * (progressive ? 3 : 1));
        checkLength(found);
        pixels.jpegFrame(found, width, height, progressive);
        components = found;
    }

    /** Whether the file can hold all blocks of 8 x 8: a Huffman code of each one's DC has a bit at least. */
    private void checkLength(JpegComponent[] found) throws ImageFault {
        long blocks = 0;
        for (JpegComponent c : found) {
            blocks += (long) Math.ceilDiv(Math.ceilDiv(width * c.across, across), 8)
                    * Math.ceilDiv(Math.ceilDiv(height * c.down, down), 8);
        }
        if (blocks / 8 > in.remaining()) {
            throw ImageFault.truncated(
                    JPEG, "after " + in.end + " bytes, too few for " + width + " x " + height + " pixels");
        }
    }

    /** Whether each component has had a scan. */
    private boolean complete() {
        for (JpegComponent c : components) {
            if (!c.isBegun) {
                return false;
            }
        }
        return components.length > 0;
    }

    private void scan(Bytes segment) throws ImageFault {
        if (components.length == 0) {
            throw ImageFault.damaged(JPEG, "a scan comes before the frame header");
        }
        int count = segment.u8("a scan header");
        List<JpegComponent> chosen = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            JpegComponent c = component(segment.u8("a scan header"));
            int tables = segment.u8("a scan header");
            if (chosen.contains(c) || tables >> 4 > 3 || (tables & 15) > 3) {
                throw ImageFault.damaged(JPEG, "a scan header names component " + c.id + " twice or a table above 3");
            }
            c.dcTable = tables >> 4;
            c.acTable = tables & 15;
            chosen.add(c);
        }
        int first = segment.u8("a scan header");
        int last = segment.u8("a scan header");
        int bits = segment.u8("a scan header");
        JpegScan scan = progressive
                ? new JpegScan(true, first, last, bits >> 4, bits & 15)
                : new JpegScan(false, 0, 63, 0, 0); // what the header says here is often wrong, and has no meaning
        if (chosen.isEmpty()) {
            throw ImageFault.damaged(JPEG, "a scan has no component");
        }
        for (JpegComponent c : chosen) {
            checkProgress(c, scan, count);
            if (!c.isBegun) {
                Quantisers table = quantisers[c.tableNumber];
                if (table == null) {
                    throw ImageFault.damaged(JPEG, "quantiser table " + c.tableNumber + " is missing");
                }
                pixels.jpegQuantisers(List.of(components).indexOf(c), table.position(), table.wide());
                c.isBegun = true;
            }
            checkTables(c, scan);
        }
        coefficients(chosen, scan);
    }

    /** What follows the scan's header, up to a marker. */
    private void coefficients(List<JpegComponent> chosen, JpegScan scan) throws ImageFault {
        MemorySegment header = pixels.newScan();
        im_scan.position(header, in.position);
        im_scan.components(header, chosen.size());
        for (int i = 0; i < chosen.size(); i++) {
            JpegComponent c = chosen.get(i);
            im_scan.component(header)
                    .setAtIndex(ValueLayout.JAVA_INT, i, List.of(components).indexOf(c));
            im_scan.dc_table(header).setAtIndex(ValueLayout.JAVA_INT, i, c.dcTable);
            im_scan.ac_table(header).setAtIndex(ValueLayout.JAVA_INT, i, c.acTable);
        }
        im_scan.restart_interval(header, restartInterval);
        im_scan.first(header, scan.first());
        im_scan.last(header, scan.last());
        im_scan.high(header, scan.high());
        im_scan.low(header, scan.low());
        boolean good = pixels.jpegScan(header);
        in.position = (int) im_scan.position(header);
        if (!good) {
            throw fault(header);
        }
    }

    private ImageFault fault(MemorySegment scan) {
        int kind = im_scan.fault(scan);
        int value = im_scan.value(scan);
        if (kind == ImageTable.IM_ENDS_IN_PIXELS()) {
            return ImageFault.truncated(
                    JPEG,
                    "at byte " + in.position + " of " + in.end + ", near row " + im_scan.row(scan) + " of " + height);
        }
        if (kind == ImageTable.IM_ENDS_IN_MARKER()) {
            return ImageFault.truncated(JPEG, "at byte " + in.end + ", in a segment header");
        }
        if (kind == ImageTable.IM_OTHER_MARKER()) {
            return ImageFault.damaged(
                    JPEG,
                    String.format(
                            "there is a marker ff%02x near byte %d where the restart marker ff%02x belongs",
                            value, in.position, im_scan.expected(scan)));
        }
        if (kind == ImageTable.IM_DC_BITS()) {
            return ImageFault.damaged(JPEG, "a DC coefficient has " + value + " bits");
        }
        if (kind == ImageTable.IM_REFINED_BITS()) {
            return ImageFault.damaged(JPEG, "a refining scan holds a coefficient of " + value + " bits");
        }
        return ImageFault.damaged(
                JPEG,
                "the pixels near byte " + in.position
                        + (kind == ImageTable.IM_LONG_RUN()
                                ? " hold a run beyond the end of a block"
                                : " hold an unknown Huffman code"));
    }

    private JpegComponent component(int id) throws ImageFault {
        for (JpegComponent c : components) {
            if (c.id == id) {
                return c;
            }
        }
        throw ImageFault.damaged(JPEG, "a scan header names component " + id + ", which the frame has not");
    }

    /** Each scan has to add what is not there yet: this also bounds their number. */
    private void checkProgress(JpegComponent c, JpegScan scan, int count) throws ImageFault {
        if (!progressive) {
            if (c.isBegun) {
                throw ImageFault.damaged(JPEG, "component " + c.id + " has two scans");
            }
            return;
        }
        boolean dc = scan.first() == 0;
        boolean valid = scan.last() <= 63
                && (dc ? scan.last() == 0 : scan.last() >= scan.first() && count == 1)
                && scan.low() <= ImageTable.IM_MAX_LOW()
                && (scan.high() == 0 || scan.low() == scan.high() - 1)
                && (dc || c.known[0] >= 0);
        for (int k = scan.first(); valid && k <= scan.last(); k++) {
            valid = scan.high() == 0 ? c.known[k] < 0 : c.known[k] == scan.high();
            c.known[k] = scan.low();
        }
        if (!valid) {
            throw ImageFault.damaged(
                    JPEG,
                    "a scan of component " + c.id + ", coefficients " + scan.first() + " to " + scan.last() + ", bits "
                            + scan.high() + " to " + scan.low() + ", does not follow from the scans before");
        }
    }

    private void checkTables(JpegComponent c, JpegScan scan) throws ImageFault {
        boolean needsDc = scan.first() == 0 && scan.high() == 0;
        boolean needsAc = scan.last() > 0;
        if (needsDc && !hasDcCodes[c.dcTable] || needsAc && !hasAcCodes[c.acTable]) {
            throw ImageFault.damaged(JPEG, "a Huffman table of component " + c.id + " is missing");
        }
    }

    /** What the components mean: libjpeg's rules. */
    private int space() {
        if (components.length == 1) {
            return ImageTable.IM_GREY();
        }
        if (components.length == 4) {
            return adobe && adobeTransform != 0 ? ImageTable.IM_YCCK() : ImageTable.IM_CMYK();
        }
        boolean named = components[0].id == 'R' && components[1].id == 'G' && components[2].id == 'B';
        boolean rgb = !jfif && (adobe ? adobeTransform == 0 : named);
        return rgb ? ImageTable.IM_RGB() : ImageTable.IM_YCC();
    }

    /** Skips to the next marker and over it; its second byte. */
    private static int nextMarker(Bytes in) throws ImageFault {
        while (true) {
            while (in.u8("a segment header") != 0xff) {} // stray bytes between segments do no harm
            int marker = 0xff;
            while (marker == 0xff) {
                marker = in.u8("a segment header");
            }
            if (marker != 0) {
                return marker;
            }
        }
    }
}
