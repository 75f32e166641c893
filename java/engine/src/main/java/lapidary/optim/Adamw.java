package lapidary.optim;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import lapidary.autograd.Gradients;
import lapidary.device.AdamwStep;
import lapidary.device.DType;
import lapidary.nn.Parameter;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * AdamW with decoupled weight decay and clipping by global norm, arithmetic in F32, equal to the bit to torch's fused CPU
 * kernel on the same gradients.
 *
 * <p>An F32 parameter is its own master. A BF16 table keeps its F32 master split: the BF16 value that kernels read, and 16
 * low bits that only this class reads; its moments are F32. With {@code bf16State} it is its own master and has BF16
 * moments, as TRL trains it. A table whose gradient is row-sparse has state only for rows that ever had one: the rest of
 * its zeroed memory is never written, so the system never provides it.
 *
 * <p>A parameter that no gradient reached is left alone, weight decay included, and its step count stays.
 *
 * @see <a href="https://arxiv.org/abs/1711.05101">Decoupled weight decay regularization</a>
 */
public final class Adamw {
    private static final double BETA1 = 0.9;
    private static final double BETA2 = 0.999;
    private static final double EPS = 1e-8;

    /** Marks of a table's rows in the kernel's slot array, see kernels.h. */
    private static final int FADES = -1;

    private static final int UNTOUCHED = -2;

    private final Frame frame;
    private final double weightDecay;
    private final List<State> states = new ArrayList<>();
    private float gradScale = 1;

    /** What one parameter carries from step to step. */
    private static final class State {
        private final Tensor param;
        private final Tensor low; // I16, NONE unless the master is split
        private final Tensor m;
        private final Tensor v;
        private int[] touched; // per table row FADES or UNTOUCHED; null until a row-sparse gradient comes
        private int steps;

        State(Tensor param, Tensor low, Tensor m, Tensor v) {
            this.param = param;
            this.low = low;
            this.m = m;
            this.v = v;
        }
    }

    /**
     * @param frame owns the state, for as long as the parameters
     * @param bf16State whether BF16 parameters have no F32 master and BF16 moments
     */
    public Adamw(Frame frame, List<Parameter> parameters, double weightDecay, boolean bf16State) {
        this.frame = frame;
        this.weightDecay = weightDecay;
        for (Parameter parameter : parameters) {
            Tensor param = parameter.value();
            long[] shape = param.shape().toArray();
            boolean isBf16 = param.dtype() == DType.BF16;
            DType moments = isBf16 && bf16State ? DType.BF16 : DType.F32;
            states.add(new State(
                    param,
                    isBf16 && !bf16State ? frame.zeros(DType.I16, shape) : Tensor.NONE,
                    frame.zeros(moments, shape),
                    frame.zeros(moments, shape)));
        }
    }

    /**
     * Measures the gradients and remembers by how much the next {@link #step} scales them down.
     *
     * @param maxNorm the norm that they are scaled down to; 0 for never
     * @return L2 norm of all gradients before scaling; not finite where any of them is not
     */
    public double clip(Gradients grads, float maxNorm) {
        double total = 0;
        try (Frame scratch = frame.child("norm")) {
            Tensor squares = scratch.zeros(DType.F32, states.size());
            for (int i = 0; i < states.size(); i++) {
                Tensor param = states.get(i).param;
                Tensor dense = grads.of(param);
                Tensor gradient = dense.isNone() ? grads.rowsOf(param).rows() : dense;
                if (!gradient.isNone()) {
                    scratch.kernels().sumSquares(squares.slice(i, i + 1), gradient);
                }
            }
            for (float square : squares.toFloats()) {
                total += square;
            }
        }
        double norm = Math.sqrt(total);
        gradScale = maxNorm > 0 ? (float) Math.min(1, maxNorm / (norm + 1e-6)) : 1;
        return norm;
    }

    /** Moves every parameter that has a gradient. */
    public void step(Gradients grads, double learningRate) {
        for (State state : states) {
            Tensor dense = grads.of(state.param);
            Gradients.RowGradient sparse = grads.rowsOf(state.param);
            if (!dense.isNone()) {
                state.steps++;
                frame.kernels()
                        .adamw(state.param, state.low, state.m, state.v, dense, scalars(state.steps, learningRate));
            } else if (!sparse.rows().isNone()) {
                state.steps++;
                stepRows(state, sparse, learningRate);
            }
        }
    }

    private void stepRows(State state, Gradients.RowGradient gradient, double learningRate) {
        if (state.touched == null) {
            state.touched = new int[Math.toIntExact(state.param.rows())];
            Arrays.fill(state.touched, UNTOUCHED);
        }
        int[] slots = state.touched.clone();
        for (Map.Entry<Integer, Integer> row : gradient.slots().entrySet()) {
            slots[row.getKey()] = row.getValue();
            state.touched[row.getKey()] = FADES;
        }
        try (Frame scratch = frame.child("rows")) {
            frame.kernels()
                    .adamwRows(
                            state.param,
                            state.low,
                            state.m,
                            state.v,
                            gradient.rows(),
                            scratch.of(slots, slots.length),
                            scalars(state.steps, learningRate));
        }
    }

    private AdamwStep scalars(int step, double learningRate) {
        return new AdamwStep(
                learningRate,
                BETA1,
                BETA2,
                EPS,
                weightDecay,
                1 - Math.pow(BETA1, step),
                1 - Math.pow(BETA2, step),
                gradScale);
    }
}
