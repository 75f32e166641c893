package lapidary.optim;

import java.util.Arrays;
import java.util.Map;
import java.util.stream.IntStream;
import lapidary.autograd.Gradients.RowGradient;
import lapidary.device.AdamwStep;
import lapidary.device.AdamwTensor;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * AdamW with decoupled weight decay, equal to the bit to torch's fused CPU kernel on the same gradients. A table whose
 * gradient is row-sparse has state only for rows that ever had one: the rest of its zeroed memory is never written, so the
 * system never provides it.
 *
 * @see <a href="https://arxiv.org/abs/1711.05101">Decoupled weight decay regularization</a>
 */
final class Adamw implements Rule {
    /** Marks of a table's rows in the kernel's slot array, see kernels.h. */
    private static final int FADES = -1;

    private static final int UNTOUCHED = -2;

    private final Frame frame;
    private final Tensor param;
    private final Tensor low; // I16, NONE unless the master is split
    private final Tensor m;
    private final Tensor v;
    private final OptimizerOptions options;
    private final double weightDecay;
    private int[] touched; // per table row FADES or UNTOUCHED; null until a row-sparse gradient comes
    private int steps;

    Adamw(Frame frame, Tensor param, Tensor low, OptimizerOptions options, double weightDecay, DType moments) {
        this.frame = frame;
        this.param = param;
        this.low = low;
        this.m = frame.zeros(moments, param.shape().toArray());
        this.v = frame.zeros(moments, param.shape().toArray());
        this.options = options;
        this.weightDecay = weightDecay;
    }

    @Override
    public void step(Tensor gradient, double learningRate, float gradScale, AdamwSteps together) {
        steps++;
        together.add(
                new AdamwTensor(param, low, m, v, gradient),
                scalars(options, weightDecay, steps, learningRate, gradScale));
    }

    @Override
    public void step(RowGradient gradient, double learningRate, float gradScale) {
        steps++;
        if (touched == null) {
            touched = new int[Math.toIntExact(param.rows())];
            Arrays.fill(touched, UNTOUCHED);
        }
        int[] slots = touched.clone();
        for (Map.Entry<Integer, Integer> row : gradient.slots().entrySet()) {
            slots[row.getKey()] = row.getValue();
            touched[row.getKey()] = FADES;
        }
        try (Frame scratch = frame.child("rows")) {
            frame.kernels()
                    .adamwRows(
                            param,
                            low,
                            m,
                            v,
                            gradient.rows(),
                            scratch.of(slots, slots.length),
                            scalars(options, weightDecay, steps, learningRate, gradScale));
        }
    }

    @Override
    public int bytesOfUsedElement() {
        return 2 * m.dtype().bytes() + Sgd.bytesOfUsedElement(low, weightDecay);
    }

    @Override
    public RuleState state() {
        int[] rows = touched == null
                ? null
                : IntStream.range(0, touched.length)
                        .filter(row -> touched[row] == FADES)
                        .toArray();
        return new RuleState(steps, RuleState.low(low), Map.of("exp_avg", m, "exp_avg_sq", v), rows);
    }

    @Override
    public void restore(int done, int[] rows) {
        steps = done;
        if (rows != null) {
            touched = new int[Math.toIntExact(param.rows())];
            Arrays.fill(touched, UNTOUCHED);
            for (int row : rows) {
                touched[row] = FADES;
            }
        }
    }

    /** The scalars of step {@code steps}, counted from 1. */
    static AdamwStep scalars(
            OptimizerOptions options, double weightDecay, int steps, double learningRate, float gradScale) {
        return new AdamwStep(
                learningRate,
                options.beta1(),
                options.beta2(),
                options.epsilon(),
                weightDecay,
                1 - Math.pow(options.beta1(), steps),
                1 - Math.pow(options.beta2(), steps),
                gradScale);
    }
}
