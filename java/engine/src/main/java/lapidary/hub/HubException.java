package lapidary.hub;

/** The Hub refused, failed or is out of reach. The message is one line for the user: what, why, and the cure. */
public final class HubException extends RuntimeException {
    private static final long serialVersionUID = 1;

    public HubException(String message) {
        super(message);
    }

    public HubException(String message, Throwable cause) {
        super(message, cause);
    }
}
