package lapidary.optim;

import java.util.Arrays;
import java.util.Map;
import lapidary.autograd.Gradients.RowGradient;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/** Plain gradient descent, as torch's SGD without momentum: weight decay is added to the gradient. */
final class Sgd implements Rule {
    private final Frame frame;
    private final Tensor param;
    private final Tensor low; // I16, NONE unless the master is split
    private final double weightDecay;

    Sgd(Frame frame, Tensor param, Tensor low, double weightDecay) {
        this.frame = frame;
        this.param = param;
        this.low = low;
        this.weightDecay = weightDecay;
    }

    @Override
    public void step(Tensor gradient, double learningRate, float gradScale, AdamwSteps together) {
        frame.kernels().sgd(param, low, gradient, learningRate, weightDecay, gradScale);
    }

    @Override
    public void step(RowGradient gradient, double learningRate, float gradScale) {
        int[] slots = new int[Math.toIntExact(param.rows())];
        Arrays.fill(slots, -1);
        gradient.slots().forEach((row, slot) -> slots[row] = slot);
        try (Frame scratch = frame.child("rows")) {
            Tensor slot = scratch.of(slots, slots.length);
            frame.kernels().sgdRows(param, low, gradient.rows(), slot, learningRate, weightDecay, gradScale);
        }
    }

    @Override
    public int bytesOfUsedElement() {
        return bytesOfUsedElement(low, weightDecay);
    }

    /** The same of low bits alone: weight decay moves every row. */
    static int bytesOfUsedElement(Tensor low, double weightDecay) {
        return low.isNone() || weightDecay != 0 ? 0 : low.dtype().bytes();
    }

    @Override
    public RuleState state() {
        return new RuleState(0, RuleState.low(low), Map.of(), null);
    }

    @Override
    public void restore(int steps, int[] rows) {
        // nothing but the low bits
    }
}
