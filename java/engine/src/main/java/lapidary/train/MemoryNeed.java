package lapidary.train;

/**
 * What a run takes of memory at its worst moment, bytes.
 *
 * @param weights frozen ones, those in the mapped files included
 * @param adapters all that is trained: adapters, and tables that are trained whole
 * @param optimizer state beside them
 * @param gradients of all that is trained
 * @param activations all else at the worst moment of a step or of an evaluation
 * @param logits the most that logits take of it, at another moment perhaps; 0 where they are never written out
 * @param loading the most that was taken while the model was loaded
 * @param pictures decoded ones on Java's heap: of the step in hand, and those read ahead
 * @param program Java, libraries and the device's driver, as far as known
 */
public record MemoryNeed(
        long weights,
        long adapters,
        long optimizer,
        long gradients,
        long activations,
        long logits,
        long loading,
        long pictures,
        long program) {

    /** The same with other activations, logits and pictures. */
    MemoryNeed with(long otherActivations, long otherLogits, long otherPictures) {
        return new MemoryNeed(
                weights,
                adapters,
                optimizer,
                gradients,
                otherActivations,
                otherLogits,
                loading,
                otherPictures,
                program);
    }

    /** Of the device, without the program's own. */
    public long device() {
        return Math.max(loading, weights + adapters + optimizer + gradients + activations);
    }
}
