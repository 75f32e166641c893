package lapidary.device;

/** A device or one of its native libraries failed. The message names the operation, the device and the native text. */
public sealed class DeviceException extends RuntimeException permits OutOfMemoryException {
    private static final long serialVersionUID = 1;

    public DeviceException(String message) {
        super(message);
    }

    public DeviceException(String message, Throwable cause) {
        super(message, cause);
    }
}
