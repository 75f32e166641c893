package lapidary.cli;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;

/** What this program is given to read. */
final class StandardInput {
    private static final Path DESCRIPTOR = Path.of("/proc/self/fd/0");

    private StandardInput() {}

    /** At its end where the program was started without one. */
    static InputStream open() {
        return isClosed() ? InputStream.nullInputStream() : System.in;
    }

    /** The JVM's own files take the first descriptors that are free, and System.in would read the JVM's classes. */
    private static boolean isClosed() {
        try {
            Path java = Path.of(System.getProperty("java.home")).toRealPath();
            return Files.readSymbolicLink(DESCRIPTOR).startsWith(java);
        } catch (IOException | InvalidPathException e) { // a pipe, or a system without such links
            return false;
        }
    }
}
