package lapidary.train;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import lapidary.device.DType;
import lapidary.device.OutOfMemoryException;
import lapidary.format.FormatException;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.PeftAdapter;
import lapidary.nn.Parameter;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/** What follows an optimiser step: log, evaluate, save, in this order, as transformers' Trainer does; and the end of a run. */
final class AfterStep {
    private final SftConfig config;
    private final BatchPlan plan;
    private final Evaluation evaluation;
    private final Checkpointer checkpointer;
    private final Output output;
    private final Phases phases;
    private final TrainingListener listener;
    private final BooleanSupplier stopWanted;
    private int savedStep = -1;
    private Path saved; // folder of the last checkpoint of this run
    private boolean evaluationOwed;
    private Path checkpoint; // the last of the whole run, or null

    AfterStep(
            SftConfig config,
            BatchPlan plan,
            Evaluation evaluation,
            Checkpointer checkpointer,
            Output output,
            Phases phases,
            TrainingListener listener,
            Path checkpoint,
            BooleanSupplier stopWanted) {
        this.checkpoint = checkpoint;
        this.config = config;
        this.plan = plan;
        this.evaluation = evaluation;
        this.checkpointer = checkpointer;
        this.output = output;
        this.phases = phases;
        this.listener = listener;
        this.stopWanted = stopWanted;
        this.saved = config.outputDir();
    }

    void report(int step) {
        Progress progress = checkpointer.progress();
        listener.onStep(step, plan.maxSteps(), progress.stepLoss());
        if (progress.isLogDue()) {
            StepMetrics metrics = progress.log();
            append(step, metrics.line());
            listener.onLog(metrics);
        }
    }

    private void append(int step, Map<String, Object> line) {
        output.append(step, line)
                .ifPresent(why -> listener.onNotice(why + ". Training goes on, and its lines wait for room"));
    }

    /** Evaluates where that is due, then writes a checkpoint where that is. */
    void evaluateAndSave(int step) {
        boolean better = false;
        evaluationOwed = false;
        if (config.evaluation().isDue(step, plan, config.loggingSteps())) {
            phases.enter(Phases.Phase.EVALUATE);
            Optional<Map<String, Object>> metrics;
            try {
                metrics = evaluation.run(stopWanted);
            } catch (OutOfMemoryException e) {
                throw MemoryAdvice.whileEvaluating(e, config, newRun());
            }
            phases.enter(Phases.Phase.TRAIN);
            evaluationOwed = metrics.isEmpty();
            if (metrics.isPresent()) {
                Map<String, Object> entry = checkpointer.progress().log(metrics.get());
                append(step, entry);
                listener.onEvaluation(step, entry);
                better = checkpointer.best().offer(metrics.get(), step);
            }
        }
        boolean due = config.saving().strategy() == SaveOptions.Strategy.BEST
                ? better
                : config.saving().isDue(step, plan)
                        || (isOver() && config.saving().strategy() == SaveOptions.Strategy.EPOCH);
        if (due || stopWanted.getAsBoolean()) {
            save(step);
        }
    }

    /** What it takes to go on with other options: a new run once there is a checkpoint to go on from. */
    NewRun newRun() {
        return checkpoint == null ? NewRun.NOT_NEEDED : new NewRun(checkpoint);
    }

    /** Whether there is nothing more to hope for from training. */
    boolean isOver() {
        return checkpointer.best().isPatienceOver();
    }

    private void save(int step) {
        requireFinite(step);
        phases.enter(Phases.Phase.SAVE);
        try {
            output.force();
            saved = checkpointer.save(
                    evaluationOwed, isOver() || step == plan.maxSteps(), output.eventFolder(), listener::onWrite);
            savedStep = step;
            checkpoint = saved;
            listener.onSave(step, saved);
        } catch (FormatException e) {
            if (stopWanted.getAsBoolean()) {
                throw e; // there will be no other chance
            }
            listener.onNotice(
                    "The checkpoint after step " + step + " is not written: " + e.getMessage() + ". Training goes on");
        } finally {
            phases.enter(Phases.Phase.TRAIN);
        }
    }

    /** Ends a run that was stopped with a checkpoint, any other with the adapter. */
    TrainingReport finish(int step, boolean stopped) {
        if (stopped && (evaluationOwed || (step < plan.maxSteps() && !isOver()))) {
            if (step > 0 && savedStep != step) {
                save(step);
            }
            return report(true, saved);
        }
        phases.enter(Phases.Phase.SAVE);
        loadBest(step);
        requireFinite(step);
        Progress.Summary summary = checkpointer.progress().finish(config);
        output.appendLast(step, summary.history().get(summary.history().size() - 1));
        Map<String, Object> state =
                TrainerState.of(config, plan, summary, checkpointer.best(), checkpointer.bestFolder(-1), false, true);
        output.save(
                folder -> {
                    checkpointer.writeAdapter(folder);
                    listener.onWrite(folder);
                },
                state);
        return report(false, config.outputDir());
    }

    private TrainingReport report(boolean stopped, Path written) {
        return checkpointer
                .progress()
                .report(
                        stopped,
                        written,
                        checkpointer.best().describe(),
                        checkpointer.checkpoints().names(),
                        output.eventFolder(),
                        phases);
    }

    private void loadBest(int step) {
        int best = checkpointer.best().step();
        if (!config.evaluation().loadBestModelAtEnd() || best < 0 || best == step) {
            return;
        }
        Path folder = checkpointer.checkpoints().folder(best);
        if (!Files.isDirectory(folder)) {
            listener.onNotice("The adapter after step " + best + " was the best, but there is no " + folder
                    + " to load it from: the last one is written");
            return;
        }
        Gemma3 model = checkpointer.model();
        try (PeftAdapter adapter = PeftAdapter.open(folder)) {
            adapter.copyTo(model.parameters(), model.frame());
        }
    }

    /** A step is followed by no loss that would show what it did before its values are written. */
    private void requireFinite(int step) {
        Gemma3 model = checkpointer.model();
        for (List<Parameter> alike : model.parameters().stream()
                .collect(Collectors.groupingBy(parameter -> parameter.value().dtype(), Collectors.toList()))
                .values()) {
            float[] sums = new float[alike.size()];
            try (Frame scratch = model.frame().child("finite")) {
                Tensor squares = scratch.zeros(DType.F32, sums.length);
                scratch.kernels()
                        .sumSquares(
                                squares, alike.stream().map(Parameter::value).toList());
                squares.copyTo(sums); // waits for the device: once, not for each parameter
            }
            for (int i = 0; i < sums.length; i++) {
                if (!Float.isFinite(sums[i])) {
                    throw new TrainingException(
                            (step == plan.maxSteps() ? "after the last step " : "after step " + step + " ")
                                    + alike.get(i).name()
                                    + " holds values that are not finite or beyond 1e19, so the adapter is not saved; a lower"
                                    + " --learning_rate or a higher --adam_epsilon may help");
                }
            }
        }
    }
}
