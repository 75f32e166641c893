package lapidary.format;

import static lapidary.format.SafetensorsTest.assertMessage;
import static lapidary.format.SafetensorsTest.list;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

class AtomicFileTest {
    private static final int SIZE = 1 << 20; // bytes of the files that the killed writer makes

    @TempDir
    Path dir;

    @Test
    void replacesAndLeavesNothingBeside() throws IOException {
        Path file = dir.resolve("new/a.txt");
        AtomicFile.writeString(file, "one é");
        AtomicFile.writeString(file, "two");
        assertEquals("two", Files.readString(file));
        assertEquals(List.of("a.txt"), list(file.getParent()));
    }

    @Test
    void aFailedWriteKeepsTheOld() throws IOException {
        Path file = dir.resolve("a.txt");
        AtomicFile.writeString(file, "old");
        FormatException e = assertThrows(
                FormatException.class,
                () -> AtomicFile.write(file, out -> {
                    out.write(ByteBuffer.wrap(new byte[10]));
                    throw new IOException("No space left on device");
                }));
        assertMessage(e, "a.txt", "No space left on device", "free some space");
        assertThrows(
                IllegalStateException.class,
                () -> AtomicFile.write(file, out -> {
                    throw new IllegalStateException("mistake of the caller");
                }));
        assertEquals("old", Files.readString(file));
        assertEquals(List.of("a.txt"), list(dir));
    }

    /** A run as root would put a file in the place of /dev/null. */
    @Test
    @EnabledOnOs(OS.LINUX)
    void aPipeIsNotReplaced() throws Exception {
        Path pipe = dir.resolve("pipe");
        assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());
        FormatException e = assertThrows(FormatException.class, () -> AtomicFile.writeString(pipe, "new"));
        assertMessage(e, "pipe", "not a file");
        assertTrue(!Files.isRegularFile(pipe) && Files.exists(pipe), "the pipe is there");
        Path link = Files.createSymbolicLink(dir.resolve("link"), pipe);
        assertThrows(FormatException.class, () -> AtomicFile.writeString(link, "new"));
        assertTrue(Files.isSymbolicLink(link));
    }

    @Test
    void aLinkIsWrittenThrough() throws IOException {
        Path file = Files.writeString(dir.resolve("a.txt"), "old");
        Path link = Files.createSymbolicLink(dir.resolve("link"), file);
        AtomicFile.writeString(link, "new");
        assertEquals("new", Files.readString(file));
        assertTrue(Files.isSymbolicLink(link));
        assertEquals(List.of("a.txt", "link"), list(dir));
    }

    /** Whatever was looked at before: the folder may have been filled meanwhile. */
    @Test
    void aNewFolderReplacesAnEmptyOneAlone() throws IOException {
        Path folder = Files.createDirectory(dir.resolve("folder"));
        AtomicFile.writeNewFolder(folder, part -> Files.writeString(part.resolve("a"), "one"));
        assertEquals("one", Files.readString(folder.resolve("a")));
        FormatException e = assertThrows(
                FormatException.class,
                () -> AtomicFile.writeNewFolder(folder, part -> Files.writeString(part.resolve("b"), "two")));
        assertMessage(e, "folder", "untouched");
        assertEquals(List.of("a"), list(folder));
        assertEquals(List.of("folder"), list(dir));
    }

    /** The path is taken as it is written, whether or not what is left out of it again is there. */
    @Test
    void aPathThatLeadsBackIsLookedAtWhereItIsWritten() throws IOException {
        Files.writeString(Files.createDirectory(dir.resolve("full")).resolve("a"), "one");
        FormatException e = assertThrows(
                FormatException.class, () -> NewFolder.requireFree("--output_dir", dir.resolve("missing/../full")));
        assertMessage(e, "full", "not empty");
        e = assertThrows(
                FormatException.class, () -> NewFolder.requireFree("--output_dir", dir.resolve("full/missing/..")));
        assertMessage(e, "full", "not empty");
    }

    @Test
    void aStalePartIsReplacedAndNotFollowed() throws IOException {
        Path file = dir.resolve("a.txt");
        Path victim = Files.writeString(dir.resolve("victim"), "untouched");
        Files.createSymbolicLink(dir.resolve(".a.txt.part"), victim);
        AtomicFile.writeString(file, "new");
        assertEquals("untouched", Files.readString(victim));
        Files.createDirectories(dir.resolve(".a.txt.part/x"));
        AtomicFile.writeString(file, "newer");
        assertEquals("newer", Files.readString(file));
        assertEquals(List.of("a.txt", "victim"), list(dir));
    }

    @Test
    void namesWhatIsInTheWay() throws IOException {
        Files.createDirectories(dir.resolve("a.txt"));
        assertMessage(
                assertThrows(FormatException.class, () -> AtomicFile.writeString(dir.resolve("a.txt"), "x")),
                "a.txt",
                "folder of that name is in the way");
        Files.writeString(dir.resolve("plain"), "x");
        assertMessage(
                assertThrows(FormatException.class, () -> AtomicFile.writeString(dir.resolve("plain/b.txt"), "x")),
                "plain/b.txt");
        assertThrows(IllegalArgumentException.class, () -> AtomicFile.writeString(Path.of("/"), "x"));
    }

    @Test
    void aFullDiskIsNamed() {
        Path full = Path.of("/dev/full");
        org.junit.jupiter.api.Assumptions.assumeTrue(Files.exists(full), "this system has no /dev/full");
        FormatException e = assertThrows(
                FormatException.class,
                () -> AtomicFile.write(dir.resolve("a"), out -> {
                    try (var channel =
                            java.nio.channels.FileChannel.open(full, java.nio.file.StandardOpenOption.WRITE)) {
                        channel.write(ByteBuffer.wrap(new byte[8]));
                    }
                }));
        assertMessage(e, "cannot write", "No space left on device");
    }

    @Test
    void aReadOnlyFolderIsNamed() throws IOException {
        // /proc refuses every new file, even root's
        org.junit.jupiter.api.Assumptions.assumeTrue(
                Files.isDirectory(Path.of("/proc/self")), "this system has no /proc");
        assertMessage(
                assertThrows(FormatException.class, () -> AtomicFile.writeString(Path.of("/proc/a.txt"), "x")),
                "cannot write /proc/a.txt");
    }

    @Test
    void replacesAFolderWhole() throws IOException {
        Path folder = dir.resolve("checkpoint-3");
        AtomicFile.writeFolder(folder, f -> Files.writeString(f.resolve("old"), "x"));
        AtomicFile.writeFolder(folder, f -> {
            Files.createDirectories(f.resolve("sub"));
            Files.writeString(f.resolve("sub/new"), "x");
        });
        assertEquals(List.of("sub"), list(folder));
        assertThrows(
                FormatException.class,
                () -> AtomicFile.writeFolder(folder, f -> {
                    Files.writeString(f.resolve("half"), "x");
                    throw new IOException("No space left on device");
                }));
        assertEquals(List.of("sub"), list(folder));
        assertEquals(List.of("checkpoint-3"), list(dir));
    }

    @Test
    void putsBackAFolderThatAKillSetAside() throws IOException {
        Path folder = dir.resolve("c");
        Files.createDirectories(dir.resolve(".c.old"));
        Files.writeString(dir.resolve(".c.old/kept"), "x");
        Files.createDirectories(dir.resolve(".c.part"));
        assertThrows(
                FormatException.class,
                () -> AtomicFile.writeFolder(folder, f -> {
                    throw new IOException("again");
                }));
        assertEquals(List.of("kept"), list(folder));
        assertEquals(List.of("c"), list(dir));
    }

    @Test
    void writesFilesOfAFolderTogether() throws IOException {
        Files.writeString(dir.resolve("other"), "stays");
        AtomicFile.writeTogether(dir, "seal", f -> {
            AtomicFile.writeString(f.resolve("seal"), "1");
            Files.writeString(f.resolve("a"), "1");
        });
        assertEquals(List.of("a", "other", "seal"), list(dir));
        Files.createDirectories(dir.resolve(".seal.parts/x")); // what a kill left
        AtomicFile.writeTogether(dir, "seal", f -> {
            assertEquals(List.of(), list(f));
            Files.writeString(f.resolve("b"), "2");
            Files.writeString(f.resolve("seal"), "2");
        });
        assertEquals(List.of("a", "b", "other", "seal"), list(dir));
        assertEquals("2", Files.readString(dir.resolve("seal")));
    }

    @Test
    void filesThatCannotAllBeWrittenLeaveTheOldOnes() throws IOException {
        AtomicFile.writeTogether(dir, "seal", f -> {
            Files.writeString(f.resolve("seal"), "1");
            Files.writeString(f.resolve("a"), "1");
        });
        assertMessage(
                assertThrows(
                        FormatException.class,
                        () -> AtomicFile.writeTogether(dir, "seal", f -> {
                            Files.writeString(f.resolve("a"), "2");
                            throw new IOException("No space left on device");
                        })),
                dir.toString(),
                "No space left");
        assertThrows( // without its seal
                FormatException.class,
                () -> AtomicFile.writeTogether(dir, "seal", f -> Files.writeString(f.resolve("a"), "2")));
        Files.createDirectories(dir.resolve("b"));
        assertMessage(
                assertThrows(
                        FormatException.class,
                        () -> AtomicFile.writeTogether(dir, "seal", f -> {
                            for (String name : List.of("a", "b", "seal")) {
                                Files.writeString(f.resolve(name), "2");
                            }
                        })),
                "folder of that name is in the way");
        assertEquals(List.of("a", "b", "seal"), list(dir));
        assertEquals("1", Files.readString(dir.resolve("a")));
        assertEquals("1", Files.readString(dir.resolve("seal")));
    }

    /** Whoever reads while files are replaced finds a whole one under the name at every moment. */
    @Test
    void readersSeeWholeFilesOnly() throws Exception {
        Path file = dir.resolve("file");
        byte[] first = new byte[SIZE];
        AtomicFile.write(file, out -> AtomicFile.writeFully(out, ByteBuffer.wrap(first)));
        var writer = java.util.concurrent.CompletableFuture.runAsync(() -> {
            for (byte i = 1; i <= 40; i++) {
                byte[] bytes = new byte[SIZE];
                java.util.Arrays.fill(bytes, i);
                AtomicFile.write(file, out -> AtomicFile.writeFully(out, ByteBuffer.wrap(bytes)));
            }
        });
        while (!writer.isDone()) {
            whole(file);
        }
        writer.get();
        assertEquals(40, whole(file));
    }

    /** A process that writes the same file and folder for ever is killed at many moments: names hold whole content only. */
    @Test
    void survivesKills() throws Exception {
        Set<Byte> seen = new TreeSet<>();
        for (int round = 0; round < 6; round++) {
            Process writer = new ProcessBuilder(
                            Path.of(System.getProperty("java.home"), "bin", "java")
                                    .toString(),
                            "-cp",
                            System.getProperty("java.class.path"),
                            Writer.class.getName(),
                            dir.toString())
                    .redirectError(ProcessBuilder.Redirect.INHERIT)
                    .start();
            try {
                for (int written = 0; written <= round; written++) {
                    assertEquals('.', writer.getInputStream().read());
                }
                Thread.sleep(7L * round);
            } finally {
                writer.destroyForcibly(); // SIGKILL
            }
            assertTrue(writer.waitFor(30, TimeUnit.SECONDS));
            seen.add(whole(dir.resolve("file")));
            Path folder = dir.resolve("folder");
            if (Files.exists(folder)) {
                assertEquals(whole(folder.resolve("a")), whole(folder.resolve("b")));
            }
            Set<String> rest = new TreeSet<>(list(dir));
            rest.removeAll(Set.of("file", "folder", ".file.part", ".folder.part", ".folder.old"));
            assertEquals(Set.of(), rest);
        }
        assertTrue(seen.size() > 1, "every kill fell at the same content");
        Writer.once(dir, (byte) 3);
        assertEquals(List.of("file", "folder"), list(dir));
    }

    private static byte whole(Path file) throws IOException {
        byte[] bytes = Files.readAllBytes(file);
        assertEquals(SIZE, bytes.length);
        for (byte b : bytes) {
            assertEquals(bytes[0], b);
        }
        return bytes[0];
    }

    /** Writes until killed. */
    static final class Writer {
        public static void main(String[] args) {
            for (byte i = 0; ; i++) {
                once(Path.of(args[0]), i);
                System.out.print('.');
                System.out.flush();
            }
        }

        static void once(Path dir, byte fill) {
            byte[] bytes = new byte[SIZE];
            java.util.Arrays.fill(bytes, fill);
            AtomicFile.write(dir.resolve("file"), out -> AtomicFile.writeFully(out, ByteBuffer.wrap(bytes)));
            AtomicFile.writeFolder(dir.resolve("folder"), folder -> {
                Files.write(folder.resolve("a"), bytes);
                Files.write(folder.resolve("b"), bytes);
            });
        }
    }
}
