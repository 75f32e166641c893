package lapidary.train;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.JsonWriter;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.PeftAdapter;
import lapidary.nn.LoraSpec;

/**
 * The output folder: metrics.jsonl grows a line per logged step; everything else is written whole at the end, under its
 * final name or not at all.
 */
final class Output implements AutoCloseable {
    /** What a processor is loaded from; copied from the model's folder where it is there. */
    private static final List<String> PROCESSOR_FILES = List.of(
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "chat_template.json",
            "chat_template.jinja",
            "preprocessor_config.json",
            "processor_config.json");

    private final Path directory;
    private final FileChannel metrics;

    private Output(Path directory, FileChannel metrics) {
        this.directory = directory;
        this.metrics = metrics;
    }

    /** @throws FormatException where the folder cannot be written to */
    static Output open(Path directory) {
        try {
            Files.createDirectories(directory);
            FileChannel metrics = FileChannel.open(
                    directory.resolve("metrics.jsonl"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
            return new Output(directory, metrics);
        } catch (IOException e) {
            throw new FormatException("--output_dir " + directory + " cannot be written to: " + e, e);
        }
    }

    /** Drops an earlier run's metrics: only once model and data are known to be good. */
    void begin() {
        try {
            metrics.truncate(0);
        } catch (IOException e) {
            throw new FormatException(directory.resolve("metrics.jsonl") + ": " + e, e);
        }
    }

    /** One line, in one write, so that a reader never sees half of it. */
    void append(StepMetrics step) {
        try {
            metrics.write(ByteBuffer.wrap((JsonWriter.line(step.line()) + "\n").getBytes(StandardCharsets.UTF_8)));
        } catch (IOException e) {
            throw new FormatException(directory.resolve("metrics.jsonl") + ": " + e, e);
        }
    }

    void save(Gemma3 model, LoraSpec spec, SftConfig config, Progress.Summary summary) {
        PeftAdapter.write(directory, model.parameters(), model.linears(), spec, config.baseModelName());
        for (String name : PROCESSOR_FILES) {
            Path source = config.modelNameOrPath().resolve(name);
            if (Files.isRegularFile(source)) {
                copy(source, directory.resolve(name));
            }
        }
        AtomicFile.writeString(
                directory.resolve("trainer_state.json"), JsonWriter.indented(state(config, summary)) + "\n");
    }

    private static void copy(Path source, Path target) {
        AtomicFile.write(target, out -> {
            try (FileChannel in = FileChannel.open(source)) {
                long size = in.size();
                for (long done = 0; done < size; ) {
                    done += in.transferTo(done, size - done, out);
                }
            }
        });
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
            metrics.close();
        } catch (IOException e) {
            throw new FormatException(directory.resolve("metrics.jsonl") + ": " + e, e);
        }
    }
}
