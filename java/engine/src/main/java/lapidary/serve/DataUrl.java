package lapidary.serve;

import java.util.Base64;
import java.util.Locale;

/** Pictures as {@code data:image/png;base64,...}. Nothing is ever fetched: other URLs are refused. */
final class DataUrl {
    private DataUrl() {}

    /**
     * @param where in the request it stands, for the error
     * @return the encoded picture
     * @throws ApiError naming what is wrong with the URL, without repeating its data
     */
    static byte[] picture(String url, String where) {
        if (!url.regionMatches(true, 0, "data:", 0, 5)) {
            int colon = url.indexOf(':');
            String scheme = colon > 0 && colon <= 10 ? url.substring(0, colon + 1) : "no data:";
            throw ApiError.badImage(
                    where,
                    where + " is a URL with " + scheme
                            + ", which this server does not fetch; send the picture itself as"
                            + " data:image/png;base64,...");
        }
        int comma = url.indexOf(',');
        String kind = comma < 0 ? "" : url.substring(5, comma).toLowerCase(Locale.ROOT);
        if (comma < 0 || !kind.startsWith("image/") || !kind.endsWith(";base64")) {
            throw ApiError.badImage(where, where + " is no picture in base64, expected data:image/png;base64,...");
        }
        try {
            byte[] bytes = Base64.getDecoder().decode(withoutSpaces(url, comma + 1));
            if (bytes.length == 0) {
                throw ApiError.badImage(where, where + " holds no bytes, expected a picture");
            }
            return bytes;
        } catch (IllegalArgumentException e) {
            throw ApiError.badImage(where, where + " is not valid base64: " + e.getMessage());
        }
    }

    /** The data as bytes; spaces and line breaks, with which some clients wrap it, are left out as browsers do. */
    private static byte[] withoutSpaces(String url, int from) {
        byte[] bytes = new byte[url.length() - from];
        int n = 0;
        for (int i = from; i < url.length(); i++) {
            char c = url.charAt(i);
            if (c > ' ') {
                bytes[n++] = c < 128 ? (byte) c : (byte) '!'; // which base64 does not have either
            }
        }
        return n == bytes.length ? bytes : java.util.Arrays.copyOf(bytes, n);
    }
}
