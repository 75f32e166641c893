package lapidary.optim;

import lapidary.autograd.Gradients.RowGradient;
import lapidary.tensor.Tensor;

/** How one parameter moves, and what it carries from step to step. */
interface Rule {
    /**
     * One step.
     *
     * @param gradient of all of the parameter, F32 or BF16
     * @param gradScale factor on the gradient
     * @param together takes the step of a rule that may take it with others, later
     */
    void step(Tensor gradient, double learningRate, float gradScale, AdamwSteps together);

    /** One step of a table of which few rows have a gradient. */
    void step(RowGradient gradient, double learningRate, float gradScale);

    /**
     * Bytes of state for each element of a table that are not written to before the element's row has a gradient: where fresh
     * memory is zero, rows that never have one take none of them.
     */
    int bytesOfUsedElement();

    /** What it carries from step to step. */
    RuleState state();

    /**
     * Takes up what another run carried. The tensors of {@link #state} are filled by the caller.
     *
     * @param steps done so far
     * @param rows of a table that have moments, or null where all have
     */
    void restore(int steps, int[] rows);
}
