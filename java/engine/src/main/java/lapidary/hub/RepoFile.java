package lapidary.hub;

import java.util.regex.Pattern;

/**
 * A file of a repository at one commit, as the Hub lists it.
 *
 * @param path from the repository's root, parts separated by '/'; never leads out of it
 * @param size bytes
 * @param blobId git's SHA-1 of the content, or for a large file of its pointer
 * @param sha256 of the content where it is a large file, else empty
 */
record RepoFile(String path, long size, String blobId, String sha256) {
    private static final Pattern SHA1 = Pattern.compile("[0-9a-f]{40}");
    private static final Pattern SHA256 = Pattern.compile("[0-9a-f]{64}");
    private static final int LONGEST_PATH = 2000;
    private static final int LONGEST_NAME = 255; // of a folder or file on Linux

    RepoFile {
        if (!isSafe(path)) {
            throw new HubException("the Hub lists a file named \"" + Text.oneLine(path)
                    + "\", which would not stay in its folder; such a repository is not downloaded");
        }
        if (size < 0
                || !SHA1.matcher(blobId).matches()
                || !(sha256.isEmpty() || SHA256.matcher(sha256).matches())) {
            throw new HubException("the Hub's entry for " + path + " is malformed: size " + size + ", checksum \""
                    + Text.oneLine(sha256.isEmpty() ? blobId : sha256) + "\"");
        }
    }

    /** Whether a path from outside is relative, plain and stays below where it is resolved. */
    static boolean isSafe(String path) {
        if (path.isEmpty() || path.length() > LONGEST_PATH) {
            return false;
        }
        for (String part : path.split("/", -1)) {
            boolean plain = part.chars().noneMatch(c -> c < 0x20 || c == 0x7f || c == '\\' || c == ':');
            if (part.isEmpty() || part.equals(".") || part.equals("..") || part.length() > LONGEST_NAME || !plain) {
                return false;
            }
        }
        return true;
    }

    static boolean isCommit(String text) {
        return SHA1.matcher(text).matches();
    }

    /** The name under which the cache keeps the content. */
    String etag() {
        return sha256.isEmpty() ? blobId : sha256;
    }
}
