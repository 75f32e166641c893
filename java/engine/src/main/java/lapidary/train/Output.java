package lapidary.train;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;
import lapidary.gemma3.PeftAdapter;
import lapidary.gemma3.ProcessorFiles;

/**
 * The output folder: metrics.jsonl, and what TensorBoard reads, grow with each logged step; everything else that is written
 * here comes at the end, together, and each file appears under its final name whole or not at all. Nothing stands there
 * before there is something to write, and what an earlier run wrote stays until then.
 */
final class Output implements AutoCloseable {
    private static final String METRICS = "metrics.jsonl";
    private static final String LOCK = ".lock";

    private final Path directory;
    private final List<Path> made; // by this run: the folder and its parents, from below
    private final FileChannel lock; // held as long as this run writes
    private final GrowingFile metrics;
    private EventFile events; // null where TensorBoard is not reported to

    private Output(Path directory, List<Path> made, FileChannel lock) {
        this.directory = directory;
        this.made = made;
        this.lock = lock;
        this.metrics = new GrowingFile(directory.resolve(METRICS));
    }

    /**
     * Makes the folder, and makes sure that its files can be written when there is something to write.
     *
     * @throws FormatException where they cannot, or another run writes there
     */
    static Output open(Path directory) {
        for (Path at = directory.toAbsolutePath(); at != null; at = at.getParent()) {
            if (Files.exists(at) && !Files.isDirectory(at)) {
                throw unusable(directory, at + " is a file, not a folder", "move it away");
            }
        }
        List<String> names = new ArrayList<>(ProcessorFiles.NAMES);
        names.addAll(List.of(METRICS, TrainerState.FILE, PeftAdapter.MODEL_FILE, PeftAdapter.CONFIG_FILE));
        for (String name : names) {
            if (Files.isDirectory(directory.resolve(name))) {
                throw unusable(directory, "a folder stands in the place of its file " + name, "move it away");
            }
        }
        if (Files.isSymbolicLink(directory) && !Files.exists(directory)) {
            throw unusable(directory, "it is a link to what is not there", "make that folder");
        }
        List<Path> made = new ArrayList<>();
        for (Path at = directory.toAbsolutePath(); at != null && !Files.exists(at); at = at.getParent()) {
            made.add(at);
        }
        try {
            Files.createDirectories(directory);
            FileChannel lock =
                    FileChannel.open(directory.resolve(LOCK), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
            Output output = new Output(directory, made, lock);
            try {
                output.claim();
                return output;
            } catch (IOException | RuntimeException | Error e) {
                lock.close();
                throw e;
            }
        } catch (IOException e) {
            String reason =
                    e instanceof FileSystemException f && f.getReason() != null ? f.getReason() : e.getMessage();
            throw unusable(
                    directory,
                    e instanceof AccessDeniedException
                            ? "permission denied"
                            : e instanceof NoSuchFileException ? "it cannot be made there" : reason,
                    "");
        }
    }

    private void claim() throws IOException {
        boolean free;
        try {
            free = lock.tryLock() != null;
        } catch (OverlappingFileLockException e) { // held by this process
            free = false;
        }
        if (!free) {
            throw unusable(directory, "another run is writing to it", "wait for its end");
        }
    }

    /** @param cure beside another folder; empty where there is none */
    private static FormatException unusable(Path directory, String why, String cure) {
        return new FormatException("--output_dir " + directory + " cannot be written to: " + why + "; "
                + (cure.isEmpty() ? "" : cure + ", or ") + "choose another --output_dir");
    }

    /**
     * Takes up the log of the run that is gone on with: lines of later steps are dropped, and so is what a power cut left half
     * written behind them. Where the file has not all of the earlier ones, as in a folder of its own or of another run, they
     * are written again from {@code history}.
     *
     * @param history what trainer_state.json has of it
     */
    void resumeMetrics(List<Map<String, Object>> history) {
        Path file = directory.resolve(METRICS);
        try {
            List<String> kept = new ArrayList<>();
            // Not strictly: bytes behind the last checkpoint may be anything, and a line that is not as it was is not
            // kept.
            String text = Files.exists(file) ? new String(Files.readAllBytes(file), StandardCharsets.UTF_8) : "";
            for (String line : text.lines().toList()) {
                if (kept.size() == history.size() || !isOf(line, history.get(kept.size()))) {
                    break;
                }
                kept.add(line);
            }
            if (kept.size() != history.size()) {
                kept = history.stream().map(JsonWriter::line).toList();
            }
            AtomicFile.writeString(file, kept.isEmpty() ? "" : String.join("\n", kept) + "\n");
            metrics.keep();
        } catch (IOException e) {
            throw new FormatException(metrics.cannotWrite(e), e);
        }
    }

    /** Whether a line has all numbers of an entry, which it says more than. */
    private static boolean isOf(String line, Map<String, Object> entry) {
        try {
            Json json = Json.parse(METRICS, line);
            return entry.entrySet().stream()
                    .allMatch(each -> !(each.getValue() instanceof Number number)
                            || json.has(each.getKey())
                                    && Double.compare(json.number(each.getKey()), number.doubleValue()) == 0);
        } catch (FormatException e) {
            return false;
        }
    }

    /**
     * Reports to TensorBoard from now on.
     *
     * @param folder of its files, or null for the default
     * @param step the first to be reported
     * @param texts by their tags
     */
    void openEvents(Path folder, int step, Map<String, String> texts) {
        events = EventFile.open(folder == null ? EventFile.defaultFolder(directory) : folder, step);
        texts.forEach(events::text);
    }

    /** Where TensorBoard's files are; null for nowhere. */
    Path eventFolder() {
        return events == null ? null : events.folder();
    }

    /** Makes the lines so far outlast a power cut; a checkpoint that follows counts on them. */
    void force() {
        metrics.force();
        if (events != null) {
            events.force();
        }
    }

    /**
     * Adds a line to the metrics, and its numbers to what TensorBoard reads.
     *
     * @return what is wrong where one of the files is first found to take nothing
     */
    Optional<String> append(int step, Map<String, Object> line) {
        Optional<String> wrong = metrics.append((JsonWriter.line(line) + "\n").getBytes(StandardCharsets.UTF_8));
        Optional<String> wrongToo = events == null ? Optional.empty() : events.scalars(step, line);
        return wrong.or(() -> wrongToo);
    }

    /** Reports the entry that closes the log; metrics.jsonl has lines of steps alone. */
    void appendLast(int step, Map<String, Object> entry) {
        if (events != null) {
            events.scalars(step, entry);
        }
    }

    /**
     * Writes all that the run has made.
     *
     * @param adapter writes the adapter's and the processor's files
     * @param state of trainer_state.json
     * @throws FormatException where this cannot be; the adapter is then in a temporary folder that the message names
     */
    void save(AtomicFile.Filling adapter, Map<String, Object> state) {
        AtomicFile.Filling files = folder -> {
            adapter.writeTo(folder);
            AtomicFile.writeString(folder.resolve(TrainerState.FILE), JsonWriter.indented(state) + "\n");
        };
        try {
            AtomicFile.writeTogether(directory, PeftAdapter.CONFIG_FILE, files);
        } catch (FormatException e) {
            throw new FormatException(e.getMessage() + "; " + saveElsewhere(files), e);
        }
        metrics.finish(); // where no step was logged, no line of an earlier run may stay either
        if (events != null) {
            events.finish();
        }
    }

    /** Hours of training do not go with a disk that is full: says where they are. */
    private static String saveElsewhere(AtomicFile.Filling files) {
        try {
            Path second = Files.createTempDirectory("lapidary-adapter-"); // its owner's only
            AtomicFile.writeTogether(second, PeftAdapter.CONFIG_FILE, files);
            return "the trained adapter was saved to " + second + " instead, move it from there";
        } catch (IOException | FormatException e) {
            return "the trained adapter could not be saved to a temporary folder either: " + e.getMessage();
        }
    }

    @Override
    public void close() {
        try {
            metrics.close();
            if (events != null) {
                events.close();
            }
            Files.deleteIfExists(directory.resolve(LOCK)); // before it is let go: then nobody else's is deleted
            lock.close();
            removeIfEmpty();
        } catch (IOException e) {
            throw new FormatException("cannot close what was written to " + directory + ": " + e, e);
        }
    }

    /** A run that wrote nothing leaves no folder, nor parents that it made for it. */
    private void removeIfEmpty() throws IOException {
        try {
            for (Path folder : made) {
                Files.deleteIfExists(folder);
            }
        } catch (DirectoryNotEmptyException e) {
            // it wrote something
        }
    }
}
