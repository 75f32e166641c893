package lapidary.train;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.JsonWriter;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.PeftAdapter;
import lapidary.gemma3.ProcessorFiles;
import lapidary.nn.LoraSpec;

/**
 * The output folder: metrics.jsonl grows a line per logged step; everything else is written at the end, together, and each
 * file appears under its final name whole or not at all. Nothing stands there before there is something to write, and
 * what an earlier run wrote stays until then.
 */
final class Output implements AutoCloseable {
    private static final String METRICS = "metrics.jsonl";
    private static final String STATE = "trainer_state.json";
    private static final String LOCK = ".lock";

    private final Path directory;
    private final List<Path> made; // by this run: the folder and its parents, from below
    private final FileChannel lock; // held as long as this run writes
    private final ByteArrayOutputStream waits = new ByteArrayOutputStream(); // lines not written yet
    private FileChannel metrics; // null before the first line

    private Output(Path directory, List<Path> made, FileChannel lock) {
        this.directory = directory;
        this.made = made;
        this.lock = lock;
    }

    /**
     * Makes the folder, and makes sure that its files can be written when there is something to write.
     *
     * @throws FormatException where they cannot, or another run writes there
     */
    static Output open(Path directory) {
        for (Path at = directory.toAbsolutePath(); at != null; at = at.getParent()) {
            if (Files.exists(at) && !Files.isDirectory(at)) {
                throw unusable(directory, at + " is a file, not a folder; move it away");
            }
        }
        List<String> names = new ArrayList<>(ProcessorFiles.NAMES);
        names.addAll(List.of(METRICS, STATE, PeftAdapter.MODEL_FILE, PeftAdapter.CONFIG_FILE));
        for (String name : names) {
            if (Files.isDirectory(directory.resolve(name))) {
                throw unusable(directory, "a folder stands in the place of its file " + name + "; move it away");
            }
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
            throw unusable(directory, e instanceof AccessDeniedException ? "permission denied" : reason);
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
            throw unusable(directory, "another run is writing to it; wait for its end");
        }
    }

    private static FormatException unusable(Path directory, String why) {
        return new FormatException(
                "--output_dir " + directory + " cannot be written to: " + why + ", or choose another --output_dir");
    }

    /**
     * Adds a line; the first drops an earlier run's. Where there is no room for it, it waits for the next call with those
     * that come, as no line is worth the training; the file then ends with a whole line.
     *
     * @return what is wrong where this line is the first to wait
     */
    Optional<String> append(StepMetrics step) {
        boolean waiting = waits.size() > 0;
        waits.writeBytes((JsonWriter.line(step.line()) + "\n").getBytes(StandardCharsets.UTF_8));
        try {
            writeLines();
            return Optional.empty();
        } catch (IOException e) {
            return waiting ? Optional.empty() : Optional.of(cannotWriteMetrics(e));
        }
    }

    /** All lines that wait, or none. */
    private void writeLines() throws IOException {
        long end = metrics().position();
        try {
            AtomicFile.writeFully(metrics(), ByteBuffer.wrap(waits.toByteArray()));
            waits.reset();
        } catch (IOException e) {
            metrics().truncate(end);
            throw e;
        }
    }

    private String cannotWriteMetrics(IOException e) {
        Path file = directory.resolve(METRICS);
        return "cannot write " + file + ": " + AtomicFile.reason(file, e);
    }

    private FileChannel metrics() throws IOException {
        if (metrics == null) {
            metrics = FileChannel.open(
                    directory.resolve(METRICS),
                    StandardOpenOption.CREATE,
                    StandardOpenOption.TRUNCATE_EXISTING,
                    StandardOpenOption.WRITE);
        }
        return metrics;
    }

    /**
     * Writes all that the run has made.
     *
     * @throws FormatException where this cannot be; the adapter is then in a temporary folder that the message names
     */
    void save(Gemma3 model, LoraSpec spec, SftConfig config, Progress.Summary summary) {
        AtomicFile.Filling files = folder -> {
            PeftAdapter.write(folder, model.parameters(), model.linears(), spec, config.baseModelName());
            ProcessorFiles.copy(config.modelNameOrPath(), folder);
            AtomicFile.writeString(folder.resolve(STATE), JsonWriter.indented(state(config, summary)) + "\n");
        };
        try {
            AtomicFile.writeTogether(directory, PeftAdapter.CONFIG_FILE, files);
        } catch (FormatException e) {
            throw new FormatException(e.getMessage() + "; " + saveElsewhere(files), e);
        }
        try {
            writeLines(); // where no step was logged, no line of an earlier run may stay either
        } catch (IOException e) {
            throw new FormatException(cannotWriteMetrics(e) + "; the adapter is saved", e);
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

    /** What Hugging Face's TrainerState writes. */
    private static Map<String, Object> state(SftConfig config, Progress.Summary summary) {
        Map<String, Object> state = new TreeMap<>();
        state.put("best_global_step", null);
        state.put("best_metric", null);
        state.put("best_model_checkpoint", null);
        state.put("epoch", summary.epoch());
        state.put("eval_steps", 500);
        state.put("global_step", summary.steps());
        state.put("is_hyper_param_search", false);
        state.put("is_local_process_zero", true);
        state.put("is_world_process_zero", true);
        state.put("log_history", summary.history());
        state.put("logging_steps", config.loggingSteps());
        state.put("max_steps", summary.steps());
        state.put("num_input_tokens_seen", 0);
        state.put("num_train_epochs", (int) Math.ceil(summary.epoch()));
        state.put("save_steps", 500);
        state.put("stateful_callbacks", Map.of());
        state.put("total_flos", 0.0);
        state.put("train_batch_size", config.perDeviceTrainBatchSize());
        state.put("trial_name", null);
        state.put("trial_params", null);
        return state;
    }

    @Override
    public void close() {
        try {
            if (metrics != null) {
                metrics.close();
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
