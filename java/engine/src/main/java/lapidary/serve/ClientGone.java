package lapidary.serve;

/** The client has left, or takes nothing any more: nobody waits for what is being made. */
final class ClientGone extends RuntimeException {
    private static final long serialVersionUID = 1;

    ClientGone(Throwable cause) {
        super("the client is gone", cause, false, false);
    }
}
