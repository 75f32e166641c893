package lapidary.hub;

import java.util.regex.Pattern;

/**
 * A repository's name on the Hub, {@code namespace/name} or, for a few old ones, {@code name}.
 *
 * @param kind what it holds
 * @param name as the Hub's rules allow it: letters, digits, {@code - _ .}, at most 96, no {@code --} or {@code ..}
 */
public record RepoId(Kind kind, String name) {
    private static final Pattern PART = Pattern.compile("\\w([\\w.-]{0,94}\\w)?");

    /** What a repository holds, and how paths and addresses tell it. */
    public enum Kind {
        MODEL("model", ""),
        DATASET("dataset", "datasets/");

        private final String word;
        private final String prefix;

        Kind(String word, String prefix) {
            this.word = word;
            this.prefix = prefix;
        }
    }

    /** @throws IllegalArgumentException the name cannot be a repository's */
    public RepoId {
        if (!isValid(name)) {
            throw new IllegalArgumentException("\"" + Text.oneLine(name) + "\" cannot be the name of a " + kind.word
                    + " on the Hub, expected namespace/name of letters, digits, '-', '_' and '.'");
        }
    }

    public static RepoId model(String name) {
        return new RepoId(Kind.MODEL, name);
    }

    public static RepoId dataset(String name) {
        return new RepoId(Kind.DATASET, name);
    }

    /** Whether {@code name} follows the Hub's rules. */
    public static boolean isValid(String name) {
        String[] parts = name.split("/", -1);
        if (parts.length > 2
                || name.length() > 96
                || name.contains("--")
                || name.contains("..")
                || name.endsWith(".git")) {
            return false;
        }
        for (String part : parts) {
            if (!PART.matcher(part).matches()) {
                return false;
            }
        }
        return true;
    }

    /** {@code model} or {@code dataset}. */
    String word() {
        return kind.word;
    }

    /** Path of its pages and files: {@code namespace/name}, {@code datasets/namespace/name}. */
    String page() {
        return kind.prefix + name;
    }

    /** Path of its API: {@code api/models/namespace/name}. */
    String api() {
        return "api/" + kind.word + "s/" + name;
    }

    /** Its folder in the cache: {@code models--namespace--name}. */
    String folder() {
        return kind.word + "s--" + name.replace("/", "--");
    }

    @Override
    public String toString() {
        return name;
    }
}
