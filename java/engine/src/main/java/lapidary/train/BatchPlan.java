package lapidary.train;

import java.util.Arrays;
import java.util.Iterator;
import java.util.NoSuchElementException;
import lapidary.data.TorchRandom;

/**
 * Which rows each micro-batch of a run holds. An epoch visits the rows in the order of torch's {@code randperm} under
 * seed + epoch, in consecutive slices; the last slice of an epoch may be shorter, and so may the last group of
 * micro-batches that one optimiser step adds up.
 *
 * @param rows of the data set
 * @param maxSteps optimiser steps of the run
 */
record BatchPlan(int rows, int batchSize, int accumulation, int maxSteps) {
    static BatchPlan of(int rows, int batchSize, int accumulation, double epochs, int maxSteps) {
        BatchPlan epoch = new BatchPlan(rows, batchSize, accumulation, 0);
        double steps = maxSteps > 0 ? maxSteps : Math.ceil(epochs * epoch.stepsPerEpoch());
        if (steps > Integer.MAX_VALUE) {
            throw new IllegalArgumentException("--num_train_epochs " + epochs + " makes " + steps + " steps: too many");
        }
        return new BatchPlan(rows, batchSize, accumulation, (int) steps);
    }

    int microBatchesPerEpoch() {
        return Math.ceilDiv(rows, batchSize);
    }

    int stepsPerEpoch() {
        return Math.ceilDiv(microBatchesPerEpoch(), accumulation);
    }

    /** Micro-batches of the optimiser step, counted from 0. */
    int microBatchesIn(int step) {
        int inEpoch = step % stepsPerEpoch();
        return Math.min(accumulation, microBatchesPerEpoch() - inEpoch * accumulation);
    }

    /** Micro-batches of the whole run. */
    long microBatchCount() {
        return microBatchesBefore(maxSteps);
    }

    /** Micro-batches of the optimiser steps before the given one, counted from 0. */
    long microBatchesBefore(int step) {
        long whole = (long) (step / stepsPerEpoch()) * microBatchesPerEpoch();
        int rest = step % stepsPerEpoch();
        return whole + Math.min((long) rest * accumulation, microBatchesPerEpoch());
    }

    /** Rows of each micro-batch of the run, in order. */
    Iterator<int[]> rows(long seed) {
        return rows(seed, 0);
    }

    /** The same from a micro-batch on. */
    Iterator<int[]> rows(long seed, long from) {
        return new Iterator<>() {
            private long next = from;
            private int[] order; // of the epoch that next lies in

            @Override
            public boolean hasNext() {
                return next < microBatchCount();
            }

            @Override
            public int[] next() {
                if (!hasNext()) {
                    throw new NoSuchElementException();
                }
                int inEpoch = (int) (next % microBatchesPerEpoch());
                if (inEpoch == 0 || order == null) {
                    order = TorchRandom.randperm(rows, seed + next / microBatchesPerEpoch());
                }
                next++;
                int first = inEpoch * batchSize;
                return Arrays.copyOfRange(order, first, Math.min(rows, first + batchSize));
            }
        };
    }

    /** Epochs done after that many optimiser steps, with the fraction. */
    double epochAfter(int steps) {
        int inEpoch = steps % stepsPerEpoch();
        double batches = Math.min((long) inEpoch * accumulation, microBatchesPerEpoch());
        return steps / stepsPerEpoch() + batches / microBatchesPerEpoch();
    }
}
