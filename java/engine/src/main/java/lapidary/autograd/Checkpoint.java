package lapidary.autograd;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;
import java.util.function.BiFunction;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * A block that is run again to be walked backwards. The first run notes which ops there are: what {@link Op#kept} of them
 * stays until the second run, which leaves out what no backward of the block reads.
 *
 * @see <a href="https://arxiv.org/abs/1604.06174">Training Deep Nets with Sublinear Memory Cost</a>
 */
final class Checkpoint implements Op {
    private record Run(Op op, Object output) {}

    private final String name;
    private final Tensor x;
    private final boolean wantsX;
    private final List<Tensor> leaves;
    private final BiFunction<Tape, Tensor, Tensor> block;
    private final List<List<Tensor>> kept = new ArrayList<>(); // of each op, by forward
    private final BitSet unread = new BitSet(); // ops whose output backward does not need, by forward
    private Frame around; // owner of what is kept, by forward
    private Object result; // identity of the output, by forward: it is not this op's to give back

    Checkpoint(String name, Tensor x, boolean wantsX, List<Tensor> leaves, BiFunction<Tape, Tensor, Tensor> block) {
        this.name = name;
        this.x = x;
        this.wantsX = wantsX;
        this.leaves = leaves;
        this.block = block;
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x);
    }

    @Override
    public Tensor forward(Frame frame) {
        around = frame;
        List<Run> runs = new ArrayList<>();
        try (Frame inner = frame.child(name)) {
            Tape first = Tape.ofBlock(inner, false, List.of(), (op, owner) -> {
                Tensor output = op.forward(owner);
                runs.add(new Run(op, output.identity()));
                return output;
            });
            Tensor output = block.apply(first, x);
            for (Run run : runs) {
                List<Tensor> keep = run.op().kept();
                keep.forEach(inner::escape);
                kept.add(keep);
            }
            noteUnread(runs);
            result = output.identity();
            return inner.escape(output);
        }
    }

    /** The block's output is not read by its own backward, nor what leads only to it through ops that read nothing. */
    private void noteUnread(List<Run> runs) {
        Set<Object> read = Collections.newSetFromMap(new IdentityHashMap<>());
        for (int i = runs.size() - 1; i >= 0; i--) {
            Op op = runs.get(i).op();
            unread.set(i, !read.contains(runs.get(i).output()));
            if (!unread.get(i) || op.backwardReadsInputs()) {
                op.inputs().stream().filter(input -> !input.isNone()).forEach(input -> read.add(input.identity()));
            }
        }
    }

    @Override
    public void backward(Tensor dy, Frame scratch, Gradients grads) {
        List<Tensor> all = new ArrayList<>(leaves);
        if (wantsX) {
            all.add(x);
        }
        int[] next = {0};
        Tape second = Tape.ofBlock(scratch, true, all, (op, owner) -> again(op, next[0]++, owner));
        Tensor output = block.apply(second, x);
        if (next[0] != kept.size()) {
            throw new IllegalStateException(
                    "[checkpoint] " + name + " ran " + kept.size() + " ops and then " + next[0]);
        }
        Tensor dx = second.backward(output, dy, grads, wantsX ? x : Tensor.NONE);
        grads.add(x, dx);
        kept.stream()
                .flatMap(List::stream)
                .filter(tensor -> tensor.identity() != result)
                .forEach(around::release);
    }

    private Tensor again(Op op, int index, Frame owner) {
        if (index >= kept.size()) {
            throw new IllegalStateException("[checkpoint] " + name + " runs more than its " + kept.size() + " ops");
        }
        if (!kept.get(index).isEmpty()) {
            return op.resume(kept.get(index));
        }
        return unread.get(index) ? op.forwardUnread(owner) : op.forward(owner);
    }
}
