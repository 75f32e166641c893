package lapidary.device;

/** A device's memory is exhausted. The message has the arithmetic; the numbers are for advice. */
public final class OutOfMemoryException extends DeviceException {
    private static final long serialVersionUID = 1;

    private final long requested;
    private final long inUse;

    /**
     * @param requested bytes that were asked for; 0 where a kernel wanted some for itself
     * @param inUse bytes that the pool had handed out
     */
    public OutOfMemoryException(String message, long requested, long inUse, Throwable cause) {
        super(message, cause);
        this.requested = requested;
        this.inUse = inUse;
    }

    /** Bytes that were asked for. */
    public long requested() {
        return requested;
    }

    /** Bytes that were in use. */
    public long inUse() {
        return inUse;
    }
}
