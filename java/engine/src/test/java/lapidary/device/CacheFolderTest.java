package lapidary.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CacheFolderTest {
    @TempDir
    Path dir;

    @Test
    void isMadeForItsUserAlone() throws IOException {
        Path folder = dir.resolve("a/lapidary");
        for (int round = 0; round < 2; round++) { // whoever the user is, what was made is his
            assertEquals(folder, CacheFolder.make(folder));
            assertEquals("rwx------", PosixFilePermissions.toString(Files.getPosixFilePermissions(folder)));
        }
        try (Stream<Path> files = Files.list(folder)) {
            assertEquals(0, files.count());
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"rwxrwx---", "rwx----w-"})
    void othersMayNotWriteToIt(String permissions) throws IOException {
        Files.setPosixFilePermissions(dir, PosixFilePermissions.fromString(permissions));
        String message =
                assertThrows(IOException.class, () -> CacheFolder.make(dir)).getMessage();
        assertTrue(message.contains("chmod 700 " + dir), message);
    }

    @Test
    void theFolderOfAnotherUserIsRefused() throws IOException {
        Object uid = Files.getAttribute(dir, "unix:uid");
        assumeTrue(uid.equals(0), "only root can give a folder away");
        Files.setPosixFilePermissions(dir, PosixFilePermissions.fromString("rwx------"));
        Files.setAttribute(dir, "unix:uid", 12345);
        try {
            assertEquals(
                    dir + " belongs to user 12345, and this is user 0",
                    assertThrows(IOException.class, () -> CacheFolder.make(dir)).getMessage());
        } finally {
            Files.setAttribute(dir, "unix:uid", uid);
        }
    }

    @Test
    void aFileInItsPlaceIsTold() throws IOException {
        Path file = Files.createFile(dir.resolve("lapidary"));
        assertEquals(
                file + " is not a folder",
                assertThrows(IOException.class, () -> CacheFolder.make(file)).getMessage());
    }

    @Test
    void theHomeIsTheVariablesWhereThereIsOne() {
        assertEquals(Path.of("/a"), CacheFolder.userHome("/a", "/root"));
        assertEquals(Path.of("/root"), CacheFolder.userHome(null, "/root"));
        assertEquals(Path.of("/root"), CacheFolder.userHome("", "/root"));
    }
}
