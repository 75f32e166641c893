package lapidary.serve;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** What a client must present as {@code Authorization: Bearer ...}. It is never printed: only its hash is kept. */
public final class ApiKey {
    /** Everybody may ask. */
    public static final ApiKey NONE = new ApiKey(new byte[0]);

    private static final String SCHEME = "Bearer ";

    private final byte[] hash; // SHA-256; empty for none

    private ApiKey(byte[] hash) {
        this.hash = hash;
    }

    /**
     * @throws IllegalArgumentException where no client could send it: empty, or with other than visible ASCII characters. The
     *     message does not repeat it
     */
    public static ApiKey of(String key) {
        if (key.isEmpty() || !key.chars().allMatch(c -> c > ' ' && c < 127)) {
            throw new IllegalArgumentException(
                    "the API key is " + (key.isEmpty() ? "empty" : "not all visible ASCII characters")
                            + ", expected letters, digits and signs without spaces");
        }
        return new ApiKey(sha256(key));
    }

    boolean isNone() {
        return hash.length == 0;
    }

    /** Whether this value of an Authorization header holds the key; takes the same time for every wrong one. */
    boolean isIn(String authorization) {
        return authorization.regionMatches(true, 0, SCHEME, 0, SCHEME.length())
                && MessageDigest.isEqual(
                        hash, sha256(authorization.substring(SCHEME.length()).strip()));
    }

    private static byte[] sha256(String text) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // every JDK has it
        }
    }

    @Override
    public String toString() {
        return isNone() ? "none" : "***";
    }
}
