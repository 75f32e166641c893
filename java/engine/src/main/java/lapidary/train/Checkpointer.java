package lapidary.train;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.PeftAdapter;
import lapidary.gemma3.ProcessorFiles;
import lapidary.image.PanAndScan;
import lapidary.image.PanAndScanSettings;
import lapidary.nn.LoraSpec;
import lapidary.optim.Optimizer;
import lapidary.optim.Schedule;

/**
 * Writes and takes up everything that the rest of a run depends on. The adapter's files hold the parameters,
 * {@code optimizer.safetensors} the moments and the low bits of masters, {@code run_state.json} the rest: options, what
 * model and data were, the schedule, sums that the next log line needs. Random numbers have no state of their own: data
 * order and dropout are functions of seed and position, which the step gives.
 */
record Checkpointer(
        SftConfig config,
        Checkpoints checkpoints,
        BatchPlan plan,
        Gemma3 model,
        LoraSpec lora,
        Optimizer optimizer,
        Progress progress,
        Best best,
        Identity identity,
        String modelFingerprint,
        String dataFingerprint,
        String evaluationFingerprint) {
    static final String OPTIMIZER = "optimizer.safetensors";
    private static final String EVENTS = "logging_dir";
    private static final String STEPS_OF_EPOCHS = "the number of steps (--num_train_epochs)";

    /**
     * Writes the checkpoint of the step that was done last, and deletes those that {@code save_total_limit} leaves no
     * room for.
     *
     * @param evaluationOwed whether the evaluation due after this step is still to be done
     * @param over whether training ends after this step
     * @param events where TensorBoard's files are; null for nowhere
     * @param more puts other files beside them
     * @throws FormatException where it cannot be written; older ones are untouched
     */
    Path save(boolean evaluationOwed, boolean over, Path events, Consumer<Path> more) {
        Progress.Summary summary = progress.summary();
        int step = summary.steps();
        Path folder = checkpoints.write(
                step,
                part -> {
                    writeAdapter(part);
                    optimizer.save(part.resolve(OPTIMIZER));
                    String state = JsonWriter.indented(
                            TrainerState.of(config, plan, summary, best, bestFolder(step), true, over));
                    AtomicFile.writeString(part.resolve(TrainerState.FILE), state + "\n");
                    more.accept(part);
                },
                state(step, evaluationOwed, events));
        checkpoints.retain(config.saving().totalLimit(), best.step());
        return folder;
    }

    /** The adapter in PEFT's files, and the processor's. */
    void writeAdapter(Path folder) {
        PeftAdapter.write(folder, model.parameters(), model.linears(), lora, config.baseModelName());
        ProcessorFiles.copy(config.modelNameOrPath(), folder);
        if (!model.config().isTextOnly()) { // pictures must be asked about as they were trained on
            PanAndScanSettings said = PanAndScanSettings.find(folder).orElse(PanAndScanSettings.OFF);
            PanAndScanSettings trained =
                    config.data().panAndScan() ? new PanAndScanSettings(true, PanAndScan.DEFAULT) : said.with(false);
            trained.write(folder);
        }
    }

    /** Folder of the best checkpoint, where it is there or being written; else null. */
    String bestFolder(int writing) {
        if (best.step() < 0) {
            return null;
        }
        Path folder = checkpoints.folder(best.step());
        return best.step() == writing || Files.isDirectory(folder) ? folder.toString() : null;
    }

    private Map<String, Object> state(int step, boolean evaluationOwed, Path events) {
        Map<String, Object> state = new LinkedHashMap<>();
        state.put(EVENTS, events == null ? null : relative(events));
        state.put("evaluation_owed", evaluationOwed);
        state.putAll(Identity.versions());
        state.put("settings", identity.settings());
        state.put("harmless", identity.harmless());
        state.put("model", modelFingerprint);
        state.put("data", dataFingerprint);
        state.put("evaluation_data", evaluationFingerprint);
        state.put("scheduler", scheduler(step));
        Map<String, Object> random = new LinkedHashMap<>();
        random.put("seed", config.seed());
        random.put("micro_batch", plan.microBatchesBefore(step));
        random.put("rows", plan.rows());
        state.put("random", random);
        state.put("sums", progress.sums());
        state.put("best", best.state());
        return state;
    }

    /** As the run's own folder sees it: it may have been moved when the run is gone on with. */
    private String relative(Path events) {
        Path output = config.outputDir().toAbsolutePath();
        Path folder = events.toAbsolutePath();
        return folder.startsWith(output) ? output.relativize(folder).toString() : folder.toString();
    }

    /** Where TensorBoard's files of the run so far are; what is given before that, and null where there are none. */
    Path events(Start start) {
        Path given = config.reporting().loggingDir();
        if (given != null || !start.isOwn() || !start.manifest().has(EVENTS)) {
            return given;
        }
        Json saved = start.manifest().get(EVENTS);
        Path before = saved.isNull() ? null : config.outputDir().resolve(saved.string());
        return before != null && Files.isDirectory(before) ? before : null;
    }

    private Map<String, Object> scheduler(int step) {
        Map<String, Object> scheduler = new LinkedHashMap<>();
        scheduler.put("lr_scheduler_type", config.lrSchedulerType());
        scheduler.put("lr_scheduler_kwargs", config.lrSchedulerKwargs());
        scheduler.put("learning_rate", config.learningRate());
        scheduler.put("warmup_steps", config.warmupSteps());
        scheduler.put("max_steps", plan.maxSteps());
        scheduler.put("last_epoch", step); // transformers' name for the number of steps done
        return scheduler;
    }

    /**
     * Takes up a checkpoint.
     *
     * @throws FormatException where it is another run's, naming what differs
     */
    void restore(Start start, Consumer<String> notice) {
        if (start.step() > plan.maxSteps()) {
            throw Identity.refused(
                    start.folder(), "it is after step " + start.step() + ", the run has " + plan.maxSteps());
        }
        if (!start.isOwn()) {
            progress.restore(start.step(), start.history());
            return;
        }
        Path folder = start.folder();
        Json saved = start.manifest();
        requireSame(folder, saved, "model", modelFingerprint, "the model is not the one that the run was started with");
        requireSame(
                folder,
                saved,
                "data",
                dataFingerprint,
                "the rows of the data set are not those that the run was" + " started with");
        requireSameRates(folder, saved.get("scheduler"), notice);
        boolean sameRows = saved.string("evaluation_data").equals(evaluationFingerprint);
        if (!sameRows) {
            notice.accept("Going on from " + folder + ": the rows that evaluation reads are others than before");
        }
        try (PeftAdapter adapter = PeftAdapter.open(folder)) {
            adapter.copyTo(model.parameters(), model.frame());
        }
        optimizer.restore(folder.resolve(OPTIMIZER));
        progress.restore(start.step(), saved.get("sums"), start.history());
        if (best.isComparable(saved.get("best"), sameRows)) {
            best.restore(saved.get("best"));
        } else {
            notice.accept("Going on from " + folder
                    + ": the best evaluation so far was another comparison, so it does not count any more");
        }
    }

    private static void requireSame(Path folder, Json saved, String key, String now, String difference) {
        if (!saved.string(key).equals(now)) {
            throw Identity.refused(folder, difference);
        }
    }

    /** The learning rate of every step that both runs have must be the same; then more or fewer steps do no harm. */
    private void requireSameRates(Path folder, Json saved, Consumer<String> notice) {
        Map<String, Object> now = scheduler(0);
        now.remove("last_epoch");
        StringBuilder differences = new StringBuilder();
        now.forEach((option, value) -> {
            String before = JsonWriter.line(saved.get(option));
            if (!before.equals(JsonWriter.line(value))) {
                differences
                        .append(differences.isEmpty() ? "" : ", ")
                        .append(option.equals("max_steps") && config.maxSteps() <= 0 ? STEPS_OF_EPOCHS : "--" + option)
                        .append(" was ")
                        .append(before)
                        .append(" and is ")
                        .append(JsonWriter.line(value));
            }
        });
        if (differences.isEmpty()) {
            return;
        }
        Map<String, Object> arguments = new LinkedHashMap<>();
        for (String name : saved.get("lr_scheduler_kwargs").keys()) {
            Json value = saved.get("lr_scheduler_kwargs").get(name);
            arguments.put(name, value.isString() ? value.string() : (Object) value.number());
        }
        int steps = saved.get("max_steps").intBetween(1, Integer.MAX_VALUE);
        Schedule before = Schedule.of(
                saved.string("lr_scheduler_type"),
                saved.number("learning_rate"),
                saved.number("warmup_steps"),
                steps,
                arguments);
        Schedule after = schedule(plan.maxSteps());
        for (int step = 0; step < Math.min(steps, plan.maxSteps()); step++) {
            if (before.at(step) != after.at(step)) {
                throw Identity.refused(
                        folder,
                        differences + ", which changes the schedule: the learning rate of step " + (step + 1) + " was "
                                + shown(before.at(step), after.at(step)) + " and would be "
                                + shown(after.at(step), before.at(step)));
            }
        }
        notice.accept("Going on from " + folder + ": " + differences + "; the learning rates are the same");
    }

    private Schedule schedule(int steps) {
        return Schedule.of(
                config.lrSchedulerType(),
                config.learningRate(),
                config.warmupSteps(),
                steps,
                config.lrSchedulerKwargs());
    }

    /** In three digits, where that tells it from the other. */
    private static String shown(double rate, double other) {
        String few = String.format(Locale.ROOT, "%.3g", rate);
        return few.equals(String.format(Locale.ROOT, "%.3g", other)) ? String.valueOf(rate) : few;
    }

    /** What there is to say where all steps were done before: that, and what would make the run longer. */
    String finished() {
        int steps = plan.maxSteps();
        Schedule now = schedule(steps);
        Schedule longer = schedule(steps <= Integer.MAX_VALUE / 2 ? 2 * steps : steps);
        boolean mayGrow = IntStream.range(0, steps).allMatch(step -> now.at(step) == longer.at(step));
        String option = config.maxSteps() > 0 ? "--max_steps" : "--num_train_epochs";
        return "This run is finished: all " + steps + " steps are done. "
                + (mayGrow
                        ? "A larger " + option + " makes it longer"
                        : "A larger " + option + " would change its learning rates (--lr_scheduler_type "
                                + config.lrSchedulerType() + "); to train further, begin a new run with --init_adapter "
                                + config.outputDir() + " and another --output_dir");
    }
}
