package lapidary.data;

import java.util.Set;

/**
 * How rows become samples.
 *
 * @param forms those that rows may have
 * @param lossOn which tokens are targets
 * @param maxLength tokens of a sample, or 0 for no limit but the model's
 * @param overlong what becomes of a longer one
 * @param dropBad whether bad samples are left out instead of ending the run
 * @param panAndScan whether long pictures are shown in parts, too
 */
public record DataOptions(
        Set<RowForm> forms,
        LossOn lossOn,
        int maxLength,
        LengthLimit.Overlong overlong,
        boolean dropBad,
        boolean panAndScan) {
    /** The guide's. */
    public static final DataOptions DEFAULT =
            new DataOptions(RowForm.ANSWERED, LossOn.DEFAULT, 0, LengthLimit.Overlong.ERROR, false, false);

    /** @throws IllegalArgumentException naming the option that is out of range */
    public DataOptions {
        forms = Set.copyOf(forms);
        if (maxLength < 0 || maxLength == 1) {
            throw new IllegalArgumentException("--max_length is " + maxLength + ", expected 2 or more");
        }
    }

    /** Whether rows may be left out, so that how many there are is known only when all are read. */
    public boolean mayDrop() {
        return dropBad || overlong == LengthLimit.Overlong.DROP;
    }
}
