package lapidary.hub;

/**
 * A user access token. Its value leaves this class for one header only; {@link #toString} does not show it, and
 * {@link #redact} takes it out of texts that come from elsewhere.
 */
public final class Token {
    /** No token: requests are anonymous. */
    public static final Token NONE = new Token("", "");

    private final String value;
    private final String source;

    private Token(String value, String source) {
        this.value = value;
        this.source = source;
    }

    /**
     * A token, or {@link #NONE} where {@code text} is blank.
     *
     * @param source where it comes from, for messages, like {@code HF_TOKEN}
     * @throws IllegalArgumentException it holds characters that no token has; the message does not show them
     */
    public static Token of(String text, String source) {
        String value = text.replaceAll("[\\r\\n]", "").strip();
        if (value.isEmpty()) {
            return NONE;
        }
        if (!value.matches("[\\x21-\\x7e]{1,4096}")) {
            throw new IllegalArgumentException(
                    "the token from " + source
                            + " holds blanks or other characters that no token has; copy it again from the Hub's page of tokens");
        }
        return new Token(value, source);
    }

    public boolean isPresent() {
        return !value.isEmpty();
    }

    /** Where it comes from, for messages. */
    public String source() {
        return source;
    }

    /** What the {@code authorization} header says. */
    String bearer() {
        return "Bearer " + value;
    }

    /** The secret itself, for the file that login writes. */
    String secret() {
        return value;
    }

    /** {@code text} without the token. */
    String redact(String text) {
        return isPresent() ? text.replace(value, "<token>") : text;
    }

    @Override
    public String toString() {
        return isPresent() ? "<token from " + source + ">" : "<no token>";
    }
}
