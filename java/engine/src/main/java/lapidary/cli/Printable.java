package lapidary.cli;

/** Text from outside, made fit for a terminal: nothing in it can move the cursor or change colours. */
final class Printable {
    private Printable() {}

    /** The text with control characters but line breaks and tabs made visible. */
    static String of(String text) {
        StringBuilder out = new StringBuilder(text.length());
        text.codePoints().forEach(c -> {
            boolean harmless = c == '\n' || c == '\t' || !Character.isISOControl(c) && !isDirection(c);
            out.append(harmless ? Character.toString(c) : String.format("\\u%04x", c));
        });
        return out.toString();
    }

    /** The same on one line. */
    static String line(String text) {
        return of(text.replaceAll("\\s*[\\r\\n]+\\s*", " "));
    }

    /** Marks that turn the direction of what follows. */
    private static boolean isDirection(int c) {
        return c >= 0x202A && c <= 0x202E || c >= 0x2066 && c <= 0x2069;
    }
}
