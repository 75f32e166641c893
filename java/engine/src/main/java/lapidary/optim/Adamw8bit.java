package lapidary.optim;

import java.util.Map;
import java.util.TreeMap;
import lapidary.autograd.Gradients.RowGradient;
import lapidary.device.Adamw8bitTensor;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * AdamW with moments of 8 bits, a scale for every 256: 2.03 bytes an element instead of 8. Codes and scales are those of
 * bitsandbytes' CPU backend to the bit.
 *
 * @see <a href="https://arxiv.org/abs/2110.02861">8-bit Optimizers via Block-wise Quantization</a>
 */
final class Adamw8bit implements Rule {
    private static final int BLOCK = 256;

    private final Tensor param;
    private final Tensor low; // I16, NONE unless the master is split
    private final Tensor m; // U8 codes
    private final Tensor mAbsmax; // F32 [blocks]
    private final Tensor v; // U8 codes into unsigned
    private final Tensor vAbsmax;
    private final OptimizerOptions options;
    private final double weightDecay;
    private int steps;

    Adamw8bit(Frame frame, Tensor param, Tensor low, OptimizerOptions options, double weightDecay) {
        this.param = param;
        this.low = low;
        long blocks = Math.ceilDiv(param.elements(), BLOCK);
        this.m = frame.zeros(DType.U8, param.elements());
        this.mAbsmax = frame.zeros(DType.F32, blocks);
        this.v = frame.zeros(DType.U8, param.elements());
        this.vAbsmax = frame.zeros(DType.F32, blocks);
        this.options = options;
        this.weightDecay = weightDecay;
    }

    @Override
    public void step(Tensor gradient, double learningRate, float gradScale, AdamwSteps together) {
        steps++;
        together.add(
                new Adamw8bitTensor(param, low, m, mAbsmax, v, vAbsmax, gradient),
                Adamw.scalars(options, weightDecay, steps, learningRate, gradScale));
    }

    @Override
    public void step(RowGradient gradient, double learningRate, float gradScale) {
        throw new IllegalStateException("[adamw_8bit] a table with a row-sparse gradient keeps moments of 32 bits");
    }

    @Override
    public int bytesOfUsedElement() {
        return 0; // it takes no rows
    }

    @Override
    public RuleState state() {
        Map<String, Tensor> whole = new TreeMap<>(RuleState.low(low));
        whole.put("exp_avg", m);
        whole.put("exp_avg.absmax", mAbsmax);
        whole.put("exp_avg_sq", v);
        whole.put("exp_avg_sq.absmax", vAbsmax);
        return new RuleState(steps, whole, Map.of(), null);
    }

    @Override
    public void restore(int done, int[] rows) {
        steps = done;
    }
}
