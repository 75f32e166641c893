package lapidary.train;

import java.nio.file.Path;
import java.util.List;
import java.util.Locale;

/**
 * To whom a run is reported beside {@code metrics.jsonl}, under transformers' names.
 *
 * @param tensorboard {@code report_to tensorboard}: whether event files are written
 * @param loggingDir {@code logging_dir}: their folder, or null for {@code runs/<date>_<host>} in the output folder
 */
public record ReportOptions(boolean tensorboard, Path loggingDir) {
    /** To nobody. */
    public static final ReportOptions NONE = new ReportOptions(false, null);

    /** To TensorBoard, where it looks by itself when it is started on the output folder. */
    public static final ReportOptions TENSORBOARD = new ReportOptions(true, null);

    /**
     * By {@code report_to}'s words.
     *
     * @throws IllegalArgumentException naming the one that is none, or that is not written for
     */
    public static ReportOptions of(List<String> reportTo, Path loggingDir) {
        boolean tensorboard = false;
        for (String name : reportTo) {
            switch (name.strip().toLowerCase(Locale.ROOT)) {
                case "", "none", "null" -> {}
                case "tensorboard", "all" -> tensorboard = true;
                case "wandb" -> throw new IllegalArgumentException(
                        "--report_to wandb is not supported: use tensorboard, whose files Weights & Biases takes with"
                                + " wandb sync");
                default -> throw new IllegalArgumentException("--report_to " + name
                        + " is not supported: expected none, tensorboard, or all, which is the same here");
            }
        }
        return new ReportOptions(tensorboard, loggingDir);
    }
}
