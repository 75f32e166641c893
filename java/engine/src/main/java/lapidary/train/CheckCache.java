package lapidary.train;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import lapidary.data.DataOptions;
import lapidary.data.Dataset;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;

/**
 * Remembers looks at all rows of a data set, so that the next run on the same rows need not decode every picture before its
 * first step. Only a look that found no bad row is kept: what was bad may be mended by a file that appears.
 *
 * <p>An entry holds for one engine, one set of files and one set of options. A file is the same if path, number, size, times of
 * change of content and of change of anything ("ctime") are the same. Reading it all again to hash it would cost what is to
 * be saved. Times of content alone can be set back, and are by {@code cp -p}, rsync and archivers; ctime cannot but by setting
 * the clock, and every write, rename over and touch moves it. It moves by ticks, so that a write shortly after a look may not
 * show: files that changed in the seconds before the look are not remembered. Where pictures come from zip files, the
 * folders count too in which a file or a zip file would be taken instead: that of the data, and those on the way to where the
 * entries would be if they were extracted.
 *
 * <p>Entries carry a digest; one that is damaged counts for nothing. At most {@value #MOST} are kept, of {@value #BYTES} bytes in
 * all, the last used ones.
 */
final class CheckCache {
    static final int MOST = 64;
    static final long BYTES = 64L << 20;

    /** Longer than a tick of any file system that keeps times finer than FAT. */
    static final long SETTLED_MS = 2000;

    private static final String MAGIC = "lapidary check 1";
    private static final String ENDING = ".check";

    private final Path folder; // null for none
    private final long settledMs;

    /** @param folder need not exist; or null to remember nothing */
    CheckCache(Path folder, long settledMs) {
        this.folder = folder;
        this.settledMs = settledMs;
    }

    static CheckCache none() {
        return new CheckCache(null, SETTLED_MS);
    }

    /** Where the look at one data set's rows is. */
    final class Place {
        private final List<Path> files;
        private final String settings;
        private final Path model;
        private final boolean isPanAndScan;
        private String key; // null where there is none
        private long asked;

        private Place(Path model, List<Path> files, String settings, boolean isPanAndScan) {
            this.model = model;
            this.files = files;
            this.settings = settings;
            this.isPanAndScan = isPanAndScan;
        }

        /** What an earlier look found, or null. */
        Checked find() {
            asked = System.currentTimeMillis();
            key = folder == null ? null : key(model, files, settings);
            return key == null ? null : read(key);
        }

        /** @param pictures files that pictures were read from, and folders in which others may appear instead */
        void keep(Checked found, Set<Path> pictures) {
            // Views of a row that is left out for its length are not counted picture by picture.
            boolean unwatched = isPanAndScan && !found.tooLong().isEmpty();
            if (key == null || unwatched || !found.bad().isEmpty() || !key.equals(key(model, files, settings))) {
                return; // or a file changed meanwhile
            }
            Set<Path> watched = new TreeSet<>(pictures);
            if (pictures.stream()
                    .anyMatch(file -> file.toString().toLowerCase(Locale.ROOT).endsWith(".zip"))) {
                for (Path file : files) {
                    Path home = file.toAbsolutePath().getParent();
                    watched.add(home);
                    watched.add(home.getParent() == null ? home : home.getParent());
                }
            }
            Map<Path, String> states = states(watched);
            List<Path> all = new ArrayList<>(files);
            all.addAll(watched);
            if (states != null && all.stream().allMatch(file -> isSettled(file, asked - settledMs))) {
                write(key, found, states);
            }
        }
    }

    Place place(SftConfig config, String split, Dataset dataset) {
        DataOptions data = config.data();
        String settings = String.join(
                "\n",
                data.forms().stream().map(Enum::name).sorted().toList().toString(),
                data.lossOn().name(),
                String.valueOf(data.maxLength()),
                data.overlong().name(),
                String.valueOf(data.dropBad()),
                String.valueOf(data.panAndScan()),
                config.profile().name(),
                split,
                String.valueOf(dataset.size()));
        return new Place(config.modelNameOrPath(), dataset.files(), settings, data.panAndScan());
    }

    // ---- keys ----------------------------------------------------------------------------------------------------

    private static String key(Path model, List<Path> files, String settings) {
        try {
            MessageDigest digest = sha256();
            add(digest, MAGIC);
            for (Path file : engine()) {
                add(digest, state(file));
            }
            for (Path file : modelFiles(model)) {
                add(digest, file.getFileName() + " " + state(file));
            }
            add(digest, settings);
            for (Path file : files) {
                add(digest, file.toAbsolutePath() + " " + state(file));
            }
            return HexFormat.of().formatHex(digest.digest());
        } catch (IOException | UncheckedIOException e) {
            return null; // a file that cannot be looked at: the look at the rows says what is wrong
        }
    }

    /** All of a model's folder but its weights, which no row depends on. */
    private static List<Path> modelFiles(Path model) throws IOException {
        try (Stream<Path> files = Files.list(model)) {
            return files.filter(Files::isRegularFile)
                    .filter(file -> !file.toString().matches(".*\\.(safetensors|bin|gguf|pt|pth)"))
                    .sorted()
                    .toList();
        }
    }

    /** The jar that this runs from, or the classes. */
    private static List<Path> engine() throws IOException {
        try {
            Path from = Path.of(CheckCache.class
                    .getProtectionDomain()
                    .getCodeSource()
                    .getLocation()
                    .toURI());
            if (Files.isRegularFile(from)) {
                return List.of(from);
            }
            try (Stream<Path> classes = Files.walk(from)) {
                return classes.filter(file -> file.toString().endsWith(".class"))
                        .sorted()
                        .toList();
            }
        } catch (URISyntaxException e) {
            throw new IOException(e);
        }
    }

    /** What changes with a file. Links are followed. */
    private static String state(Path file) throws IOException {
        Map<String, Object> now = Files.readAttributes(file, "unix:dev,ino,size,lastModifiedTime,ctime");
        return String.join(
                " ",
                String.valueOf(now.get("dev")),
                String.valueOf(now.get("ino")),
                String.valueOf(now.get("size")),
                String.valueOf(((FileTime) now.get("lastModifiedTime")).to(TimeUnit.NANOSECONDS)),
                String.valueOf(((FileTime) now.get("ctime")).to(TimeUnit.NANOSECONDS)));
    }

    private static Map<Path, String> states(Collection<Path> files) {
        Map<Path, String> states = new TreeMap<>();
        try {
            for (Path file : files) {
                states.put(file.toAbsolutePath(), state(file));
            }
            return states;
        } catch (IOException e) {
            return null;
        }
    }

    private static boolean isSettled(Path file, long beforeMs) {
        try {
            return ((FileTime) Files.getAttribute(file, "unix:ctime")).toMillis() <= beforeMs;
        } catch (IOException e) {
            return false;
        }
    }

    // ---- entries -------------------------------------------------------------------------------------------------

    private Checked read(String key) {
        Path file = folder.resolve(key + ENDING);
        try {
            if (!Files.isRegularFile(file) || Files.size(file) > BYTES) {
                return null;
            }
            byte[] bytes = Files.readAllBytes(file);
            int end = Math.max(0, bytes.length - 32);
            MessageDigest digest = sha256();
            digest.update(bytes, 0, end);
            if (!Arrays.equals(digest.digest(), Arrays.copyOfRange(bytes, end, bytes.length))) {
                Files.deleteIfExists(file);
                return null;
            }
            Checked found = parse(key, bytes);
            if (found != null) {
                Files.setLastModifiedTime(file, FileTime.from(Instant.now()));
            }
            return found;
        } catch (IOException e) {
            return null; // the rows are looked at, as without a cache
        }
    }

    private static Checked parse(String key, byte[] bytes) throws IOException {
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes));
        if (!in.readUTF().equals(MAGIC) || !in.readUTF().equals(key)) {
            return null;
        }
        for (int i = in.readInt(); i > 0; i--) {
            Path file = Path.of(text(in));
            if (!state(file).equals(in.readUTF())) {
                return null;
            }
        }
        int rows = in.readInt();
        int[] accepted = ints(in);
        int[] tokens = ints(in);
        int[] views = ints(in);
        int vocabulary = in.readInt();
        List<Integer> tooLong = Arrays.stream(ints(in)).boxed().toList();
        return new Checked(rows, accepted, tokens, views, vocabulary, List.of(), tooLong, in.readUTF(), true);
    }

    private void write(String key, Checked found, Map<Path, String> pictures) {
        try {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            DataOutputStream out = new DataOutputStream(bytes);
            out.writeUTF(MAGIC);
            out.writeUTF(key);
            out.writeInt(pictures.size());
            for (Map.Entry<Path, String> each : pictures.entrySet()) {
                byte[] path = each.getKey().toString().getBytes(StandardCharsets.UTF_8);
                out.writeInt(path.length);
                out.write(path);
                out.writeUTF(each.getValue());
            }
            out.writeInt(found.rows());
            ints(out, found.accepted());
            ints(out, found.tokens());
            ints(out, found.views());
            out.writeInt(found.vocabulary());
            ints(out, found.tooLong().stream().mapToInt(row -> row).toArray());
            out.writeUTF(found.fingerprint());
            out.write(sha256().digest(bytes.toByteArray()));
            if (bytes.size() > BYTES / 4) {
                return; // some million rows or pictures
            }
            Files.createDirectories(folder);
            byte[] all = bytes.toByteArray();
            AtomicFile.write(
                    folder.resolve(key + ENDING), channel -> AtomicFile.writeFully(channel, ByteBuffer.wrap(all)));
            evict();
        } catch (IOException | FormatException e) {
            // A folder that cannot be written to costs the next run its look at the rows, and nothing else.
        }
    }

    private void evict() throws IOException {
        List<Path> entries;
        try (Stream<Path> files = Files.list(folder)) {
            entries = new ArrayList<>(
                    files.filter(file -> file.toString().endsWith(ENDING)).toList());
        }
        entries.sort(Comparator.comparing(file -> -file.toFile().lastModified()));
        long bytes = 0;
        for (int i = 0; i < entries.size(); i++) {
            bytes += entries.get(i).toFile().length();
            if (i >= MOST || bytes > BYTES) {
                Files.deleteIfExists(entries.get(i));
            }
        }
    }

    private static String text(DataInputStream in) throws IOException {
        return new String(in.readNBytes(in.readInt()), StandardCharsets.UTF_8);
    }

    private static int[] ints(DataInputStream in) throws IOException {
        int n = in.readInt();
        ByteBuffer bytes = ByteBuffer.wrap(in.readNBytes(4 * n));
        int[] values = new int[n];
        bytes.asIntBuffer().get(values);
        return values;
    }

    private static void ints(DataOutputStream out, int[] values) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(4 * values.length);
        bytes.asIntBuffer().put(values);
        out.writeInt(values.length);
        out.write(bytes.array());
    }

    private static void add(MessageDigest digest, String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        digest.update(ByteBuffer.allocate(4).putInt(0, bytes.length));
        digest.update(bytes);
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every JDK has SHA-256", e);
        }
    }
}
