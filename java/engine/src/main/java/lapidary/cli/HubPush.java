package lapidary.cli;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.stream.Collectors;
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
    private static final int TICK = 100; // ms

    /** What is on its way when a run is asked to stop has this long from then on: whoever asks often kills after 30 s. */
    static final Duration GRACE = Duration.ofSeconds(20);

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
    private final Supplier<Hub> hubs; // each is closed after its use
    private final Duration grace;
    private final Map<Integer, Path> pending = new ConcurrentSkipListMap<>(); // checkpoints by step
    private final ExecutorService worker = Executors.newSingleThreadExecutor(task -> {
        Thread thread = new Thread(task, "hub-push");
        thread.setDaemon(true); // a run that failed does not wait for the network
        return thread;
    });
    private Future<?> last = CompletableFuture.completedFuture(null);
    private volatile boolean stopping;
    private volatile long stoppingSince; // System.nanoTime()
    private volatile boolean givenUp;

    HubPush(RepoId repo, Strategy strategy, CommandLine command) {
        this(
                repo,
                strategy,
                command,
                () -> new Hub(HubSettings.ofEnvironment(), HubListener.SILENT).expectAnswer(),
                GRACE);
    }

    HubPush(RepoId repo, Strategy strategy, CommandLine command, Supplier<Hub> hubs, Duration grace) {
        this.repo = repo;
        this.strategy = strategy;
        this.command = command;
        this.hubs = hubs;
        this.grace = grace;
    }

    /** The run is asked to stop: from now on, what is on its way is waited for no longer than the grace. From any thread. */
    void stop() {
        stoppingSince = System.nanoTime();
        stopping = true;
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
        Held held = Held.of(checkpoint);
        pending.put(step, checkpoint);
        last = worker.submit(() -> {
            String line = "step " + step + "  is not published: out of memory, or a mistake of this program";
            try {
                line = publish(step, held);
            } finally {
                held.drop();
                if (!givenUp) {
                    pending.remove(step);
                    tell.accept(line);
                }
            }
        });
    }

    private String publish(int step, Held held) {
        try (Hub hub = hubs.get()) {
            String address = hub.upload(repo, files(held), "Training in progress, step " + step);
            pending.remove(step);
            return "step " + step + "  published as " + address;
        } catch (RuntimeException e) { // training goes on
            return "step " + step
                    + (Files.isDirectory(held.checkpoint())
                            ? "  is not published: " + e.getMessage()
                            : "  is left out of what is published: save_total_limit removed it before its turn came");
        }
    }

    private SortedMap<String, Path> files(Held held) {
        Path checkpoint = held.checkpoint();
        SortedMap<String, Path> all = Push.files(checkpoint);
        SortedMap<String, Path> files = new TreeMap<>(all);
        files.keySet().removeAll(SaveOptions.STATE_FILES);
        files.remove(EffectiveConfig.FILE);
        files.putAll(Push.files(held.events()));
        if (strategy != Strategy.EVERY_SAVE) {
            String folder = strategy == Strategy.CHECKPOINT
                    ? "last-checkpoint"
                    : checkpoint.getFileName().toString();
            all.forEach((path, file) -> files.put(folder + "/" + path, file));
        }
        return files;
    }

    /** Waits for what is on its way, after {@link #stop} only for a while, and tells then what is not published. */
    @Override
    public void close() {
        if (!last.isDone()) {
            say("Waiting for the checkpoint that is being published"
                    + (stopping ? ", " + grace.toSeconds() + " s at most" : ""));
        }
        if (!await(last)) {
            giveUp();
            if (!pending.isEmpty()) {
                say("Stopped before the Hub had taken step "
                        + pending.keySet().stream().map(String::valueOf).collect(Collectors.joining(", "))
                        + ": its checkpoints are safe in "
                        + pending.values().iterator().next().toAbsolutePath().getParent()
                        + ", and the run publishes again when it is gone on with");
            }
        }
        worker.shutdown();
    }

    /** A run that failed publishes nothing more. */
    void giveUp() {
        givenUp = true;
        worker.shutdownNow(); // what is sent now is taken as a whole by the Hub, or not at all
        try {
            worker.awaitTermination(2, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        pending.values().forEach(checkpoint -> Held.folder(checkpoint).drop());
    }

    /** Whether a task has ended, before the grace has where there is one. */
    private boolean await(Future<?> task) {
        while (!task.isDone() && !(stopping && System.nanoTime() - stoppingSince > grace.toNanos())) {
            try {
                task.get(TICK, TimeUnit.MILLISECONDS);
            } catch (TimeoutException | ExecutionException e) {
                // asked again, or it has ended
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return false;
            }
        }
        return task.isDone();
    }

    private void say(String line) {
        PrintWriter out = command.getOut();
        out.println(line);
        out.flush();
    }

    /**
     * Writes README.md and uploads, after what is on its way.
     *
     * @param dataset as the user gave it
     * @throws HubException what was trained is not published; the message says how to try again
     */
    void finish(SftConfig config, String dataset) {
        Path folder = config.outputDir();
        AtomicFile.writeString(
                folder.resolve("README.md"), card(config, dataset).text());
        if (!last.isDone()) {
            say("Waiting for the checkpoint that is being published");
        }
        Future<String> end = worker.submit(() -> publish(folder));
        if (!await(end)) {
            giveUp();
            throw notPublished(folder, "the run was stopped before the Hub had taken it", null);
        }
        worker.shutdown();
        try {
            say("Published as " + end.get());
        } catch (ExecutionException e) {
            throw e.getCause() instanceof HubException h ? notPublished(folder, h.getMessage(), h) : failure(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw notPublished(folder, "interrupted", e);
        }
    }

    private String publish(Path folder) {
        try (Hub hub = HubOptions.hub(command).expectAnswer()) {
            return hub.upload(repo, Push.files(folder), MESSAGE);
        }
    }

    private static RuntimeException failure(ExecutionException e) {
        return e.getCause() instanceof RuntimeException r ? r : new IllegalStateException(e.getCause());
    }

    private HubException notPublished(Path folder, String why, Exception cause) {
        return new HubException(
                "the adapter is in " + folder + ", but not published: " + why + "; try again with: engine upload "
                        + repo + " " + folder,
                cause);
    }

    /**
     * What is to be published of a checkpoint, under a hidden name beside it until that is done: save_total_limit may remove the
     * checkpoint before its turn comes, and TensorBoard's files grow. Links to its files take no room before that.
     *
     * @param folder of both; the next run in the output folder deletes it where this one could not
     * @param checkpoint its files; where the file system has no links, the checkpoint itself
     * @param events files of TensorBoard as they are now, by their paths in the output folder
     */
    private record Held(Path folder, Path checkpoint, Path events) {
        static Held folder(Path checkpoint) {
            String name = checkpoint.getFileName().toString();
            Path folder = checkpoint.resolveSibling("." + name + ".push");
            return new Held(folder, folder.resolve(name), folder.resolve("events"));
        }

        static Held of(Path checkpoint) {
            Held held = folder(checkpoint);
            held.drop();
            try {
                Files.createDirectories(held.events);
                for (Map.Entry<String, Path> file :
                        Push.files(checkpoint.toAbsolutePath().getParent()).entrySet()) {
                    if (file.getValue().getFileName().toString().startsWith("events.out.tfevents.")) {
                        Path copy = held.events.resolve(file.getKey());
                        Files.createDirectories(copy.getParent());
                        Files.copy(file.getValue(), copy);
                    }
                }
                for (Map.Entry<String, Path> file : Push.files(checkpoint).entrySet()) {
                    Path link = held.checkpoint.resolve(file.getKey());
                    Files.createDirectories(link.getParent());
                    Files.createLink(link, file.getValue());
                }
                return held;
            } catch (IOException | UnsupportedOperationException | HubException e) { // training goes on
                return new Held(held.folder, checkpoint, held.events);
            }
        }

        void drop() {
            try {
                AtomicFile.deleteTree(folder);
            } catch (IOException | UncheckedIOException e) {
                // the next run tries again
            }
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
