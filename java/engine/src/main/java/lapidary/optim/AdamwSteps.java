package lapidary.optim;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import lapidary.device.Adamw8bitTensor;
import lapidary.device.AdamwStep;
import lapidary.device.AdamwTensor;
import lapidary.device.DType;
import lapidary.device.Kernels;
import lapidary.device.Operand;
import lapidary.tensor.Tensor;

/** Steps of many parameters, of which those with equal scalars and dtypes are one call of a kernel: an adapter has hundreds. */
final class AdamwSteps {
    private record Kind(AdamwStep step, DType param, boolean split, DType moments, DType gradient) {
        static Kind of(AdamwStep step, Operand param, Operand low, Operand m, Operand grad) {
            return new Kind(step, param.dtype(), !low.isNone(), m.dtype(), grad.dtype());
        }
    }

    private final Map<Kind, List<AdamwTensor>> whole = new LinkedHashMap<>();
    private final Map<Kind, List<Adamw8bitTensor>> coded = new LinkedHashMap<>();

    void add(AdamwTensor x, AdamwStep step) {
        Kind kind = Kind.of(step, x.param(), x.low(), x.m(), x.grad());
        whole.computeIfAbsent(kind, k -> new ArrayList<>()).add(x);
    }

    void add(Adamw8bitTensor x, AdamwStep step) {
        Kind kind = Kind.of(step, x.param(), x.low(), x.m(), x.grad());
        coded.computeIfAbsent(kind, k -> new ArrayList<>()).add(x);
    }

    /**
     * Takes the steps, in one call for each kind.
     *
     * @param signed F32 [256] numbers of the first moment's codes, {@link Tensor#NONE} where there are none
     * @param unsigned those of the second moment's
     */
    void take(Kernels kernels, Tensor signed, Tensor unsigned) {
        whole.forEach((kind, tensors) -> kernels.adamw(tensors, kind.step()));
        coded.forEach((kind, tensors) -> kernels.adamw8bit(tensors, signed, unsigned, kind.step()));
    }
}
