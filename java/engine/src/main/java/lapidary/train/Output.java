package lapidary.train;

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
    private final boolean made; // by this run
    private final FileChannel lock; // held as long as this run writes
    private FileChannel metrics; // null before the first line

    private Output(Path directory, boolean made, FileChannel lock) {
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
        boolean made = !Files.exists(directory);
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

    /** One line, in one write, so that a reader never sees half of it; the first drops an earlier run's lines. */
    void append(StepMetrics step) {
        try {
            metrics().write(ByteBuffer.wrap((JsonWriter.line(step.line()) + "\n").getBytes(StandardCharsets.UTF_8)));
        } catch (IOException e) {
            throw new FormatException(directory.resolve(METRICS) + ": " + e, e);
        }
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

    void save(Gemma3 model, LoraSpec spec, SftConfig config, Progress.Summary summary) {
        AtomicFile.writeTogether(directory, PeftAdapter.CONFIG_FILE, folder -> {
            PeftAdapter.write(folder, model.parameters(), model.linears(), spec, config.baseModelName());
            ProcessorFiles.copy(config.modelNameOrPath(), folder);
            AtomicFile.writeString(folder.resolve(STATE), JsonWriter.indented(state(config, summary)) + "\n");
        });
        try {
            metrics(); // where no step was logged, no line of an earlier run may stay either
        } catch (IOException e) {
            throw new FormatException(directory.resolve(METRICS) + ": " + e, e);
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
            if (made) {
                removeIfEmpty();
            }
        } catch (IOException e) {
            throw new FormatException("cannot close what was written to " + directory + ": " + e, e);
        }
    }

    /** A run that wrote nothing leaves no folder. */
    private void removeIfEmpty() throws IOException {
        try {
            Files.deleteIfExists(directory);
        } catch (DirectoryNotEmptyException e) {
            // it wrote something
        }
    }
}
