package lapidary.train;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.gemma3.PeftAdapter;

/**
 * Where a run begins: at step 0, at a checkpoint of this program, or at one of another, of which only the adapter and
 * {@code trainer_state.json} are read (the optimiser's state lies in a pickle there).
 *
 * @param folder of the checkpoint; null at step 0
 * @param step optimiser steps done
 * @param manifest run_state.json; null where there is none
 * @param history the log so far
 */
record Start(Path folder, int step, Json manifest, List<Map<String, Object>> history) {
    private static final Start FRESH = new Start(null, 0, null, List.of());

    /**
     * @param notice told of damaged checkpoints that are passed over, and of what another program's lacks
     * @throws FormatException there is no such checkpoint, or it is damaged
     */
    static Start of(SftConfig config, Checkpoints checkpoints, Consumer<String> notice) {
        SaveOptions saving = config.saving();
        if (!saving.isResumed()) {
            return FRESH;
        }
        if (saving.isNewest()) {
            Optional<Checkpoints.Saved> newest = checkpoints.newest(notice);
            if (newest.isPresent()) {
                return own(newest.get());
            }
            Optional<Path> foreign = checkpoints.foreign();
            if (foreign.isPresent()) {
                return foreign(foreign.get(), config, notice);
            }
            notice.accept("There is no checkpoint in " + config.outputDir() + " yet: starting from the beginning");
            return FRESH;
        }
        saving.missing().ifPresent(why -> {
            throw new FormatException(why);
        });
        Path folder = Path.of(saving.resumeFrom());
        return Checkpoints.isOwn(folder) ? own(Checkpoints.open(folder)) : foreign(folder, config, notice);
    }

    private static Start own(Checkpoints.Saved saved) {
        Json state = Json.read(saved.folder().resolve(TrainerState.FILE));
        return new Start(saved.folder(), saved.step(), saved.manifest(), history(state));
    }

    private static Start foreign(Path folder, SftConfig config, Consumer<String> notice) {
        if (!Files.exists(folder.resolve(TrainerState.FILE))
                || !Files.exists(folder.resolve(PeftAdapter.CONFIG_FILE))) {
            throw new FormatException(folder + " is no checkpoint: it has neither " + Checkpoints.MANIFEST + " nor "
                    + TrainerState.FILE + " beside an adapter; to start from an adapter alone use --init_adapter");
        }
        if (config.initAdapter() != null) {
            throw new OptionConflictException("--init_adapter and --resume_from_checkpoint " + folder
                    + " both say where to start from; leave one of them out");
        }
        Json state = Json.read(folder.resolve(TrainerState.FILE));
        int step = state.get("global_step").intBetween(0, Integer.MAX_VALUE);
        notice.accept("Going on from another program's checkpoint " + folder + " after step " + step
                + ": its adapter and log are taken up; the optimiser starts anew, as its state is a pickle");
        long batch = state.integer("train_batch_size", config.perDeviceTrainBatchSize());
        if (batch != config.perDeviceTrainBatchSize()) {
            throw Identity.refused(
                    folder, "train_batch_size was " + batch + " and is " + config.perDeviceTrainBatchSize());
        }
        return new Start(folder, step, null, history(state));
    }

    private static List<Map<String, Object>> history(Json state) {
        List<Map<String, Object>> history = new ArrayList<>();
        for (Json entry : state.get("log_history").elements()) {
            Map<String, Object> values = new LinkedHashMap<>();
            for (String key : entry.keys()) {
                JsonNode value = entry.get(key).node();
                values.put(key, value.isNumber() ? value.numberValue() : value);
            }
            history.add(values);
        }
        return history;
    }

    boolean isFresh() {
        return folder == null;
    }

    /** Whether everything that the next step depends on is there. */
    boolean isOwn() {
        return manifest != null;
    }

    /** What it takes to go on with other options. */
    NewRun newRun() {
        return isOwn() ? new NewRun(folder) : NewRun.NOT_NEEDED;
    }

    /** Whether the run was stopped between a step and the evaluation that was due after it. */
    boolean isEvaluationOwed() {
        return isOwn() && manifest.bool("evaluation_owed");
    }

    /**
     * The adapter whose shape the model gets: the one to start from; of a run that goes on the checkpoint's, where options do not
     * say it; null for none.
     */
    Path adapter(Path initAdapter) {
        return isFresh() || isOwn() && initAdapter == null ? initAdapter : folder;
    }
}
