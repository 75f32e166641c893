package lapidary.train;

/** Two options contradict each other, or one contradicts the file that another names. */
public final class OptionConflictException extends IllegalArgumentException {
    private static final long serialVersionUID = 1;

    OptionConflictException(String message) {
        super(message);
    }
}
