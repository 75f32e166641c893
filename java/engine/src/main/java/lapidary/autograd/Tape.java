package lapidary.autograd;

import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;
import java.util.function.BiFunction;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Runs ops and, where it records, remembers those that lie between something trained and the output, to walk them
 * backwards. Names no particular op.
 */
public final class Tape {
    private record Node(Op op, Tensor output) {}

    private final Frame frame;
    private final boolean recording;
    private final BiFunction<Op, Frame, Tensor> forward;
    private final boolean insideBlock;
    private final Set<Object> tracked = Collections.newSetFromMap(new IdentityHashMap<>());
    private final List<Node> nodes = new ArrayList<>();

    private Tape(
            Frame frame,
            boolean recording,
            List<Tensor> leaves,
            BiFunction<Op, Frame, Tensor> forward,
            boolean insideBlock) {
        this.frame = frame;
        this.recording = recording;
        this.forward = forward;
        this.insideBlock = insideBlock;
        for (Tensor leaf : leaves) {
            tracked.add(leaf.identity());
        }
    }

    /** A tape whose tensors live in the frame and that records what depends on one of the leaves. */
    public static Tape recording(Frame frame, List<Tensor> leaves) {
        return new Tape(frame, true, leaves, Op::forward, false);
    }

    /** A tape that only runs ops; nothing is kept for backward. */
    public static Tape notRecording(Frame frame) {
        return new Tape(frame, false, List.of(), Op::forward, false);
    }

    /** The tape of a checkpointed block, whose ops are run by {@code forward}. */
    static Tape ofBlock(Frame frame, boolean recording, List<Tensor> leaves, BiFunction<Op, Frame, Tensor> forward) {
        return new Tape(frame, recording, leaves, forward, true);
    }

    public Frame frame() {
        return frame;
    }

    public boolean isRecording() {
        return recording;
    }

    /** Runs an op and returns its output. */
    public Tensor run(Op op) {
        Tensor output = forward.apply(op, frame);
        if (recording && isAnyTracked(op.inputs())) {
            tracked.add(output.identity());
            nodes.add(new Node(op, output));
        }
        return output;
    }

    /**
     * Runs a block keeping its output and what its ops want {@link Op#kept}; backward runs it again, recording, in a frame
     * of its own. The block must run the same ops both times, and read their outputs only through ops.
     *
     * @param leaves what is trained, all that the block might use
     * @throws IllegalStateException inside another such block
     */
    public Tensor checkpoint(String name, Tensor x, List<Tensor> leaves, BiFunction<Tape, Tensor, Tensor> block) {
        if (insideBlock) {
            throw new IllegalStateException("[checkpoint] " + name + " is inside another checkpointed block");
        }
        if (!recording || (leaves.isEmpty() && !isTracked(x))) {
            try (Frame inner = frame.child(name)) {
                return inner.escape(block.apply(notRecording(inner), x));
            }
        }
        Checkpoint op = new Checkpoint(name, x, isTracked(x), leaves, block);
        Tensor output = op.forward(frame);
        tracked.add(output.identity());
        nodes.add(new Node(op, output));
        return output;
    }

    /**
     * Walks the recorded ops backwards from a scalar.
     *
     * @param loss F32, one element
     */
    public void backward(Tensor loss, Gradients grads) {
        if (loss.elements() != 1 || loss.dtype() != DType.F32) {
            throw new IllegalArgumentException("[backward] starts at an F32 scalar, not at " + loss.describe());
        }
        try (Frame seed = frame.child("seed")) {
            Tensor one = seed.of(new float[] {1}, loss.shape().toArray());
            grads.startFrom(one);
            backward(loss, one, grads, Tensor.NONE);
        }
    }

    /** Walks backwards from an output with its gradient; the gradient of {@code x} ends up in the frame around. */
    Tensor backward(Tensor output, Tensor dy, Gradients grads, Tensor x) {
        grads.push(this);
        try {
            grads.add(output, dy);
            for (int i = nodes.size() - 1; i >= 0; i--) {
                Node node = nodes.get(i);
                Tensor gradient = grads.take(node.output());
                if (gradient.isNone()) {
                    continue;
                }
                try (Frame scratch = frame.child(node.op().name() + " backward")) {
                    node.op().backward(gradient, scratch, grads);
                }
                if (grads.isUnused()) {
                    frame.release(gradient);
                }
            }
            nodes.clear();
            return x.isNone() ? Tensor.NONE : grads.take(x);
        } finally {
            grads.pop();
        }
    }

    boolean isTracked(Tensor x) {
        return !x.isNone() && tracked.contains(x.identity());
    }

    private boolean isAnyTracked(List<Tensor> tensors) {
        for (Tensor tensor : tensors) {
            if (isTracked(tensor)) {
                return true;
            }
        }
        return false;
    }
}
