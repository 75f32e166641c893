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
    private final Set<Object> tracked = Collections.newSetFromMap(new IdentityHashMap<>());
    private final List<Node> nodes = new ArrayList<>();

    private Tape(Frame frame, boolean recording, List<Tensor> leaves) {
        this.frame = frame;
        this.recording = recording;
        for (Tensor leaf : leaves) {
            tracked.add(leaf.identity());
        }
    }

    /** A tape whose tensors live in the frame and that records what depends on one of the leaves. */
    public static Tape recording(Frame frame, List<Tensor> leaves) {
        return new Tape(frame, true, leaves);
    }

    /** A tape that only runs ops; nothing is kept for backward. */
    public static Tape notRecording(Frame frame) {
        return new Tape(frame, false, List.of());
    }

    public Frame frame() {
        return frame;
    }

    public boolean isRecording() {
        return recording;
    }

    /** Runs an op and returns its output. */
    public Tensor run(Op op) {
        Tensor output = op.forward(frame);
        if (recording && isAnyTracked(op.inputs())) {
            tracked.add(output.identity());
            nodes.add(new Node(op, output));
        }
        return output;
    }

    /**
     * Runs a block keeping only its output; backward runs it again, recording, in a frame of its own. The block must
     * compute the same both times.
     *
     * @param leaves what is trained, all that the block might use
     */
    public Tensor checkpoint(String name, Tensor x, List<Tensor> leaves, BiFunction<Tape, Tensor, Tensor> block) {
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
            backward(loss, seed.of(new float[] {1}, loss.shape().toArray()), grads, Tensor.NONE);
        }
    }

    /** Walks backwards from an output with its gradient; the gradient of {@code x} ends up in the frame around. */
    private Tensor backward(Tensor output, Tensor dy, Gradients grads, Tensor x) {
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
                frame.release(gradient);
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

    /** A block that is run again to be walked backwards. */
    private record Checkpoint(
            String name, Tensor x, boolean wantsX, List<Tensor> leaves, BiFunction<Tape, Tensor, Tensor> block)
            implements Op {
        @Override
        public List<Tensor> inputs() {
            return List.of(x);
        }

        @Override
        public Tensor forward(Frame around) {
            try (Frame inner = around.child(name)) {
                return inner.escape(block.apply(notRecording(inner), x));
            }
        }

        @Override
        public void backward(Tensor dy, Frame scratch, Gradients grads) {
            List<Tensor> all = new ArrayList<>(leaves);
            if (wantsX) {
                all.add(x);
            }
            Tape again = recording(scratch, all);
            Tensor output = block.apply(again, x);
            Tensor dx = again.backward(output, dy, grads, wantsX ? x : Tensor.NONE);
            grads.add(x, dx);
        }
    }
}
