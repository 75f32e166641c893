package lapidary.optim;

import java.util.Map;
import lapidary.tensor.Tensor;

/**
 * What a parameter's rule carries from step to step.
 *
 * @param steps done so far
 * @param whole tensors that are kept as they are, by name
 * @param byRow tensors of the parameter's shape, by name, of which only {@code rows} hold anything but zeros
 * @param rows ascending; null where all rows of {@code byRow} count
 */
record RuleState(int steps, Map<String, Tensor> whole, Map<String, Tensor> byRow, int[] rows) {
    /** The low bits of a split master, where it has any. */
    static Map<String, Tensor> low(Tensor low) {
        return low.isNone() ? Map.of() : Map.of("master_low", low);
    }
}
