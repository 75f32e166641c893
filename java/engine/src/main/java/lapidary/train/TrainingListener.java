package lapidary.train;

import java.nio.file.Path;
import java.util.Map;

/** Hears how a run goes. Called on the thread that trains. */
public interface TrainingListener {
    TrainingListener SILENT = new TrainingListener() {};

    /** Something about this run that its user may not expect; one line for people. */
    default void onNotice(String line) {}

    /** So many rows of the data set have been looked at before training. */
    default void onCheck(int done, int rows) {}

    /** What the run will take of memory, told before its first step; and before the model is loaded, where that alone is too much. */
    default void onMemory(MemoryOutlook outlook) {}

    /** Model and data are ready. */
    default void onStart(TrainingPlan plan) {}

    /** An optimiser step is done; called for every step. */
    default void onStep(int step, int maxSteps, double loss) {}

    /** A step that {@code logging_steps} asks for; the last one only where it is such a step. */
    default void onLog(StepMetrics metrics) {}

    /**
     * An evaluation is done.
     *
     * @param metrics by Hugging Face's names, as in the log
     */
    default void onEvaluation(int step, Map<String, Object> metrics) {}

    /** A checkpoint is written. */
    default void onSave(int step, Path folder) {}

    /**
     * The files of a checkpoint, or at the end of the run those of the output folder, are being written.
     *
     * @param folder a hidden one, which gets its name when all is in it, or from which they are moved to their places
     *     together; what is put here goes with them
     */
    default void onWrite(Path folder) {}
}
