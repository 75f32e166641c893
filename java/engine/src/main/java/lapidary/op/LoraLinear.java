package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.quant.DenseWeight;
import lapidary.quant.LinearWeight;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * A frozen linear layer with a trained low-rank adapter beside it:
 * {@code y = x weightᵀ + bias + scaling (dropout(x) Aᵀ) Bᵀ}.
 *
 * <p>Computes in the dtype of x; the adapter may be F32 masters, which are then rounded to it, as autocast does. B is
 * scaled when it is rounded, so that no product over the wide output carries the factor. Backward draws the dropout's mask
 * again; gradients of A and B are F32 and add up in place. Saves {@code dropout(x) Aᵀ}.
 *
 * @see <a href="https://arxiv.org/abs/2106.09685">LoRA</a>
 */
public final class LoraLinear implements Op {
    /**
     * The trained part.
     *
     * @param a [rank, in] BF16 or F32
     * @param b [out, rank] BF16 or F32
     * @param scaling alpha / rank
     * @param dropout probability that an element of the adapter's input is left out; 0 for none
     * @param seed of the run and step
     * @param stream another number for every layer
     */
    public record Adapter(Tensor a, Tensor b, float scaling, float dropout, long seed, long stream) {
        /** @throws IllegalArgumentException where the ranks differ or the dropout is no probability */
        public Adapter {
            Check.floating("lora A", a);
            Check.floating("lora B", b);
            Check.matrix("lora A", a);
            Check.matrix("lora B", b);
            if (a.rows() != b.last()) {
                throw new IllegalArgumentException("[lora] A is " + a.shape() + " [rank, in], B is " + b.shape()
                        + " [out, rank]: the ranks differ");
            }
            if (!(dropout >= 0 && dropout < 1)) {
                throw new IllegalArgumentException("[lora] dropout is " + dropout + ", expected 0 <= dropout < 1");
            }
        }
    }

    private final Tensor x; // [..., in]   BF16 or F32
    private final LinearWeight weight; // [out, in]   frozen; a tensor is of x's dtype
    private final Tensor bias; // [out]       dtype of x, frozen, or NONE
    private final Adapter adapter;
    private Tensor a; // [rank, in]   dtype of x, by forward
    private Tensor scaledB; // [out, rank]  dtype of x, by forward
    private Tensor down; // [rows, rank] dropout(x) Aᵀ, by forward

    /**
     * An adapter beside a tensor [out, in].
     *
     * @param bias [out] or {@link Tensor#NONE}
     * @throws IllegalArgumentException where shapes or dtypes do not fit
     */
    public LoraLinear(Tensor x, Tensor weight, Tensor bias, Adapter adapter) {
        this(x, new DenseWeight(weight), bias, adapter);
    }

    /**
     * @param bias [out] or {@link Tensor#NONE}
     * @throws IllegalArgumentException where shapes or dtypes do not fit
     */
    public LoraLinear(Tensor x, LinearWeight weight, Tensor bias, Adapter adapter) {
        Check.floating("lora_linear x", x);
        if (weight instanceof DenseWeight dense) {
            Check.dtype("lora_linear weight", dense.tensor(), x);
        }
        Check.last("lora_linear x", x, weight.in());
        Check.last("lora A", adapter.a(), weight.in());
        Check.shape("lora B", adapter.b(), weight.out(), adapter.a().rows());
        if (!bias.isNone()) {
            Check.shape("lora_linear bias", bias, weight.out());
            Check.dtype("lora_linear bias", bias, x);
        }
        this.x = x;
        this.weight = weight;
        this.bias = bias;
        this.adapter = adapter;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x, adapter.a(), adapter.b());
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = forwardUnread(frame);
        weight.multiply(y, x, bias, frame);
        frame.gemm().multiply(y, down, false, scaledB, true, Tensor.NONE, 1, true);
        return y;
    }

    /** Computes the adapter's inner activations, without the product with the weight. */
    @Override
    public Tensor forwardUnread(Frame frame) {
        a = inDtypeOfX(adapter.a(), 1, frame);
        scaledB = inDtypeOfX(adapter.b(), adapter.scaling(), frame);
        down = frame.empty(x.dtype(), x.rows(), a.rows());
        if (joinsDropout(frame)) {
            frame.kernels().loraDownForward(down, x, a, adapter.dropout(), adapter.seed(), adapter.stream());
        } else {
            try (Frame scratch = frame.child("dropout")) {
                frame.gemm().linear(down, dropped(scratch), a, Tensor.NONE);
            }
        }
        return frame.empty(x.dtype(), x.shape().withLast(weight.out()));
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        boolean wantsWeight = weight instanceof DenseWeight dense && grads.wants(dense.tensor());
        if (wantsWeight || grads.wants(bias)) {
            throw new IllegalStateException("[lora_linear] weight " + weight.describe()
                    + " or its bias is to be trained," + " expected frozen ones beside an adapter");
        }
        if (grads.wants(adapter.b())) {
            Gradients.Accumulator db = grads.accumulator(adapter.b());
            frame.gemm().multiply(db.sum(), dy, true, down, false, Tensor.NONE, adapter.scaling(), db.isBegun());
        }
        if (!grads.wants(x) && !grads.wants(adapter.a())) {
            return;
        }
        Tensor ddown = frame.empty(x.dtype(), x.rows(), a.rows());
        frame.gemm().multiply(ddown, dy, false, scaledB, false, Tensor.NONE, 1, false);
        if (grads.wants(adapter.a())) {
            addGradientOfA(grads.accumulator(adapter.a()), ddown, frame);
        }
        if (grads.wants(x)) {
            Tensor dx = frame.emptyLike(x);
            gradientThroughA(dx, ddown, frame);
            weight.multiplyBackward(dx, dy, true, frame);
            grads.add(x, dx);
        }
    }

    private void addGradientOfA(Gradients.Accumulator da, Tensor ddown, Frame frame) {
        if (joinsDropout(frame)) {
            frame.kernels()
                    .loraDownBackwardWeight(
                            da.sum(), ddown, x, adapter.dropout(), adapter.seed(), adapter.stream(), da.isBegun());
            return;
        }
        try (Frame scratch = frame.child("dropout")) {
            frame.gemm().multiply(da.sum(), ddown, true, dropped(scratch), false, Tensor.NONE, 1, da.isBegun());
        }
    }

    private void gradientThroughA(Tensor dx, Tensor ddown, Frame frame) {
        if (joinsDropout(frame)) {
            frame.kernels().loraDownBackwardInput(dx, ddown, a, adapter.dropout(), adapter.seed(), adapter.stream());
            return;
        }
        frame.gemm().multiply(dx, ddown, false, a, false, Tensor.NONE, 1, false);
        if (adapter.dropout() > 0) {
            frame.kernels().dropout(dx, dx, adapter.dropout(), adapter.seed(), adapter.stream());
        }
    }

    private boolean joinsDropout(Frame frame) {
        return adapter.dropout() > 0 && frame.gemm().joinsDropout(x.dtype(), a.last(), a.rows());
    }

    /** What the adapter sees of x. */
    private Tensor dropped(Frame frame) {
        if (adapter.dropout() == 0) {
            return x;
        }
        Tensor y = frame.emptyLike(x);
        frame.kernels().dropout(y, x, adapter.dropout(), adapter.seed(), adapter.stream());
        return y;
    }

    private Tensor inDtypeOfX(Tensor master, float factor, Frame frame) {
        if (master.dtype() == x.dtype() && factor == 1) {
            return master;
        }
        Tensor rounded = frame.empty(x.dtype(), master.shape());
        frame.kernels().convert(rounded, master, factor);
        return rounded;
    }
}
