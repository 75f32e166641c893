package lapidary.hub;

/** Adds up the bytes of a transfer over its threads and tells the listener, one call at a time. */
final class Meter {
    private final HubListener listener;
    private final long total;
    private long done;

    Meter(HubListener listener, long total) {
        this.listener = listener;
        this.total = total;
    }

    /** @param bytes more that are done; negative where some turned out to be worthless */
    void add(long bytes) {
        synchronized (listener) {
            done += bytes;
            listener.onProgress(done, total);
        }
    }
}
