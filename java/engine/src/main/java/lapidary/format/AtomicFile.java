package lapidary.format;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.stream.Stream;

/**
 * Files and folders that appear under their final name complete or not at all.
 *
 * <p>The content goes to {@code .<name>.part} beside the target, is forced to the disk, is renamed over the target, and
 * then the folder entry is forced too. A kill or power cut at any moment leaves the old content or the new, never a
 * mixture; the {@code .part} it may leave is replaced by the next write of the same name. Two writers of one name at
 * the same time are not supported.
 *
 * <p>Failures are {@link FormatException}s that name the target and say what to do (disk full, folder read-only); what
 * stood under the name before is then untouched, or the message says otherwise.
 */
public final class AtomicFile {
    private static final int CHUNK = 1 << 20; // bytes handed to the channel at once; bounds its off-heap copy

    private static final String UNTOUCHED = "; what stood there before is untouched";

    private AtomicFile() {}

    /** What a file is filled with. */
    @FunctionalInterface
    public interface Content {
        void writeTo(FileChannel out) throws IOException;
    }

    /** What a folder is filled with; {@code folder} exists and is empty. */
    @FunctionalInterface
    public interface Filling {
        void writeTo(Path folder) throws IOException;
    }

    /**
     * Writes {@code target}, or the file that a link of that name leads to, making its parent folders where they are missing.
     * What is neither, a device or a pipe, is refused.
     */
    public static void write(Path target, Content content) {
        Path file = followed(target.toAbsolutePath().normalize());
        Path part = beside(file, "part");
        attempt(target, part, UNTOUCHED, () -> {
            refuseOther(file);
            Files.createDirectories(file.getParent());
            deleteTree(part);
            try (FileChannel out = FileChannel.open(part, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
                content.writeTo(out);
                out.force(true);
            }
            replace(part, file);
            forceFolder(file.getParent());
        });
    }

    /** Writes {@code text} as UTF-8, without a byte order mark. */
    public static void writeString(Path target, String text) {
        write(target, out -> writeFully(out, ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8))));
    }

    /**
     * Writes a whole folder: {@code content} fills a hidden one beside it, every file and folder in it is forced, then it
     * is renamed. A folder already under the name is replaced: it is set aside as {@code .<name>.old}, and put back by
     * the next write should a kill fall between the two renames.
     */
    public static void writeFolder(Path target, Filling content) {
        Path folder = target.toAbsolutePath().normalize();
        Path part = beside(folder, "part");
        Path old = beside(folder, "old");
        attempt(target, part, UNTOUCHED, () -> {
            Files.createDirectories(folder.getParent());
            if (Files.exists(old, LinkOption.NOFOLLOW_LINKS)) {
                if (Files.exists(folder, LinkOption.NOFOLLOW_LINKS)) {
                    deleteTree(old);
                } else {
                    Files.move(old, folder, StandardCopyOption.ATOMIC_MOVE);
                }
            }
            deleteTree(part);
            Files.createDirectory(part);
            content.writeTo(part);
            forceTree(part);
            if (Files.exists(folder, LinkOption.NOFOLLOW_LINKS)) {
                Files.move(folder, old, StandardCopyOption.ATOMIC_MOVE);
            }
            Files.move(part, folder, StandardCopyOption.ATOMIC_MOVE);
            forceFolder(folder.getParent());
        });
        attempt(
                target,
                part,
                "; the new folder is there, what stood there before is left in " + old,
                () -> deleteTree(old));
    }

    /** As {@link #writeFolder}, but nothing is replaced: what stands under the name has to be an empty folder, to the last. */
    public static void writeNewFolder(Path target, Filling content) {
        Path folder = target.toAbsolutePath().normalize();
        Path part = beside(folder, "part");
        attempt(target, part, UNTOUCHED, () -> {
            Files.createDirectories(folder.getParent());
            deleteTree(part);
            Files.createDirectory(part);
            content.writeTo(part);
            forceTree(part);
            if (Files.exists(folder, LinkOption.NOFOLLOW_LINKS)) {
                Files.delete(folder); // fails where anything is in it
            }
            Files.move(part, folder, StandardCopyOption.ATOMIC_MOVE);
            forceFolder(folder.getParent());
        });
    }

    /**
     * Writes several files into a folder whose other files stay: {@code content} fills a hidden folder inside it, then the
     * files are renamed into place.
     *
     * @param seal the file without which the others count for nothing. A former one of another content is removed before
     *     the first rename, and its own rename is the last: a kill in between leaves a folder that says of itself that
     *     it is not complete, never files of two writes that seem to belong together
     */
    public static void writeTogether(Path target, String seal, Filling content) {
        Path folder = target.toAbsolutePath().normalize();
        Path sealed = folder.resolve(seal);
        Path part = beside(sealed, "parts");
        attempt(target, part, UNTOUCHED, () -> {
            Files.createDirectories(folder);
            deleteTree(part);
            Files.createDirectory(part);
            content.writeTo(part);
            forceTree(part);
            for (Path file : filesIn(part)) {
                refuseDirectory(folder.resolve(file.getFileName()));
            }
            if (!Files.exists(part.resolve(seal))) {
                throw new NoSuchFileException(seal, null, "it was not among the files to write");
            }
        });
        attempt(target, part, "; " + seal + " is missing until it is written again", () -> {
            if (Files.exists(sealed) && Files.mismatch(sealed, part.resolve(seal)) >= 0) {
                Files.delete(sealed);
            }
            for (Path file : filesIn(part)) {
                if (!file.endsWith(seal)) {
                    replace(file, folder.resolve(file.getFileName()));
                }
            }
            forceFolder(folder);
            replace(part.resolve(seal), sealed);
            forceFolder(folder);
            deleteTree(part);
        });
    }

    private static List<Path> filesIn(Path folder) throws IOException {
        try (Stream<Path> list = Files.list(folder)) {
            return list.toList();
        }
    }

    private static void replace(Path from, Path to) throws IOException {
        Files.move(from, to, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }

    /** Writes all of {@code bytes}, of any length and kind of memory, at the channel's position. */
    public static void writeFully(FileChannel out, MemorySegment bytes) throws IOException {
        if (!bytes.isNative()
                && !(bytes.heapBase().orElse(null) instanceof byte[])) { // no ByteBuffer over other arrays
            byte[] piece = new byte[(int) Math.min(CHUNK, bytes.byteSize())];
            for (long at = 0; at < bytes.byteSize(); at += piece.length) {
                int n = (int) Math.min(piece.length, bytes.byteSize() - at);
                MemorySegment.copy(bytes, at, MemorySegment.ofArray(piece), 0, n);
                writeFully(out, ByteBuffer.wrap(piece, 0, n));
            }
            return;
        }
        for (long at = 0; at < bytes.byteSize(); at += CHUNK) {
            long n = Math.min(CHUNK, bytes.byteSize() - at);
            writeFully(out, bytes.asSlice(at, n).asByteBuffer());
        }
    }

    /** Writes what remains of {@code bytes}: one write may take a part of it. */
    public static void writeFully(FileChannel out, ByteBuffer bytes) throws IOException {
        while (bytes.hasRemaining()) {
            out.write(bytes);
        }
    }

    private static Path beside(Path file, String suffix) {
        Path name = file.getFileName();
        if (name == null) {
            throw new IllegalArgumentException(file + " is the root of a file system, not a file to write");
        }
        return file.resolveSibling("." + name + "." + suffix);
    }

    /** The file itself, or what it leads to as a link. */
    private static Path followed(Path file) {
        try {
            return Files.isSymbolicLink(file) && Files.isRegularFile(file) ? file.toRealPath() : file;
        } catch (IOException e) {
            return file; // gone meanwhile
        }
    }

    private static void refuseOther(Path file) throws IOException {
        refuseDirectory(file);
        if (Files.exists(file) && !Files.isRegularFile(file)) {
            throw new FileSystemException(file.toString(), null, "it is a device or a pipe, not a file; name a file");
        }
    }

    private static void refuseDirectory(Path file) throws IOException {
        if (Files.isDirectory(file, LinkOption.NOFOLLOW_LINKS)) {
            throw new FileSystemException(file.toString(), null, "a folder of that name is in the way");
        }
    }

    @FunctionalInterface
    private interface Work {
        void run() throws IOException;
    }

    /**
     * Does the work, and clears {@code part} away where it fails.
     *
     * @param now what a failure leaves behind, in words that end the message
     */
    private static void attempt(Path target, Path part, String now, Work work) {
        try {
            work.run();
        } catch (IOException e) {
            throw failure(target, part, now, e);
        } catch (UncheckedIOException e) {
            throw failure(target, part, now, e.getCause());
        } catch (RuntimeException | Error e) {
            deleteQuietly(part);
            throw e;
        }
    }

    private static FormatException failure(Path target, Path part, String now, IOException e) {
        deleteQuietly(part);
        return new FormatException("cannot write " + target + ": " + reason(target, e) + now, e);
    }

    /** Why {@code target} cannot be written: the system's words, and the cure where there is one. */
    public static String reason(Path target, IOException e) {
        String text = e instanceof FileSystemException f && f.getReason() != null ? f.getReason() : e.getMessage();
        String why = text == null ? e.getClass().getSimpleName() : text.replaceAll("\\s+", " ");
        String lower = why.toLowerCase(java.util.Locale.ROOT);
        if (lower.contains("no space left") || lower.contains("quota exceeded")) {
            return why + "; free some space or write to another disk";
        }
        if (e instanceof AccessDeniedException || lower.contains("read-only") || lower.contains("permission denied")) {
            String kind = e instanceof AccessDeniedException && !lower.contains("denied") ? "permission denied" : why;
            return kind + "; make the folder writable or choose another output folder";
        }
        Path folder = target.toAbsolutePath().getParent();
        if (e instanceof NoSuchFileException missing
                && missing.getFile() != null
                && folder.equals(Path.of(missing.getFile()).toAbsolutePath().getParent())
                && Files.isDirectory(folder)) {
            return folder + " takes no files; choose another folder";
        }
        if (e instanceof java.nio.file.FileAlreadyExistsException || e instanceof NoSuchFileException) {
            return why + " (a file stands where a folder is needed, or the folder was removed meanwhile)";
        }
        return why + " (" + folder + ")";
    }

    private static void forceTree(Path folder) throws IOException {
        List<Path> inside;
        try (Stream<Path> walk = Files.walk(folder)) {
            inside = walk.toList();
        }
        for (int i = inside.size() - 1; i >= 0; i--) { // children before their folder
            Path path = inside.get(i);
            if (Files.isDirectory(path, LinkOption.NOFOLLOW_LINKS)) {
                forceFolder(path);
            } else if (Files.isRegularFile(path, LinkOption.NOFOLLOW_LINKS)) {
                try (FileChannel file = FileChannel.open(path, StandardOpenOption.WRITE)) {
                    file.force(true);
                }
            }
        }
    }

    /** Makes a rename survive a power cut. Only POSIX systems can open a folder; elsewhere there is nothing to do. */
    private static void forceFolder(Path folder) throws IOException {
        if (!folder.getFileSystem().supportedFileAttributeViews().contains("posix")) {
            return;
        }
        try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }

    /** Deletes a file, or a folder with all that is in it; links are not followed. */
    public static void deleteTree(Path path) throws IOException {
        if (!Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
            return;
        }
        List<Path> inside;
        try (Stream<Path> walk = Files.walk(path)) { // does not follow links
            inside = walk.toList();
        }
        for (int i = inside.size() - 1; i >= 0; i--) {
            Files.deleteIfExists(inside.get(i));
        }
    }

    private static void deleteQuietly(Path part) {
        try {
            deleteTree(part);
        } catch (IOException | UncheckedIOException ignored) {
            // the error that brought us here is the one to tell; the next write removes the rest
        }
    }
}
