package lapidary.format;

/**
 * A file from outside is not what it should be. The message is one line for the user: the file, the key or record in
 * it, what was found, what was expected, and where it helps, the cure.
 */
public final class FormatException extends RuntimeException {
    private static final long serialVersionUID = 1;

    public FormatException(String message) {
        super(message);
    }

    public FormatException(String message, Throwable cause) {
        super(message, cause);
    }
}
