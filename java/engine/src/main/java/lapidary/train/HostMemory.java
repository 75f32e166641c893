package lapidary.train;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Physical memory of this process, bytes, as Linux counts it; 0 where the system does not say. */
final class HostMemory {
    private static final Path STATUS = Path.of("/proc/self/status");

    private HostMemory() {}

    static long resident() {
        return of("VmRSS:");
    }

    /** The most that was resident at a time. */
    static long peak() {
        return of("VmHWM:");
    }

    private static long of(String name) {
        try {
            for (String line : Files.readAllLines(STATUS)) {
                if (line.startsWith(name)) {
                    return Long.parseLong(line.replaceAll("\\D", "")) << 10; // kB there means KiB
                }
            }
        } catch (IOException e) {
            // another system
        }
        return 0;
    }
}
