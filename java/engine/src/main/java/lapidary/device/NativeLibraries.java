package lapidary.device;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.net.JarURLConnection;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.function.Supplier;
import java.util.jar.JarEntry;
import java.util.zip.CRC32;

/**
 * Finds the native libraries that the jar carries and loads them, once a process. They are unpacked into
 * {@code <length and CRC-32 of the content>/} in the {@link CacheFolder}, which no other user may write to; a copy that is already there is used only if its content has that hash.
 */
public final class NativeLibraries {
    private static final String DNNL = "org/bytedeco/dnnl/linux-x86_64/";

    /** Loaded in this order: the OpenMP runtime first, so that both others share its threads. */
    private static final List<String> KERNELS = List.of(DNNL + "libgomp.so.1", "lapidary/native/liblapidary_cpu.so");

    private static final List<String> PRODUCTS = List.of(DNNL + "libdnnl.so.3");

    private static final String SPIN_COUNT = "GOMP_SPINCOUNT";

    private NativeLibraries() {}

    /** Holder idiom: class initialisation runs once and is safe across threads. */
    private static final class Kernels {
        static final List<Path> LOADED = load(KERNELS);
    }

    private static final class Products {
        static final List<Path> LOADED = load(PRODUCTS);
    }

    /**
     * Loads the library of our own kernels, for whoever needs no matrix product.
     *
     * @throws DeviceException naming the library and the reason
     */
    public static void loadKernels() {
        once(() -> Kernels.LOADED);
    }

    /** @throws DeviceException naming the library and the reason */
    static void loadCpu() {
        loaded();
    }

    private static List<Path> once(Supplier<List<Path>> holder) {
        try {
            return holder.get();
        } catch (ExceptionInInitializerError | NoClassDefFoundError e) {
            if (e.getCause() instanceof DeviceException cause) {
                throw cause;
            }
            throw new DeviceException("the native CPU libraries could not be loaded: " + e.getMessage(), e);
        }
    }

    /** Where the loaded libraries of a CPU device lie. */
    static List<Path> loaded() {
        List<Path> loaded = new ArrayList<>(once(() -> Kernels.LOADED));
        loaded.addAll(once(() -> Products.LOADED));
        return List.copyOf(loaded);
    }

    private static List<Path> load(List<String> resources) {
        requirePlatform();
        boundSpinning();
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

    /**
     * Threads that wait for work spin, as OpenMP has it, for milliseconds: on a machine that does other work too they
     * then take the processor from the thread they wait for, and a step takes a hundred times as long. About 20 us of
     * spinning cover the gap between two kernels. OpenMP reads its variables once, when it is loaded, and the user's own
     * setting stands.
     */
    private static void boundSpinning() {
        if (System.getenv("OMP_WAIT_POLICY") != null || System.getenv(SPIN_COUNT) != null) {
            return;
        }
        Linker linker = Linker.nativeLinker();
        MethodHandle setenv = linker.downcallHandle(
                linker.defaultLookup().find("setenv").orElseThrow(),
                FunctionDescriptor.of(
                        ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.ADDRESS, ValueLayout.JAVA_INT));
        try (Arena arena = Arena.ofConfined()) {
            int status = (int) setenv.invokeExact(arena.allocateFrom(SPIN_COUNT), arena.allocateFrom("10000"), 1);
            if (status != 0) {
                throw new DeviceException("setenv " + SPIN_COUNT + " failed with status " + status);
            }
        } catch (DeviceException e) {
            throw e;
        } catch (Throwable e) {
            throw new DeviceException("setenv " + SPIN_COUNT + ": " + e, e);
        }
    }

    /** Whether this build has that library. */
    static boolean isCarried(String resource) {
        return NativeLibraries.class.getClassLoader().getResource(resource) != null;
    }

    /** Where a library of this build lies as a file of its own. @throws DeviceException where that cannot be had */
    static Path unpack(String resource) {
        String name = resource.substring(resource.lastIndexOf('/') + 1);
        try {
            String hash = resourceHash(resource);
            Path folder = CacheFolder.make(CacheFolder.make(CacheFolder.path()).resolve(hash));
            Path file = folder.resolve(name);
            if (Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)
                    && hash(Files.newInputStream(file)).equals(hash)) {
                return file;
            }
            Path fresh = Files.createTempFile(folder, name, ".tmp");
            try (InputStream in = open(resource)) {
                Files.copy(in, fresh, StandardCopyOption.REPLACE_EXISTING);
                Files.move(fresh, file, StandardCopyOption.ATOMIC_MOVE);
            } finally {
                Files.deleteIfExists(fresh);
            }
            return file;
        } catch (IOException | UncheckedIOException e) {
            throw new DeviceException(
                    "cannot unpack " + name + " into the cache folder (set XDG_CACHE_HOME to one you can write to): "
                            + (e.getClass() == IOException.class ? e.getMessage() : e),
                    e);
        }
    }

    private static InputStream open(String resource) throws IOException {
        InputStream in = NativeLibraries.class.getClassLoader().getResourceAsStream(resource);
        if (in == null) {
            throw new IOException("this jar does not carry " + resource);
        }
        return in;
    }

    /** Length and CRC-32 of the content; a jar's directory has them, so that nothing need be inflated to know them. */
    private static String resourceHash(String resource) throws IOException {
        URL url = NativeLibraries.class.getClassLoader().getResource(resource);
        if (url != null && url.openConnection() instanceof JarURLConnection connection) {
            JarEntry entry = connection.getJarEntry();
            return hash(entry.getSize(), entry.getCrc());
        }
        return hash(open(resource));
    }

    private static String hash(InputStream in) throws IOException {
        CRC32 crc = new CRC32();
        long length = 0;
        byte[] buffer = new byte[1 << 16];
        try (in) {
            for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                crc.update(buffer, 0, n);
                length += n;
            }
        }
        return hash(length, crc.getValue());
    }

    private static String hash(long length, long crc) {
        return Long.toHexString(length) + "-" + HexFormat.of().toHexDigits((int) crc);
    }
}
