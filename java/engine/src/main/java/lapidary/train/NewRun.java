package lapidary.train;

import java.nio.file.Path;

/**
 * What it takes to go on with other options than a run was started with: its checkpoints are of those, so {@link Identity}
 * refuses most others, but a new run may begin with the adapter.
 *
 * @param checkpoint to begin with; null where there is none, and the options may simply be changed
 */
record NewRun(Path checkpoint) {
    static final NewRun NOT_NEEDED = new NewRun(null);

    boolean isNeeded() {
        return checkpoint != null;
    }

    /**
     * Options to use, and where they are refused as they stand, how they are not.
     *
     * @param sameRun whether checkpoints are gone on from with them
     */
    String with(String options, boolean sameRun) {
        return sameRun || !isNeeded()
                ? options
                : "a new run in another --output_dir, as this one's checkpoints keep their options, with --init_adapter "
                        + checkpoint + " " + options;
    }
}
