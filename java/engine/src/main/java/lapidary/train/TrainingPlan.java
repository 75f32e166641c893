package lapidary.train;

/**
 * What a run is about to do.
 *
 * @param rows of the data set
 * @param startStep optimiser steps done by the run that is gone on with, else 0
 * @param maxSteps optimiser steps in all
 * @param trainableParameters numbers that are trained
 * @param trainableTensors tensors that hold them
 * @param device one line for people
 */
public record TrainingPlan(
        int rows, int startStep, int maxSteps, long trainableParameters, int trainableTensors, String device) {}
