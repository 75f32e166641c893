package lapidary.train;

/**
 * What a run is about to do.
 *
 * @param rows of the data set
 * @param maxSteps optimiser steps in all
 * @param trainableParameters numbers that are trained
 * @param trainableTensors tensors that hold them
 * @param device one line for people
 */
public record TrainingPlan(int rows, int maxSteps, long trainableParameters, int trainableTensors, String device) {}
