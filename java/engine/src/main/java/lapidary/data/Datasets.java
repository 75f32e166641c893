package lapidary.data;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.FileSystems;
import java.nio.file.FileVisitOption;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.PathMatcher;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import java.util.stream.Stream;
import lapidary.format.FormatException;

/** Finds and opens data sets by the name that a user gives. */
public final class Datasets {
    private static final Set<String> ENDINGS = Set.of("parquet", "jsonl", "ndjson", "json");

    /** Words by which files and folders tell their split, as Hugging Face's datasets knows them. */
    private static final Map<String, List<String>> SPLITS = Map.of(
            "train", List.of("train", "training"),
            "test", List.of("test", "testing", "eval", "evaluation"),
            "validation", List.of("validation", "valid", "dev", "val"));

    private static final Pattern SHARD = Pattern.compile("(.*)-(\\d{5})-of-(\\d{5})\\.[^.]+");
    private static final int MAX_DEPTH = 4; // folders below the one named

    private Datasets() {}

    /** Opens a data set whose rows say by their columns which form they have. */
    public static Dataset open(String name, String split) {
        return open(name, split, RowForm.ANSWERED);
    }

    /**
     * Opens a data set of conversations.
     *
     * <p>{@code name} is a file ({@code .parquet}; {@code .jsonl}, {@code .ndjson} or {@code .json} with an object a line or one
     * list of objects); a glob of such files; or a folder. In a folder, README.md may say which files are of which split; else
     * {@code data/<split>-00000-of-0000n.*} is what the Hub has; else all files whose
     * path names the split ({@code train.jsonl}, {@code test/a.parquet}); else, where no file names any split, all files
     * are {@code train}. Files follow each other in the order of their names. A file or glob that is named by itself is
     * {@code train}, whatever it is called, and of any split that its name or the README.md beside it says.
     *
     * @param split a split or a slice of one, as {@link Split} reads it
     * @param forms those that rows may have
     * @throws FormatException there is no such data set, or it cannot be read, or it is empty
     * @throws IllegalArgumentException the split is malformed
     */
    public static Dataset open(String name, String split, Set<RowForm> forms) {
        return open(name, split, "", forms);
    }

    /**
     * The same.
     *
     * @param option that the split comes from, for messages; or nothing
     */
    public static Dataset open(String name, String split, String option, Set<RowForm> forms) {
        if (name.isBlank()) {
            throw new IllegalArgumentException("the name of the data set is empty");
        }
        Split wanted = Split.parse(split);
        List<Path> files = find(name, wanted.name(), option);
        List<Dataset> parts = new ArrayList<>();
        try {
            for (Path file : files) {
                parts.add(
                        ending(file).equals("parquet")
                                ? ParquetDataset.open(file, forms)
                                : JsonlDataset.open(file, forms));
            }
            Dataset whole = parts.size() == 1 ? parts.get(0) : new Chained(name, parts);
            if (whole.size() == 0) {
                throw new FormatException(name + " has no rows");
            }
            return wanted.isWhole() ? whole : Slice.of(whole, wanted, name);
        } catch (RuntimeException | Error e) {
            parts.forEach(Dataset::close);
            throw e;
        }
    }

    /**
     * Reads conversations to the end of a stream, an object a line or one list of objects. Paths of pictures begin in the working
     * directory.
     *
     * @param name of the stream, for messages
     * @param forms those that rows may have
     * @throws FormatException it cannot be read, or is empty
     */
    public static Dataset read(InputStream in, String name, Set<RowForm> forms) {
        Dataset rows = JsonlDataset.of(in, Path.of(name), forms);
        if (rows.size() == 0) {
            rows.close();
            throw new FormatException(name + " has no rows");
        }
        return rows;
    }

    private static List<Path> find(String name, String split, String option) {
        Path path = Path.of(name);
        if (Files.isRegularFile(path)) {
            if (!ENDINGS.contains(ending(path))) {
                throw new FormatException(name + " ends in \"" + ending(path) + "\", expected one of "
                        + new TreeSet<>(ENDINGS) + "; give the file the ending of its format");
            }
            requireSplit(List.of(path), split, option);
            return List.of(path);
        }
        if (Files.isDirectory(path)) {
            return inFolder(path, split);
        }
        if (name.matches(".*[*?\\[{].*")) {
            List<Path> files = matching(name);
            requireSplit(files, split, option);
            return files;
        }
        throw new FormatException("no such data set: " + name
                + " is neither a file, a folder nor a pattern; a name on the Hub has the form namespace/name");
    }

    /** Files that are named by themselves are train, and of the splits that they say. */
    private static void requireSplit(List<Path> files, String split, String option) {
        for (Path file : files) {
            Path name = file.getFileName();
            if (split.equals("train") || names(name, split)) {
                continue;
            }
            Path folder = file.toAbsolutePath().getParent();
            List<String> said = new ArrayList<>(DatasetCard.read(folder).splitsOf(file));
            SPLITS.keySet().stream().sorted().filter(each -> names(name, each)).forEach(said::add);
            if (!said.contains(split)) {
                throw new FormatException(file + " is not of split \"" + split + "\" but "
                        + (said.isEmpty()
                                ? "[train], as it names none"
                                : said.stream().distinct().toList())
                        + "; ask for that split" + (option.isEmpty() ? "" : " with " + option));
            }
        }
    }

    private static List<Path> matching(String glob) {
        String one = glob.replaceAll("/+", "/"); // paths have no doubled slash to match
        int wild = one.split("[*?\\[{]", 2)[0].lastIndexOf('/');
        Path folder = Path.of(wild < 0 ? "" : one.substring(0, wild + 1));
        PathMatcher matcher;
        try {
            matcher = FileSystems.getDefault().getPathMatcher("glob:" + one);
        } catch (PatternSyntaxException e) {
            String why = e.getDescription().replaceAll("'(\\S)$", "'$1'"); // Java leaves the second quote out
            throw new FormatException(
                    glob + " is no pattern of files: " + why + "; a backslash before a bracket makes it a letter", e);
        }
        List<Path> files = list(folder).stream().filter(matcher::matches).toList();
        if (files.isEmpty()) {
            throw new FormatException("no data file matches " + glob);
        }
        return files;
    }

    private static List<Path> inFolder(Path folder, String split) {
        List<Path> all = list(folder);
        List<Path> files = DatasetCard.read(folder).files(all, split).orElseGet(() -> ofSplit(folder, all, split));
        requireOneKind(folder, files, split);
        checkShards(files);
        return files;
    }

    private static void requireOneKind(Path folder, List<Path> files, String split) {
        if (files.stream().map(f -> ending(f).equals("parquet")).distinct().count() > 1) {
            throw new FormatException(folder + " has both Parquet and JSON files for split \"" + split
                    + "\"; name one kind, for example " + folder.resolve("*.parquet"));
        }
    }

    /**
     * Whether the rows of a data file are of the form that names pictures by path.
     *
     * @throws FormatException the file cannot be read
     */
    public static boolean namesPictures(Path file) {
        if (ending(file).equals("parquet")) {
            return ParquetFile.open(file, RowForm.ANSWERED).form() == RowForm.MMIU;
        }
        try (JsonlDataset rows = JsonlDataset.open(file, RowForm.ANSWERED)) {
            return rows.size() > 0 && RowForm.MMIU.fits(rows.columns(0));
        }
    }

    /** Whether a file of that name, anywhere in a folder, is one of a data set. */
    public static boolean isDataFile(Path relative) {
        return ENDINGS.contains(ending(relative))
                && !hidden(relative)
                && relative.getNameCount() <= MAX_DEPTH
                && !relative.getFileName().toString().equals("dataset_infos.json");
    }

    /**
     * Which of a folder's data files, sorted, are those of a split by their names, as {@link #open} says. They need not exist.
     *
     * @throws FormatException there are none, or not all
     */
    public static List<Path> ofSplit(Path folder, List<Path> all, String split) {
        if (all.isEmpty()) {
            throw new FormatException(folder + " has no data file (" + new TreeSet<>(ENDINGS) + ")");
        }
        List<Path> shards = all.stream()
                .filter(f -> folder.relativize(f).startsWith("data"))
                .filter(f -> f.getFileName().toString().startsWith(split + "-"))
                .filter(f -> SHARD.matcher(f.getFileName().toString()).matches())
                .toList();
        List<Path> named =
                all.stream().filter(f -> names(folder.relativize(f), split)).toList();
        Set<String> splits = new TreeSet<>();
        for (String other : SPLITS.keySet()) {
            if (all.stream().anyMatch(f -> names(folder.relativize(f), other))) {
                splits.add(other);
            }
        }
        List<Path> files = !shards.isEmpty() ? shards : !named.isEmpty() || !splits.isEmpty() ? named : all;
        if (files.isEmpty() || (files == all && !split.equals("train"))) {
            throw new FormatException(folder + " has no split \"" + split + "\""
                    + (splits.isEmpty() ? ", only files that name none: they are \"train\"" : ", only " + splits));
        }
        requireOneKind(folder, files, split);
        checkShards(files);
        return files;
    }

    /** Data files under {@code folder}, sorted; hidden files and folders are none. */
    private static List<Path> list(Path folder) {
        Path start = folder.toString().isEmpty() ? Path.of(".") : folder;
        if (!Files.isDirectory(start)) {
            throw new FormatException("no such folder: " + start);
        }
        if (Files.exists(start.resolve("dataset_info.json")) && Files.exists(start.resolve("state.json"))
                || Files.exists(start.resolve("dataset_dict.json"))) {
            throw new FormatException(
                    start + " is a folder of save_to_disk, whose Arrow files are not read; write Parquet"
                            + " instead, a file for each split: dataset.to_parquet(\"train.parquet\")");
        }
        try (Stream<Path> files = Files.walk(start, MAX_DEPTH, FileVisitOption.FOLLOW_LINKS)) {
            return files.filter(f -> ENDINGS.contains(ending(f)) && Files.isRegularFile(f))
                    .map(f -> folder.toString().isEmpty() ? start.relativize(f) : f)
                    .filter(f -> isDataFile(folder.relativize(f)))
                    .sorted(Comparator.comparing(Path::toString))
                    .toList();
        } catch (IOException | java.io.UncheckedIOException e) {
            throw new FormatException("cannot list " + start + ": " + e.getMessage(), e);
        }
    }

    private static boolean hidden(Path relative) {
        for (Path part : relative) {
            if (part.toString().startsWith(".") || part.toString().startsWith("__")) {
                return true;
            }
        }
        return false;
    }

    /** Whether a word of the path is the split's: set off by its ends, by punctuation or by digits. */
    private static boolean names(Path relative, String split) {
        String path = relative.toString().toLowerCase(Locale.ROOT);
        for (String word : SPLITS.getOrDefault(split, List.of(split.toLowerCase(Locale.ROOT)))) {
            if (Pattern.compile("(^|[-._ 0-9/\\\\])" + Pattern.quote(word) + "([-._ 0-9/\\\\]|$)")
                    .matcher(path)
                    .find()) {
                return true;
            }
        }
        return false;
    }

    /** A set {@code name-0000i-of-0000n} of which some are there must have all n. */
    private static void checkShards(List<Path> files) {
        Map<String, Set<Integer>> found = new LinkedHashMap<>();
        Map<String, Integer> expected = new LinkedHashMap<>();
        for (Path file : files) {
            Matcher shard = SHARD.matcher(file.toString());
            if (shard.matches()) {
                String set = shard.group(1) + "-*-of-" + shard.group(3);
                found.computeIfAbsent(set, key -> new TreeSet<>()).add(Integer.parseInt(shard.group(2)));
                expected.put(set, Integer.parseInt(shard.group(3)));
            }
        }
        found.forEach((set, numbers) -> {
            for (int i = 0; i < expected.get(set); i++) {
                if (!numbers.contains(i)) {
                    throw new FormatException(
                            "shard " + i + " of " + set + " is missing; fetch the missing files of the data set");
                }
            }
        });
    }

    private static String ending(Path file) {
        String name = file.getFileName() == null ? "" : file.getFileName().toString();
        return name.contains(".") ? name.substring(name.lastIndexOf('.') + 1).toLowerCase(Locale.ROOT) : "";
    }

    /** Files one after the other. */
    private record Chained(String name, List<Dataset> parts) implements Dataset {
        Chained {
            parts = List.copyOf(parts);
            long rows = parts.stream().mapToLong(Dataset::size).sum();
            if (rows > Integer.MAX_VALUE - 8) {
                throw new FormatException(name + " has " + rows + " rows, more than 2^31");
            }
        }

        @Override
        public int size() {
            return parts.stream().mapToInt(Dataset::size).sum();
        }

        @Override
        public Conversation get(int row) {
            int rest = row;
            for (Dataset part : parts) {
                if (rest < part.size()) {
                    return part.get(rest);
                }
                rest -= part.size();
            }
            throw new IndexOutOfBoundsException("row " + row + " of " + size());
        }

        @Override
        public void forEach(Consumer<Conversation> visitor) {
            parts.forEach(part -> part.forEach(visitor));
        }

        @Override
        public List<Path> files() {
            return parts.stream().flatMap(part -> part.files().stream()).toList();
        }

        @Override
        public String description() {
            return name + ", " + size() + " rows in " + parts.size() + " files";
        }

        @Override
        public void close() {
            parts.forEach(Dataset::close);
        }
    }

    /** Consecutive rows of a data set, which it closes. */
    private record Slice(Dataset whole, int from, int to, String split) implements Dataset {
        static Slice of(Dataset whole, Split split, String name) {
            int from = split.first(whole.size());
            int to = split.end(whole.size());
            if (from >= to) {
                throw new FormatException(name + " has " + whole.size() + " rows, of which " + split + " takes none");
            }
            return new Slice(whole, from, to, split.toString());
        }

        @Override
        public int size() {
            return to - from;
        }

        @Override
        public Conversation get(int row) {
            if (row < 0 || row >= size()) {
                throw new IndexOutOfBoundsException("row " + row + " of " + size());
            }
            return whole.get(from + row);
        }

        @Override
        public void forEach(Consumer<Conversation> visitor) {
            for (int row = from; row < to; row++) {
                visitor.accept(whole.get(row));
            }
        }

        @Override
        public List<Path> files() {
            return whole.files();
        }

        @Override
        public String description() {
            return whole.description() + ", of which " + split + " takes " + size();
        }

        @Override
        public void close() {
            whole.close();
        }
    }
}
