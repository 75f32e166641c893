package lapidary.data;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;
import lapidary.format.FormatException;
import lapidary.format.ZipArchive;
import lapidary.image.ImageSource;

/**
 * The pictures that a data file names by path: files, or entries of zip files that lie beside it. {@code Animals/cat/1.png} is the
 * file, or else entry {@code cat/1.png} of {@code Animals.zip}, as if that had been extracted into a folder of its name, or
 * entry {@code Animals/cat/1.png} of it or of another zip file. Archives are read in place and opened when first asked for. Safe
 * for many threads.
 */
final class PictureFiles implements AutoCloseable {
    private final Path folder;
    private final Map<Path, ZipArchive> open = new HashMap<>();
    private final Map<Path, FormatException> broken = new HashMap<>(); // those that cannot be opened, and why
    private List<Path> zips; // beside the data; listed when first asked for

    /** Pictures of a data file, which need not exist. */
    PictureFiles(Path dataFile) {
        this.folder = folderOf(dataFile);
    }

    /** Where paths that a data file names begin. */
    static Path folderOf(Path dataFile) {
        return dataFile.toAbsolutePath().getParent();
    }

    /**
     * The picture of that path.
     *
     * @throws IllegalArgumentException there is none; the message says where it was looked for
     */
    ImageSource find(String path) {
        Path file;
        try {
            file = folder.resolve(path).normalize();
        } catch (InvalidPathException e) {
            throw new IllegalArgumentException("\"" + path + "\" is not a path", e);
        }
        if (!path.isEmpty()) {
            if (Files.isRegularFile(file)) {
                return ImageSource.of(file);
            }
            if (path.startsWith("\\\\")) {
                throw new IllegalArgumentException(
                        "\"" + path + "\" is a path of another machine; copy the pictures beside the data");
            }
            Optional<ImageSource> zipped = zipped(path);
            if (zipped.isPresent()) {
                return zipped.get();
            }
            if (Files.exists(file)) {
                throw new IllegalArgumentException(file + " is not a file");
            }
        }
        throw new IllegalArgumentException("no such picture: " + (path.isEmpty() ? "\"\"" : file) + searched());
    }

    private String searched() {
        int count = zips().size();
        String where = count == 0
                ? ""
                : ", nor in " + (count == 1 ? zips().get(0).getFileName() : count + " zip files beside");
        return zips().stream().map(this::unreadable).flatMap(Optional::stream).reduce(where, String::concat);
    }

    private Optional<String> unreadable(Path zip) {
        try {
            archive(zip);
            return Optional.empty();
        } catch (FormatException e) {
            return Optional.of("; " + e.getMessage());
        }
    }

    /** A zip file that cannot be read is told of where a picture is found nowhere else. */
    private boolean holds(Path zip, String entry) {
        return unreadable(zip).isEmpty() && archive(zip).has(entry);
    }

    /** The file that a picture lies in: itself, or a zip file; none for one that is in the data. */
    static Optional<Path> fileOf(ImageSource image) {
        if (image instanceof ImageSource.OnDisk onDisk) {
            return Optional.of(onDisk.file());
        }
        return image instanceof Zipped zipped ? Optional.of(zipped.archive().file()) : Optional.empty();
    }

    /**
     * Folders in which a file may appear that would be taken instead of an entry of a zip file: on the way from the data to
     * where the entry would be if it were extracted; none for other pictures.
     *
     * @param folder of the data that name the picture
     */
    static Set<Path> watchedFor(ImageSource image, Path folder) {
        Set<Path> watched = new LinkedHashSet<>();
        if (image instanceof Zipped zipped) {
            Path zip = zipped.archive().file().toAbsolutePath();
            List<Path> roots = roots(folder);
            for (Path root : roots) {
                List<Path> places = new ArrayList<>(List.of(root.resolve(zipped.entry())));
                for (Path of : roots) {
                    if (zip.startsWith(of)) {
                        String extracted = of.relativize(zip).toString().replaceFirst("(?i)\\.zip$", "");
                        places.add(root.resolve(extracted).resolve(zipped.entry()));
                    }
                }
                for (Path place : places) {
                    for (Path at = place.normalize().getParent();
                            at != null && at.startsWith(root);
                            at = at.getParent()) {
                        watched.add(at);
                    }
                }
            }
        }
        return watched;
    }

    /** The picture of a name that {@link Zipped} had. */
    ImageSource zipped(Path zip, String entry) {
        return new Zipped(archive(zip), entry);
    }

    private Optional<ImageSource> zipped(String path) {
        Path inside = Path.of(path).normalize();
        if (inside.isAbsolute() || inside.startsWith("..")) {
            return Optional.empty();
        }
        String whole = inside.toString();
        for (int n = inside.getNameCount() - 1; n > 0; n--) {
            String rest = inside.subpath(n, inside.getNameCount()).toString();
            for (Path root : roots(folder)) {
                Path zip = root.resolve(inside.subpath(0, n) + ".zip");
                for (String entry : Files.isRegularFile(zip) ? List.of(rest, whole) : List.<String>of()) {
                    if (archive(zip).has(entry)) {
                        return Optional.of(zipped(zip, entry));
                    }
                }
            }
        }
        List<Path> holders = zips().stream().filter(zip -> holds(zip, whole)).toList();
        if (holders.size() > 1) {
            throw new IllegalArgumentException(
                    "picture " + whole + " is in " + holders.size() + " zip files: " + holders + "; keep one of them");
        }
        return holders.stream().findFirst().map(zip -> zipped(zip, whole));
    }

    /** The data file's folder, and the one above where that is the Hub's data folder. */
    private static List<Path> roots(Path folder) {
        return folder.endsWith("data") && folder.getParent() != null
                ? List.of(folder, folder.getParent())
                : List.of(folder);
    }

    private synchronized List<Path> zips() {
        if (zips == null) {
            List<Path> found = new ArrayList<>();
            roots(folder).forEach(root -> found.addAll(list(root)));
            zips = List.copyOf(found);
        }
        return zips;
    }

    private static List<Path> list(Path folder) {
        try (Stream<Path> files = Files.list(folder)) {
            return files.filter(file -> file.toString().toLowerCase(Locale.ROOT).endsWith(".zip"))
                    .filter(Files::isRegularFile)
                    .sorted()
                    .toList();
        } catch (IOException e) {
            throw new FormatException("cannot list " + folder + ": " + e.getMessage(), e);
        }
    }

    private synchronized ZipArchive archive(Path zip) {
        FormatException known = broken.get(zip);
        if (known != null) {
            throw new FormatException(known.getMessage(), known);
        }
        try {
            return open.computeIfAbsent(zip, ZipArchive::open);
        } catch (FormatException e) {
            broken.put(zip, e); // rows by the thousand may ask for it
            throw e;
        }
    }

    @Override
    public synchronized void close() {
        open.values().forEach(ZipArchive::close);
        open.clear();
    }

    /** An entry of a zip file. */
    record Zipped(ZipArchive archive, String entry) implements ImageSource {
        @Override
        public String name() {
            return archive.file() + ": " + entry;
        }

        @Override
        public byte[] bytes() throws IOException {
            return archive.read(entry);
        }

        @Override
        public long length() throws IOException {
            return archive.length(entry);
        }
    }
}
