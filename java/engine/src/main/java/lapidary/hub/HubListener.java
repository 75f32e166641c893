package lapidary.hub;

import java.time.Duration;

/** Hears how downloads and uploads go. Called from several threads, one at a time. */
public interface HubListener {
    HubListener SILENT = new HubListener() {};

    /** A transfer begins: {@code files} files with {@code bytes} bytes are not there yet. */
    default void onTransfer(String what, int files, long bytes) {}

    /** Bytes of the transfer that are done, parts of earlier attempts included. */
    default void onProgress(long done, long total) {}

    /** The transfer is complete. */
    default void onDone() {}

    /** A request failed and is tried again after {@code wait}. */
    default void onRetry(String why, Duration wait) {}

    /** Something the user should know, a line. */
    default void onNotice(String text) {}
}
