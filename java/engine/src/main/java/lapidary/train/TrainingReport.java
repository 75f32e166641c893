package lapidary.train;

import java.nio.file.Path;

/**
 * How a run ended.
 *
 * @param step optimiser steps done, those of runs before this one included
 * @param maxSteps optimiser steps of the whole run
 * @param stopped whether it was asked to stop before its end; it can be gone on with
 * @param written folder of what it leaves: the output folder, or of a stopped run the checkpoint; the output folder too
 *     where it was stopped before there was anything to save
 * @param best one line about the best evaluation; empty where none was compared
 */
public record TrainingReport(int step, int maxSteps, boolean stopped, Path written, String best) {}
