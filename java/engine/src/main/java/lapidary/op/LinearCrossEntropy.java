package lapidary.op;

import java.util.Arrays;
import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.device.DType;
import lapidary.device.Kernels;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * The output head and its cross-entropy in one, without ever holding the logits of more than a chunk of tokens; where the
 * device has a kernel for both, not even those.
 *
 * <p>{@code loss = sum over t with a target of -log softmax(hidden[t] headᵀ)[target[t]] / normaliser}. While training, each
 * chunk's gradients are computed as it passes, because its logits are there then: a second pass would multiply by a
 * 262k-row head once more. The head's own gradient is added to its accumulator at once; only that of the hidden states
 * waits for backward. So this op is the end of its graph: backward starts at it, with a gradient of 1.
 *
 * @see <a href="https://arxiv.org/abs/2410.10989">Liger kernels</a>, fused linear cross-entropy
 */
public final class LinearCrossEntropy implements Op {
    /** Target of a position that is not trained. */
    public static final int IGNORED = -100;

    /** Tokens whose logits are held at once: 128 MiB of BF16 at a vocabulary of 262k. */
    private static final int CHUNK = 256;

    /**
     * Sums over the positions that have a target.
     *
     * @param loss the op's value: already divided by the normaliser
     * @param entropy of the predictions, nats
     * @param correct positions whose likeliest token, the first of equals, is the target
     * @param valid number of positions
     */
    public record Statistics(double loss, double entropy, long correct, long valid) {}

    private final Tensor hidden; // [tokens, size]
    private final Tensor head; // [vocab, size]
    private final int[] targets; // [tokens]
    private final double normaliser;
    private final float softcap;
    private final Gradients grads; // null while evaluating
    private Tensor dHidden = Tensor.NONE; // [tokens, size], written by forward
    private Tensor loss; // [positions, 1]  F32, written by forward, as the next two
    private Tensor entropy; // [positions]  F32
    private Tensor correct; // [positions]  I32

    /**
     * @param targets per token the id to predict, or {@link #IGNORED}
     * @param normaliser what the sum is divided by: the trained tokens of the whole optimiser step
     * @param softcap logits become {@code softcap * tanh(logit / softcap)}; 0 for no cap
     * @param grads where a trained head's gradient goes, or null for the value alone
     */
    public LinearCrossEntropy(
            Tensor hidden, Tensor head, int[] targets, double normaliser, float softcap, Gradients grads) {
        Check.last("linear_cross_entropy head", head, hidden.last());
        Check.dtype("linear_cross_entropy head", head, hidden);
        if (targets.length != hidden.rows()) {
            throw new IllegalArgumentException(
                    "[linear_cross_entropy] " + targets.length + " targets for hidden states " + hidden.shape());
        }
        this.hidden = hidden;
        this.head = head;
        this.targets = targets;
        this.normaliser = normaliser;
        this.softcap = softcap;
        this.grads = grads;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(hidden, head);
    }

    /**
     * Bytes of logits that are held at once.
     *
     * @param targets positions with one
     */
    public static long logitBytes(Kernels kernels, Tensor head, float softcap, int targets) {
        boolean fused = softcap == 0 && kernels.hasLinearCrossEntropy(head);
        return fused ? 0 : Math.min(CHUNK, targets) * head.rows() * head.dtype().bytes();
    }

    @Override
    public Tensor forward(Frame frame) {
        int[] positions = positionsWithTarget();
        if (grads != null) {
            dHidden = frame.emptyLike(hidden);
            frame.kernels().zero(dHidden);
        }
        loss = frame.empty(DType.F32, positions.length, 1);
        entropy = frame.empty(DType.F32, positions.length);
        correct = frame.empty(DType.I32, positions.length);
        boolean fused = softcap == 0 && frame.kernels().hasLinearCrossEntropy(hidden);
        int length = fused ? Math.max(1, positions.length) : CHUNK;
        for (int from = 0; from < positions.length; from += length) {
            int to = Math.min(from + length, positions.length);
            try (Frame chunk = frame.child("chunk")) {
                chunk(chunk, positions, from, to, fused);
            }
        }
        return mean(frame, positions.length);
    }

    /** Sum of the losses over the normaliser, made where they are: the device is not waited for. */
    private Tensor mean(Frame frame, int positions) {
        if (positions == 0) {
            return frame.of(new float[] {0}, 1);
        }
        Tensor sum = frame.empty(DType.F32, 1);
        frame.kernels().sumRows(sum, loss);
        frame.kernels().convert(sum, sum, (float) (1 / normaliser));
        return sum;
    }

    /** Loss, entropy and correctness of some of the positions; gradients on the way. */
    private void chunk(Frame frame, int[] positions, int from, int to, boolean fused) {
        int n = to - from;
        int[] wanted = new int[n];
        for (int i = 0; i < n; i++) {
            wanted[i] = targets[positions[from + i]];
        }
        Tensor index = frame.of(Arrays.copyOfRange(positions, from, to), n);
        Tensor ids = frame.of(wanted, n);
        Tensor rows = frame.empty(hidden.dtype(), n, hidden.last());
        frame.kernels().gatherRows(rows, hidden, index);
        Tensor losses = loss.slice(from, to);
        Tensor entropies = entropy.slice(from, to);
        Tensor rights = correct.slice(from, to);
        Tensor dRows = grads != null ? frame.emptyLike(rows) : Tensor.NONE;
        Tensor dHead = grads != null && grads.wants(head) ? sumOfHead(frame) : Tensor.NONE;
        float gradScale = (float) (1 / normaliser);
        if (fused) {
            frame.kernels().linearCrossEntropy(losses, entropies, rights, dRows, dHead, rows, head, ids, gradScale);
        } else {
            Tensor logits = frame.empty(hidden.dtype(), n, head.rows());
            frame.gemm().linear(logits, rows, head, Tensor.NONE);
            frame.kernels().crossEntropy(losses, entropies, rights, logits, ids, gradScale, softcap, grads != null);
            if (!dRows.isNone()) {
                frame.gemm().multiply(dRows, logits, false, head, false, Tensor.NONE, 1, false);
            }
            if (!dHead.isNone()) {
                frame.gemm().multiply(dHead, logits, true, rows, false, Tensor.NONE, 1, true);
            }
        }
        if (!dRows.isNone()) {
            frame.kernels().scatterRows(dHidden, dRows, index);
        }
    }

    /** The head's gradient so far, which the next chunk adds to. */
    private Tensor sumOfHead(Frame frame) {
        Gradients.Accumulator dHead = grads.accumulator(head);
        if (!dHead.isBegun()) {
            frame.kernels().zero(dHead.sum());
        }
        return dHead.sum();
    }

    /**
     * @throws IllegalStateException where this op is not where backward started, or was made without gradients
     */
    @Override
    public void backward(Tensor dy, Frame frame, Gradients into) {
        if (into != grads || !into.isSeed(dy)) {
            throw new IllegalStateException(
                    "[linear_cross_entropy] backward must start at this op, into the gradients it was made with");
        }
        into.add(hidden, dHidden);
    }

    /** Readable after forward and while its frame is open: waits for the device, so best read after backward. */
    public Statistics statistics() {
        int n = Math.toIntExact(loss.elements());
        double mean = n == 0 ? 0 : sum(loss.toFloats()) / normaliser;
        return new Statistics(mean, sum(entropy.toFloats()), sum(correct.toInts()), n);
    }

    private int[] positionsWithTarget() {
        int count = 0;
        for (int t = 0; t < targets.length; t++) {
            if (targets[t] != IGNORED && (targets[t] < 0 || targets[t] >= head.rows())) {
                throw new IllegalArgumentException("[linear_cross_entropy] target " + targets[t] + " of token " + t
                        + " is outside the head of " + head.rows() + " rows");
            }
            count += targets[t] == IGNORED ? 0 : 1;
        }
        int[] positions = new int[count];
        int next = 0;
        for (int t = 0; t < targets.length; t++) {
            if (targets[t] != IGNORED) {
                positions[next++] = t;
            }
        }
        return positions;
    }

    private static double sum(float[] values) {
        double sum = 0;
        for (float value : values) {
            sum += value;
        }
        return sum;
    }

    private static long sum(int[] values) {
        long sum = 0;
        for (int value : values) {
            sum += value;
        }
        return sum;
    }
}
