package lapidary.train;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import lapidary.autograd.Gradients;
import lapidary.autograd.Tape;
import lapidary.data.Dataset;
import lapidary.data.Datasets;
import lapidary.data.Profile;
import lapidary.data.Samples;
import lapidary.device.CpuDevice;
import lapidary.device.Device;
import lapidary.device.OutOfMemoryException;
import lapidary.format.FormatException;
import lapidary.format.JsonWriter;
import lapidary.gemma3.AdapterUse;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Gemma3Config;
import lapidary.gemma3.PeftAdapter;
import lapidary.nn.Parameter;
import lapidary.op.LinearCrossEntropy;
import lapidary.optim.Optimizer;
import lapidary.optim.Schedule;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Supervised fine-tuning of Gemma 3 with LoRA: the whole recipe, top to bottom. Behaviour follows TRL's SFTTrainer under
 * the guide's collator; where the two profiles differ, {@link Profile} says how.
 */
public final class Sft {
    private final SftConfig config;
    private final Device device;
    private final TrainingListener listener;
    private CheckCache cache = CheckCache.none();
    private Phases phases;
    private boolean overwriting;
    private volatile boolean stopWanted;

    /** @param device where to train; the caller closes it */
    public Sft(SftConfig config, Device device, TrainingListener listener) {
        this.config = config;
        this.device = device;
        this.listener = listener;
    }

    /**
     * Remembers what a look at all rows finds, so that the next run on the same rows, model and options need not decode all
     * pictures before its first step. See {@link CheckCache} for what counts as the same.
     *
     * @param folder of such memories, for this user alone; it need not exist
     */
    public Sft remembering(Path folder) {
        cache = new CheckCache(folder, CheckCache.SETTLED_MS);
        return this;
    }

    /**
     * Removes from the output folder the checkpoints and TensorBoard's files in {@code runs/} that an earlier run of this program left
     * there, when training begins and not before; nothing else, and nothing where the run goes on from a checkpoint.
     */
    public Sft overwriting() {
        overwriting = true;
        return this;
    }

    /** Ends the run after the step in hand, with a checkpoint to go on from. May be called from any thread. */
    public void stop() {
        stopWanted = true;
    }

    /**
     * Trains, and writes the adapter and everything beside it to the output folder.
     *
     * @throws lapidary.format.FormatException where a file is not what it should be
     * @throws IllegalArgumentException where an option does not fit the model or the data
     * @throws TrainingException where loss or gradients stop being finite
     */
    public TrainingReport run() {
        phases = new Phases();
        NewRun newRun = NewRun.NOT_NEEDED;
        try (Output output = Output.open(config.outputDir())) {
            Checkpoints checkpoints = new Checkpoints(config.outputDir());
            checkpoints.clearLeftovers();
            Start start = Start.of(config, checkpoints, listener::onNotice);
            newRun = start.newRun();
            Path adapter = start.adapter(config.initAdapter());
            try (PeftAdapter init = adapter == null ? null : PeftAdapter.open(adapter)) {
                return run(output, checkpoints, start, LoraChoice.of(config, init));
            }
        } catch (OutOfMemoryException e) {
            throw MemoryAdvice.whileLoading(e, config, newRun);
        }
    }

    private TrainingReport run(Output output, Checkpoints checkpoints, Start start, LoraChoice lora) {
        Identity identity = Identity.of(config, lora.spec(), device.name());
        if (start.isOwn()) {
            identity.requireSame(start.folder(), start.manifest(), listener::onNotice);
        }
        try (Dataset dataset = Datasets.open(
                        config.datasetName(),
                        config.datasetTrainSplit(),
                        "--dataset_train_split",
                        config.data().forms());
                Dataset heldOut = config.evaluation()
                        .open(config.datasetName(), config.data().forms())) {
            Gemma3Config shape = Gemma3.readConfig(config.modelNameOrPath());
            Supplier<Samples> samples = new Once<>(
                    () -> Samples.of(shape, config.modelNameOrPath(), dataset, config.profile(), config.data()));
            CheckCache.Place place = cache.place(config, config.datasetTrainSplit(), dataset);
            phases.enter(Phases.Phase.SAMPLES);
            Units units = Units.of(config, dataset.size(), samples, place, listener);
            phases.enter(Phases.Phase.LOAD);
            BatchPlan plan = BatchPlan.of(
                    units.size(),
                    config.perDeviceTrainBatchSize(),
                    config.gradientAccumulationSteps(),
                    config.numTrainEpochs(),
                    config.maxSteps());
            try (Batches batches = new Batches(
                            samples,
                            shape.text().padTokenId(),
                            units,
                            place,
                            plan.rows(config.orderSeed(), plan.microBatchesBefore(start.step())));
                    MemoryForecast forecast = forecast(lora, start.newRun());
                    Gemma3 model = Gemma3.load(
                            config.modelNameOrPath(), device, config.precision(), lora.spec(), config.seed())) {
                if (model.config().isQuantized() && config.loadIn4bit()) {
                    listener.onNotice("The checkpoint in " + config.modelNameOrPath()
                            + " is stored in NF4 and used as it is: --load_in_4bit changes nothing");
                }
                if (lora.init() != null) {
                    lora.requireTargets(model.linears());
                    if (!start.isOwn()) {
                        start(model, lora);
                    }
                }
                List<String> adapted =
                        model.linears().stream().filter(lora.spec()::targets).toList();
                listener.onNotice(AdapterUse.of(lora.spec(), adapted).line());
                Optimizer optimizer = new Optimizer(
                        model.frame(), model.parameters(), config.optimizer(), config.profile() == Profile.TRL);
                phases.enter(Phases.Phase.SAMPLES);
                batches.awaitReady(done -> listener.onCheck(done, plan.rows()));
                if (batches.checked().isRemembered()) {
                    listener.onNotice(
                            "All rows were looked at by an earlier run, and neither they nor what reads them has"
                                    + " changed: they are not looked at again");
                }
                Evaluation evaluation = Evaluation.of(config, model, heldOut, cache, listener);
                listener.onMemory(forecast.of(batches.checked(), evaluation.heldOut()));
                Checkpointer checkpointer = new Checkpointer(
                        config,
                        checkpoints,
                        plan,
                        model,
                        lora.spec(),
                        optimizer,
                        new Progress(
                                plan,
                                Intervals.of(config.loggingSteps(), plan.maxSteps()),
                                config.loggingFirstStep(),
                                UsefulFlops.of(shape),
                                device.peakFlops(config.dtype()),
                                this::deviceBytes),
                        new Best(config.evaluation(), config.saving().strategy()),
                        identity,
                        Identity.ofModel(config.modelNameOrPath()),
                        batches.checked().fingerprint(),
                        evaluation.fingerprint());
                if (!start.isFresh()) {
                    checkpointer.restore(start, listener::onNotice);
                    output.resumeMetrics(start.history());
                }
                return train(model, plan, batches, evaluation, checkpointer, start, output);
            }
        }
    }

    /** Of this run's memory; tells at once where the model alone is too much. */
    private MemoryForecast forecast(LoraChoice lora, NewRun newRun) {
        MemoryForecast forecast = new MemoryForecast(config, lora, device, newRun);
        forecast.tooLarge().ifPresent(listener::onMemory);
        return forecast;
    }

    /** Copies the initial adapter into the model, and says what that decided. */
    private void start(Gemma3 model, LoraChoice lora) {
        PeftAdapter init = lora.init();
        List<String> rounded = init.copyTo(model.parameters(), model.frame());
        if (!lora.taken().isEmpty()) {
            listener.onNotice(lora.taken());
        }
        if (!rounded.isEmpty()) {
            String names = rounded.size() <= 3
                    ? String.join(", ", rounded)
                    : rounded.get(0) + " and " + (rounded.size() - 1) + " more";
            listener.onNotice("The adapter in " + init.directory()
                    + " holds float32 values that are trained as bfloat16 and were rounded: " + names
                    + (config.profile() == Profile.TRL ? "" : " (--dtype float32 keeps them)"));
        }
    }

    private TrainingReport train(
            Gemma3 model,
            BatchPlan plan,
            Batches batches,
            Evaluation evaluation,
            Checkpointer checkpointer,
            Start start,
            Output output) {
        List<Tensor> trained = model.parameters().stream().map(Parameter::value).toList();
        Optimizer optimizer = checkpointer.optimizer();
        Progress progress = checkpointer.progress();
        Schedule schedule = Schedule.of(
                config.lrSchedulerType(),
                config.learningRate(),
                config.warmupSteps(),
                plan.maxSteps(),
                config.lrSchedulerKwargs());
        if (start.step() == plan.maxSteps()) {
            listener.onNotice(checkpointer.finished());
        }
        boolean replaces = overwriting && start.isFresh();
        if (replaces) {
            EventFile.clear(config.outputDir());
        }
        System.gc(); // what reading the files left in the heap goes back to the system: activations take its place
        listener.onStart(new TrainingPlan(
                plan.rows(),
                start.step(),
                plan.maxSteps(),
                trained.stream().mapToLong(Tensor::elements).sum(),
                trained.size(),
                device.describe()));

        if (config.reporting().tensorboard()) {
            output.openEvents(checkpointer.events(start), start.step() + 1, texts());
        }
        if (replaces) { // last, when the new run can write what it writes
            checkpointer.checkpoints().clear();
        }
        long fixedBytes = device.pool().inUse();
        phases.enter(Phases.Phase.TRAIN);
        AfterStep after = new AfterStep(
                config,
                plan,
                evaluation,
                checkpointer,
                output,
                phases,
                listener,
                start.newRun().checkpoint(),
                () -> stopWanted);
        if (start.isEvaluationOwed()) {
            after.evaluateAndSave(start.step());
        }
        int step = start.step();
        long microBatch = plan.microBatchesBefore(step);
        while (step < plan.maxSteps() && !after.isOver() && !stopWanted) {
            progress.startStep();
            double waited = batches.waitedSeconds();
            List<MicroBatch> group = new ArrayList<>();
            for (int i = plan.microBatchesIn(step); i > 0; i--) {
                group.add(batches.next());
            }
            progress.waited(batches.waitedSeconds() - waited);
            // The loss is a mean over the trained tokens of the whole group, not a mean of means.
            int normaliser = group.stream().mapToInt(MicroBatch::trained).sum();
            double learningRate = schedule.at(step);
            try (Frame stepFrame = model.frame().child("step " + (step + 1));
                    Gradients grads = new Gradients(stepFrame, trained)) {
                for (MicroBatch batch : group) {
                    model.dropout().moveTo(microBatch++);
                    progress.add(batch, forwardBackward(config, model, batch, normaliser, trained, stepFrame, grads));
                }
                double gradNorm = optimizer.clip(grads, (float) config.maxGradNorm());
                requireFinite(step + 1, progress.stepLoss(), gradNorm, group);
                optimizer.step(grads, learningRate);
                progress.endStep(gradNorm, learningRate);
            } catch (OutOfMemoryException e) {
                throw MemoryAdvice.whileTraining(e, config, fixedBytes, after.newRun());
            }
            step++;
            after.report(step);
            after.evaluateAndSave(step);
        }
        return after.finish(step, stopWanted);
    }

    /** The most that was in use of the device's own memory so far; 0 where that is the host's. */
    private long deviceBytes() {
        return device instanceof CpuDevice ? 0 : device.pool().peak();
    }

    /** What transformers' TensorBoardCallback writes at the start of a run. */
    private Map<String, String> texts() {
        Path file = config.modelNameOrPath().resolve("config.json");
        try {
            return Map.of("args", JsonWriter.indented(config.describe()), "model_config", Files.readString(file));
        } catch (IOException e) {
            throw new FormatException("cannot read " + file + ": " + e.getMessage(), e);
        }
    }

    /** One micro-batch; its share of the gradients is added to {@code grads}. */
    static LinearCrossEntropy.Statistics forwardBackward(
            SftConfig config,
            Gemma3 model,
            MicroBatch batch,
            int normaliser,
            List<Tensor> trained,
            Frame stepFrame,
            Gradients grads) {
        try (Frame frame = stepFrame.child("micro-batch")) {
            Tape tape = Tape.recording(frame, trained);
            Tensor hidden = model.forward(tape, batch.packed(), config.gradientCheckpointing());
            LinearCrossEntropy crossEntropy = new LinearCrossEntropy(
                    hidden,
                    model.lmHead(),
                    batch.targets(),
                    normaliser,
                    (float) model.config().text().finalLogitSoftcapping(),
                    grads);
            Tensor loss = tape.run(crossEntropy);
            tape.backward(loss, grads);
            return crossEntropy.statistics();
        }
    }

    private static void requireFinite(int step, double loss, double gradNorm, List<MicroBatch> group) {
        if (Double.isFinite(loss) && Double.isFinite(gradNorm)) {
            return;
        }
        List<String> rows = new ArrayList<>();
        group.forEach(batch -> rows.addAll(batch.rows()));
        throw new TrainingException("step " + step + ": loss is " + loss + " and gradient norm " + gradNorm
                + ", so training stops before it spoils the adapter; rows of this step: " + rows
                + "; a lower --learning_rate or --dtype float32 may help, or a weight of the model is not finite");
    }
}
