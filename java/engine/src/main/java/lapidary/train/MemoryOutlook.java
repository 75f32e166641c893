package lapidary.train;

/**
 * What a run will take of memory, beside what its device has.
 *
 * @param need by part
 * @param takes bytes that count for the device's memory: on the host's processor all
 * @param memory bytes that the device has
 * @param isHost whether the device is the host's processor
 * @param inEvaluation whether it is an evaluation that takes most, and not a step of training
 * @param rows of the batch that takes it; 0 where model and optimiser alone are more than the device has
 * @param tokens of these rows, their pictures' included
 * @param views of these rows' pictures
 * @param advice options that make the run fit, with what it takes then: what leaves the numbers as they are comes first, then
 *     precision; empty where it fits, or where none do and the run is a new one
 */
public record MemoryOutlook(
        MemoryNeed need,
        long takes,
        long memory,
        boolean isHost,
        boolean inEvaluation,
        int rows,
        int tokens,
        int views,
        String advice) {
    public boolean fits() {
        return takes <= memory;
    }
}
