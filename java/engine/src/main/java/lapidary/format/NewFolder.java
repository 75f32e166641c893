package lapidary.format;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.stream.Stream;

/** Whether a folder can be written that is new, so that nothing is lost, before the work for it is done. */
public final class NewFolder {
    /** Room beside the tensors: tokenizer, configuration, and what the file system needs itself. */
    private static final long MARGIN = 64L << 20; // bytes

    private NewFolder() {}

    /**
     * Makes sure that nothing stands there.
     *
     * @param option that named it, for messages
     * @throws FormatException where it is a file, not empty, or below a folder that cannot be written
     */
    public static void requireFree(String option, Path asked) {
        Path target = asked.toAbsolutePath().normalize(); // as it is written: a/../b is b, though a is not there
        if (Files.exists(target) && !Files.isDirectory(target)) {
            throw new FormatException(option + " " + target + " is a file, expected a new or an empty folder");
        }
        if (Files.isDirectory(target)) {
            try (Stream<Path> inside = Files.list(target)) {
                if (inside.findAny().isPresent()) {
                    throw new FormatException(option + " " + target
                            + " is not empty: what is written goes to a new folder, so that nothing is lost");
                }
            } catch (IOException e) {
                throw new FormatException(option + " " + target + " cannot be read: " + Json.why(e), e);
            }
        }
        Path parent = existing(target);
        if (!Files.isDirectory(parent)) {
            throw new FormatException(
                    option + " " + target + " cannot be made: " + parent + " is a file, not a folder");
        }
        if (!Files.isWritable(parent)) {
            throw new FormatException(option + " " + target + " cannot be made: " + parent
                    + " is not writable; make it so or choose another folder");
        }
    }

    /**
     * Makes sure that so many bytes fit on the disk.
     *
     * @throws FormatException where they do not, saying how many there are
     */
    public static void requireRoom(String option, Path target, long bytes) {
        try {
            long free = Files.getFileStore(existing(target.toAbsolutePath().normalize()))
                    .getUsableSpace();
            if (free < bytes + MARGIN) {
                throw new FormatException(String.format(
                        Locale.ROOT,
                        "%s %s needs %,.1f MB, its disk has %,.1f MB free; free some space or write to another disk",
                        option,
                        target,
                        (bytes + MARGIN) / 1e6,
                        free / 1e6));
            }
        } catch (IOException e) {
            throw new FormatException("cannot tell how much room there is for " + target + ": " + Json.why(e), e);
        }
    }

    /** The nearest folder above a whole and normal path that is there, where a hidden one beside the target is filled first. */
    private static Path existing(Path target) {
        Path at = target.getParent();
        while (at != null && at.getParent() != null && !Files.exists(at)) {
            at = at.getParent();
        }
        return at == null ? target : at;
    }
}
