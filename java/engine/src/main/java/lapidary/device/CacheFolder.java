package lapidary.device;

import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Set;

/**
 * The user's folder for what can be made again: {@code $XDG_CACHE_HOME/lapidary} or {@code ~/.cache/lapidary}. Code is
 * loaded from there, so that nobody else may write to it.
 *
 * @see <a href="https://specifications.freedesktop.org/basedir-spec/latest/">XDG base directories</a>
 */
public final class CacheFolder {
    private CacheFolder() {}

    /** Where it is; it need not exist. */
    public static Path path() {
        String xdg = System.getenv("XDG_CACHE_HOME");
        Path base =
                xdg != null && xdg.startsWith("/") ? Path.of(xdg) : userHome().resolve(".cache");
        return base.resolve("lapidary");
    }

    /** What {@code ~} stands for, as shells and Python have it: {@code $HOME}, else what the system says of the user. */
    public static Path userHome() {
        return userHome(System.getenv("HOME"), System.getProperty("user.home"));
    }

    static Path userHome(String variable, String user) {
        return Path.of(variable == null || variable.isEmpty() ? user : variable);
    }

    /**
     * Makes {@code folder} where it is missing, for this user alone.
     *
     * @throws IOException it cannot be made or written to, it is another user's, or others may write to it
     */
    public static Path make(Path folder) throws IOException {
        Files.createDirectories(folder.toAbsolutePath().getParent());
        try {
            Files.createDirectory(
                    folder, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
        } catch (FileAlreadyExistsException e) {
            if (!Files.isDirectory(folder)) {
                throw new IOException(folder + " is not a folder", e);
            }
        }
        Set<PosixFilePermission> permissions = Files.getPosixFilePermissions(folder);
        if (permissions.contains(PosixFilePermission.GROUP_WRITE)
                || permissions.contains(PosixFilePermission.OTHERS_WRITE)) {
            throw new IOException("others may write to " + folder + ", from where code is loaded; run chmod 700 "
                    + folder + " if its content is yours, else remove it");
        }
        // By number: a user without an entry in the system's list, as is common in containers, has no name to compare.
        Path own = Files.createTempFile(folder, "owner-", ".tmp");
        try {
            Object uid = Files.getAttribute(own, "unix:uid");
            Object owner = Files.getAttribute(folder, "unix:uid");
            if (!uid.equals(owner)) {
                throw new IOException(folder + " belongs to user " + owner + ", and this is user " + uid);
            }
        } finally {
            Files.delete(own);
        }
        return folder;
    }
}
