package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.device.AttentionShape;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Softmax attention of every token over the tokens of its row that it may see.
 *
 * <p>{@code y[t, h] = sum_k softmax_k(q[t, h] . k[k, h'] * scale) v[k, h']}, {@code h' = h / (heads / kvHeads)}. With
 * {@link AttentionShape#causal} a token sees itself and what is before it, and all of its own image; a window ends that
 * many tokens back, on every side of an image but forward. Scores and softmax are F32 for every dtype and are never
 * stored: the logarithm of each softmax sum is saved, and backward makes the probabilities again.
 *
 * @see <a href="https://arxiv.org/abs/2205.14135">FlashAttention</a>
 */
public final class Attention implements Op {
    private final Tensor q; // [tokens, heads * headDim]    BF16 or F32
    private final Tensor k; // [tokens, kvHeads * headDim]  dtype of q
    private final Tensor v; // [tokens, kvHeads * headDim]  dtype of q
    private final Segments segments;
    private final AttentionShape shape;
    private Tensor y; // [tokens, heads * headDim]    written by forward
    private Tensor lse; // [tokens, heads]            F32, written by forward

    /** @throws IllegalArgumentException where q, k, v, the spans and the shape do not fit together */
    public Attention(Tensor q, Tensor k, Tensor v, Segments segments, AttentionShape shape) {
        long tokens = q.rows();
        Check.shape("attention q", q, tokens, (long) shape.heads() * shape.headDim());
        Check.shape("attention k", k, tokens, (long) shape.kvHeads() * shape.headDim());
        Check.shape("attention v", v, tokens, (long) shape.kvHeads() * shape.headDim());
        Check.dtype("attention k", k, q);
        Check.dtype("attention v", v, q);
        if (!segments.spans().isNone()) {
            Check.shape("attention spans", segments.spans(), tokens);
        }
        this.q = q;
        this.k = k;
        this.v = v;
        this.segments = segments;
        this.shape = shape;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(q, k, v);
    }

    @Override
    public Tensor forward(Frame frame) {
        y = frame.emptyLike(q);
        lse = frame.empty(DType.F32, q.rows(), shape.heads());
        frame.kernels().attentionForward(y, lse, q, k, v, segments.starts(), segments.spans(), shape);
        return y;
    }

    /**
     * Where every token sees all of its row, as the patches of an image do, forward costs more by far for each byte than
     * the ops around it.
     */
    @Override
    public List<Tensor> kept() {
        return shape.causal() ? List.of() : List.of(y, lse);
    }

    @Override
    public Tensor resume(List<Tensor> kept) {
        y = kept.get(0);
        lse = kept.get(1);
        return y;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        Tensor dq = frame.emptyLike(q);
        Tensor dk = frame.emptyLike(k);
        Tensor dv = frame.emptyLike(v);
        frame.kernels().attentionBackward(dq, dk, dv, dy, q, k, v, y, lse, segments.starts(), segments.spans(), shape);
        grads.add(q, dq);
        grads.add(k, dk);
        grads.add(v, dv);
    }
}
