package lapidary.hub;

import java.net.URI;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;

/** Texts for people and for addresses. */
final class Text {
    private static final int LONGEST = 300; // characters of a server's text that a message repeats

    private Text() {}

    /** One line without control characters, cut where it is long. */
    static String oneLine(String text) {
        String line = text.replaceAll("[\\p{Cntrl}\\s]+", " ").strip();
        return line.length() <= LONGEST ? line : line.substring(0, LONGEST) + "...";
    }

    /** An address without what may be secret in it: signatures in the query, names before the host. */
    static String shown(URI uri) {
        String port = uri.getPort() < 0 ? "" : ":" + uri.getPort();
        return oneLine(uri.getScheme() + "://" + uri.getHost() + port + uri.getRawPath());
    }

    /** Percent-encodes a path, leaving its slashes. */
    static String path(String path) {
        return segment(path).replace("%2F", "/");
    }

    /** Percent-encodes all that a segment of a path may not hold, slashes included. */
    static String segment(String segment) {
        return URLEncoder.encode(segment, StandardCharsets.UTF_8).replace("+", "%20");
    }

    /** Bytes for people: {@code 1.5 GB}, in powers of ten as the Hub shows them. */
    static String bytes(long bytes) {
        String[] units = {"bytes", "kB", "MB", "GB", "TB"};
        double value = bytes;
        int unit = 0;
        while (value >= 1000 && unit < units.length - 1) {
            value /= 1000;
            unit++;
        }
        return unit == 0 ? bytes + " bytes" : String.format(java.util.Locale.ROOT, "%.1f %s", value, units[unit]);
    }
}
