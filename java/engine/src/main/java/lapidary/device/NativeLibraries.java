package lapidary.device;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;

/**
 * Finds the native libraries that the jar carries and loads them, once a process. They are unpacked into the user's
 * cache folder, {@code $XDG_CACHE_HOME/lapidary/<hash of the content>/} or {@code ~/.cache/lapidary/...}, which no other
 * user may write to; a copy that is already there is used only if its content has that hash.
 */
final class NativeLibraries {
    private static final String DNNL = "org/bytedeco/dnnl/linux-x86_64/";

    /** Loaded in this order: the OpenMP runtime first, so that both others share its threads. */
    private static final List<String> CPU =
            List.of(DNNL + "libgomp.so.1", DNNL + "libdnnl.so.3", "lapidary/native/liblapidary_cpu.so");

    private NativeLibraries() {}

    /** Holder idiom: class initialisation runs once and is safe across threads. */
    private static final class Cpu {
        static final List<Path> LOADED = load(CPU);
    }

    /** @throws DeviceException naming the library and the reason */
    static void loadCpu() {
        try {
            Cpu.LOADED.size();
        } catch (ExceptionInInitializerError | NoClassDefFoundError e) {
            if (e.getCause() instanceof DeviceException cause) {
                throw cause;
            }
            throw new DeviceException("the native CPU libraries could not be loaded: " + e.getMessage(), e);
        }
    }

    /** Where the loaded libraries lie. */
    static List<Path> loaded() {
        loadCpu();
        return Cpu.LOADED;
    }

    private static List<Path> load(List<String> resources) {
        requirePlatform();
        List<Path> loaded = new ArrayList<>();
        for (String resource : resources) {
            Path file = unpack(resource);
            try {
                System.load(file.toString());
            } catch (UnsatisfiedLinkError e) {
                throw new DeviceException("cannot load " + file + ": " + e.getMessage(), e);
            }
            loaded.add(file);
        }
        return List.copyOf(loaded);
    }

    private static void requirePlatform() {
        String os = System.getProperty("os.name").toLowerCase(Locale.ROOT);
        String arch = System.getProperty("os.arch");
        if (!os.contains("linux") || !(arch.equals("amd64") || arch.equals("x86_64"))) {
            throw new DeviceException(
                    "this build carries native libraries for linux x86_64, this is " + os + " " + arch);
        }
    }

    private static Path unpack(String resource) {
        String name = resource.substring(resource.lastIndexOf('/') + 1);
        try {
            String hash = hash(open(resource));
            Path folder = cacheFolder().resolve(hash);
            Path file = folder.resolve(name);
            if (Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)
                    && hash(Files.newInputStream(file)).equals(hash)) {
                return file;
            }
            Files.createDirectories(folder);
            Path fresh = Files.createTempFile(folder, name, ".tmp");
            try (InputStream in = open(resource)) {
                Files.copy(in, fresh, StandardCopyOption.REPLACE_EXISTING);
                move(fresh, file);
            } finally {
                Files.deleteIfExists(fresh);
            }
            return file;
        } catch (IOException | UncheckedIOException e) {
            throw new DeviceException(
                    "cannot unpack " + name + " into the cache folder (set XDG_CACHE_HOME to one you can write to): "
                            + e,
                    e);
        }
    }

    private static void move(Path from, Path to) throws IOException {
        try {
            Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);
        } catch (AtomicMoveNotSupportedException e) {
            Files.move(from, to, StandardCopyOption.REPLACE_EXISTING);
        }
    }

    private static Path cacheFolder() throws IOException {
        String xdg = System.getenv("XDG_CACHE_HOME");
        Path base =
                xdg != null && xdg.startsWith("/") ? Path.of(xdg) : Path.of(System.getProperty("user.home"), ".cache");
        Path folder = base.resolve("lapidary");
        Files.createDirectories(base);
        if (!Files.isDirectory(folder)) {
            Files.createDirectory(
                    folder, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
        }
        if (!Files.getOwner(folder).getName().equals(System.getProperty("user.name"))) {
            throw new IOException(folder + " belongs to another user");
        }
        return folder;
    }

    private static InputStream open(String resource) throws IOException {
        InputStream in = NativeLibraries.class.getClassLoader().getResourceAsStream(resource);
        if (in == null) {
            throw new IOException("this jar does not carry " + resource);
        }
        return in;
    }

    private static String hash(InputStream in) throws IOException {
        try (in) {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            new DigestInputStream(in, digest).transferTo(java.io.OutputStream.nullOutputStream());
            return HexFormat.of().formatHex(digest.digest(), 0, 16);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every JDK has SHA-256", e);
        }
    }
}
