package lapidary.cli;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Consumer;
import lapidary.device.DType;
import lapidary.format.AtomicFile;
import lapidary.format.Json;
import lapidary.hub.Hub;
import lapidary.hub.HubException;
import lapidary.hub.HubListener;
import lapidary.hub.HubSettings;
import lapidary.hub.ModelCard;
import lapidary.hub.Push;
import lapidary.hub.RepoId;
import lapidary.train.SaveOptions;
import lapidary.train.SftConfig;
import picocli.CommandLine;

/**
 * Publishes the output folder of a run, with a card that says what was trained; and as {@code hub_strategy} says, the
 * checkpoints before that, on a thread of its own, so that training goes on meanwhile.
 */
final class HubPush implements AutoCloseable {
    private static final String MESSAGE = "End of training";

    /** Which checkpoints are published, and what of them; under transformers' names. */
    enum Strategy {
        END,
        EVERY_SAVE,
        CHECKPOINT,
        ALL_CHECKPOINTS;

        /** @throws IllegalArgumentException naming the option and what it may be */
        static Strategy of(String name) {
            for (Strategy each : values()) {
                if (each.name().equalsIgnoreCase(name)) {
                    return each;
                }
            }
            throw new IllegalArgumentException(
                    "--hub_strategy is " + name + ", expected end, every_save, checkpoint or all_checkpoints");
        }
    }

    private final RepoId repo;
    private final Strategy strategy;
    private final CommandLine command;
    private final ExecutorService worker = Executors.newSingleThreadExecutor(task -> {
        Thread thread = new Thread(task, "hub-push");
        thread.setDaemon(true); // a run that failed does not wait for the network
        return thread;
    });
    private Future<?> last = CompletableFuture.completedFuture(null);

    HubPush(RepoId repo, Strategy strategy, CommandLine command) {
        this.repo = repo;
        this.strategy = strategy;
        this.command = command;
    }

    /**
     * Publishes a checkpoint while training goes on. One that comes while another is on its way is left out, as transformers
     * does, unless all are wanted; what cannot be published is told and no more: the end publishes again.
     *
     * @param tell shows a line
     */
    void saved(int step, Path checkpoint, Consumer<String> tell) {
        if (strategy == Strategy.END || (strategy != Strategy.ALL_CHECKPOINTS && !last.isDone())) {
            return;
        }
        last = worker.submit(() -> tell.accept(publish(step, checkpoint)));
    }

    private String publish(int step, Path checkpoint) {
        try (Hub hub = new Hub(HubSettings.ofEnvironment(), HubListener.SILENT)) {
            String address = hub.upload(repo, files(checkpoint), "Training in progress, step " + step);
            return "step " + step + "  published as " + address;
        } catch (RuntimeException e) { // of the Hub, or of a checkpoint that is no longer kept: training goes on
            return "step " + step + "  is not published: " + e.getMessage();
        }
    }

    private SortedMap<String, Path> files(Path checkpoint) {
        SortedMap<String, Path> all = Push.files(checkpoint);
        SortedMap<String, Path> files = new TreeMap<>(all);
        files.keySet().removeAll(SaveOptions.STATE_FILES);
        files.remove(EffectiveConfig.FILE);
        if (strategy != Strategy.EVERY_SAVE) {
            String folder = strategy == Strategy.CHECKPOINT
                    ? "last-checkpoint"
                    : checkpoint.getFileName().toString();
            all.forEach((path, file) -> files.put(folder + "/" + path, file));
        }
        return files;
    }

    /** Waits for what is on its way. */
    @Override
    public void close() {
        if (!last.isDone()) {
            command.getOut().println("Waiting for the checkpoint that is being published");
            command.getOut().flush();
        }
        worker.close();
    }

    /**
     * Writes README.md and uploads, after what is on its way.
     *
     * @param dataset as the user gave it
     * @throws HubException what was trained is not published; the message says how to try again
     */
    void finish(SftConfig config, String dataset) {
        close();
        Path folder = config.outputDir();
        AtomicFile.writeString(
                folder.resolve("README.md"), card(config, dataset).text());
        try (Hub hub = HubOptions.hub(command)) {
            String address = hub.upload(repo, Push.files(folder), MESSAGE);
            PrintWriter out = command.getOut();
            out.println("Published as " + address);
            out.flush();
        } catch (HubException e) {
            throw new HubException(
                    "the adapter is in " + folder + ", but not published: " + e.getMessage()
                            + "; try again with: engine upload " + repo + " " + folder,
                    e);
        }
    }

    private ModelCard card(SftConfig config, String dataset) {
        String base = config.baseModelName();
        return new ModelCard(
                repo.name().substring(repo.name().indexOf('/') + 1),
                repo,
                HubOptions.isLocal(base) ? "" : base,
                HubOptions.isLocal(dataset) ? "" : dataset,
                options(config),
                Info.Version.version(),
                history(Json.read(config.outputDir().resolve("trainer_state.json"))));
    }

    private static Map<String, Object> options(SftConfig config) {
        Map<String, Object> options = new LinkedHashMap<>();
        Json adapter = Json.read(config.outputDir().resolve("adapter_config.json"));
        options.put("learning_rate", config.learningRate());
        options.put("lr_scheduler_type", config.lrSchedulerType());
        if (!config.lrSchedulerKwargs().isEmpty()) {
            options.put("lr_scheduler_kwargs", config.lrSchedulerKwargs());
        }
        options.put("warmup_steps", config.warmupSteps());
        options.put("per_device_train_batch_size", config.perDeviceTrainBatchSize());
        options.put("gradient_accumulation_steps", config.gradientAccumulationSteps());
        options.put("num_train_epochs", config.numTrainEpochs());
        options.put("max_steps", config.maxSteps());
        options.put("optim", config.optimizer().optim());
        options.put("adam_beta1", config.optimizer().beta1());
        options.put("adam_beta2", config.optimizer().beta2());
        options.put("adam_epsilon", config.optimizer().epsilon());
        options.put("weight_decay", config.optimizer().weightDecay());
        options.put("max_grad_norm", config.maxGradNorm());
        options.put("seed", config.seed());
        if (config.loadIn4bit()) {
            options.put("load_in_4bit", true);
            options.put("use_bnb_nested_quant", config.useBnbNestedQuant());
        }
        options.put("dtype", config.dtype() == DType.F32 ? "float32" : "bfloat16");
        for (String key : List.of("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save")) {
            if (adapter.has(key)) {
                JsonNode value = adapter.get(key).node();
                options.put(key.equals("r") ? "lora_r" : key, value.isTextual() ? value.textValue() : value);
            }
        }
        return options;
    }

    private static List<Map<String, Object>> history(Json state) {
        List<Map<String, Object>> history = new ArrayList<>();
        for (Json entry : state.get("log_history").elements()) {
            Map<String, Object> values = new LinkedHashMap<>();
            entry.node().properties().forEach(field -> {
                JsonNode value = field.getValue();
                if (value.isNumber()) {
                    values.put(field.getKey(), value.numberValue());
                }
            });
            history.add(values);
        }
        return history;
    }
}
