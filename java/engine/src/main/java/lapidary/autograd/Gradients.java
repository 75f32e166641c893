package lapidary.autograd;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Where backward passes leave gradients. Those of parameters are F32, owned by a frame of this object's own, and add up
 * over as many backward passes as are run into it; those of everything in between live in the frame of the tape that is
 * being walked and are given back as soon as they have been used. A frozen tensor never has one.
 */
public final class Gradients implements AutoCloseable {
    /**
     * The gradient of a table of which few rows were used: row {@code slots.get(id)} of {@code rows} belongs to row
     * {@code id} of the table.
     *
     * @param rows [slots, cols] F32
     */
    public record RowGradient(Map<Integer, Integer> slots, Tensor rows) {}

    private final Frame frame;
    private final Map<Object, Tensor> parameters = new IdentityHashMap<>();
    private final Map<Object, Tensor> dense = new IdentityHashMap<>();
    private final Map<Object, RowGradient> rowSparse = new IdentityHashMap<>();
    private final Deque<Scope> scopes = new ArrayDeque<>();
    private Object seed; // identity of the 1 that the walk began with; null before the first walk

    /** One tape being walked: which of its tensors are tracked, and the gradients that are waiting to be used. */
    private static final class Scope {
        final Tape tape;
        final Map<Object, Tensor> pending = new IdentityHashMap<>();
        Object taken; // identity of the gradient that the op under way has and may pass on; null once it has

        Scope(Tape tape) {
            this.tape = tape;
        }
    }

    /**
     * @param around frame that outlives every backward pass into this object
     * @param parameters the tensors that are trained
     */
    public Gradients(Frame around, List<Tensor> parameters) {
        this.frame = around.child("gradients");
        for (Tensor parameter : parameters) {
            this.parameters.put(parameter.identity(), parameter);
        }
    }

    /** Whether anything comes of computing this tensor's gradient. */
    public boolean wants(Tensor x) {
        return !x.isNone()
                && (parameters.containsKey(x.identity())
                        || (!scopes.isEmpty() && scopes.peek().tape.isTracked(x)));
    }

    /**
     * Adds {@code dx} to the gradient of {@code x}; {@link Tensor#NONE} and gradients nobody wants are ignored. The
     * memory of dx passes to this object unless it is a gradient already, which is copied; but the gradient of its output
     * an op may pass on once, as the last that it does with it.
     *
     * @throws IllegalArgumentException where x is a slice or the lengths differ
     */
    public void add(Tensor x, Tensor dx) {
        if (dx.isNone() || !wants(x)) {
            return;
        }
        if (!x.isWhole() || dx.elements() != x.elements()) {
            throw new IllegalArgumentException(
                    "[gradient] of " + x.describe() + (x.isWhole() ? "" : " (a slice)") + " is " + dx.describe());
        }
        boolean parameter = parameters.containsKey(x.identity());
        if (parameter && rowSparse.containsKey(x.identity())) {
            throw new IllegalStateException("[gradient] " + x.describe() + " has a row-sparse gradient already");
        }
        Map<Object, Tensor> gradients = parameter ? dense : scopes.peek().pending;
        Frame owner = parameter ? frame : scopes.peek().tape.frame();
        DType dtype = parameter ? DType.F32 : x.dtype();
        Tensor sum = gradients.get(x.identity());
        if (sum != null && sum.identity() == dx.identity()) {
            owner.kernels().convert(sum, sum, 2); // of x + x
        } else if (sum != null) {
            owner.kernels().accumulate(sum, dx);
        } else if (dx.dtype() == dtype && dx.isWhole() && (isPassedOn(dx) || !isPending(dx))) {
            owner.adopt(dx);
            gradients.put(x.identity(), dx);
        } else {
            Tensor copy = owner.empty(dtype, x.shape());
            owner.kernels().convert(copy, dx, 1);
            gradients.put(x.identity(), copy);
        }
    }

    /**
     * The gradient that x has so far, in its shape, for ops that add theirs in place; {@link Tensor#NONE} where it has none,
     * or is a parameter.
     */
    public Tensor waiting(Tensor x) {
        if (x.isNone() || !x.isWhole() || parameters.containsKey(x.identity()) || scopes.isEmpty()) {
            return Tensor.NONE;
        }
        Tensor sum = scopes.peek().pending.get(x.identity());
        return sum == null ? Tensor.NONE : sum.reshape(x.shape().toArray());
    }

    /**
     * The F32 gradient of a parameter, for ops that add up in place what would be too large to hold twice.
     *
     * @param isBegun whether there is something to add to; else the content of the sum is unspecified, to be overwritten
     */
    public record Accumulator(Tensor sum, boolean isBegun) {}

    /** Where an op is to leave the gradient of a parameter, all of it. */
    public Accumulator accumulator(Tensor parameter) {
        if (!parameters.containsKey(parameter.identity())) {
            throw new IllegalArgumentException("[gradient] " + parameter.describe() + " is not trained");
        }
        Tensor sum = dense.get(parameter.identity());
        if (sum != null) {
            return new Accumulator(sum, true);
        }
        Tensor fresh = frame.empty(DType.F32, parameter.shape());
        dense.put(parameter.identity(), fresh);
        return new Accumulator(fresh, false);
    }

    /**
     * Adds the gradient of the given rows of a table: {@code dy[t] * scale} to row {@code ids[t]}; a negative id is
     * skipped.
     */
    public void addRows(Tensor table, int[] ids, Tensor dy, float scale) {
        if (!wants(table)) {
            return;
        }
        RowGradient before = rowSparse.get(table.identity());
        Map<Integer, Integer> slots = before == null ? new LinkedHashMap<>() : new LinkedHashMap<>(before.slots());
        int[] slot = new int[ids.length];
        for (int t = 0; t < ids.length; t++) {
            slot[t] = ids[t] < 0 ? -1 : slotOf(slots, ids[t]);
        }
        Tensor rows = frame.zeros(DType.F32, slots.size(), table.last());
        if (before != null && !before.slots().isEmpty()) {
            frame.kernels().accumulate(rows.slice(0, before.slots().size()), before.rows());
        }
        try (Frame scratch = frame.child("rows")) {
            frame.kernels().embeddingBackward(rows, dy, scratch.of(slot, slot.length), scale);
        }
        if (before != null) {
            frame.release(before.rows());
        }
        rowSparse.put(table.identity(), new RowGradient(slots, rows));
    }

    private static int slotOf(Map<Integer, Integer> slots, int id) {
        Integer slot = slots.get(id);
        if (slot == null) {
            slot = slots.size();
            slots.put(id, slot);
        }
        return slot;
    }

    /** F32 gradient of a parameter, in its shape; {@link Tensor#NONE} where no backward pass reached it. */
    public Tensor of(Tensor parameter) {
        return dense.getOrDefault(parameter.identity(), Tensor.NONE);
    }

    /** Row-sparse gradient of a table; without rows where no backward pass reached it. */
    public RowGradient rowsOf(Tensor table) {
        return rowSparse.getOrDefault(table.identity(), new RowGradient(Map.of(), Tensor.NONE));
    }

    /** Gives every gradient back. */
    @Override
    public void close() {
        frame.close();
        dense.clear();
        rowSparse.clear();
    }

    /** Whether {@code dy} is the 1 that the walk under way began with, which a device need not be asked for. */
    public boolean isSeed(Tensor dy) {
        return !dy.isNone() && dy.identity() == seed;
    }

    // ---- for the tape --------------------------------------------------------------------------------------------

    void startFrom(Tensor one) {
        seed = one.identity();
    }

    void push(Tape tape) {
        scopes.push(new Scope(tape));
    }

    /** Leaves the innermost tape; gradients nobody took stay in the tape's frame. */
    void pop() {
        scopes.pop();
    }

    /** Takes the gradient waiting for x out, {@link Tensor#NONE} where there is none. */
    Tensor take(Tensor x) {
        Tensor dx = scopes.peek().pending.remove(x.identity());
        scopes.peek().taken = dx == null ? null : dx.identity();
        return dx == null ? Tensor.NONE : dx.reshape(x.shape().toArray());
    }

    /** Whether nobody passed on what was {@link #take taken} last. */
    boolean isUnused() {
        return scopes.peek().taken != null;
    }

    /** Whether dx is what an op under way has taken; it cannot be passed on again. */
    private boolean isPassedOn(Tensor dx) {
        for (Scope scope : scopes) {
            if (scope.taken == dx.identity()) {
                scope.taken = null;
                seed = dx.identity() == seed ? null : seed; // other gradients may now be added to it
                return true;
            }
        }
        return false;
    }

    private boolean isPending(Tensor dx) {
        // What a tape's own frame or this object's frame owns is in use as a gradient already.
        if (frame.owns(dx)) {
            return true;
        }
        for (Scope scope : scopes) {
            if (scope.tape.frame().owns(dx)) {
                return true;
            }
        }
        return false;
    }

    /** Snapshot of the parameters that have a gradient of either form, for tests and norms. */
    public Map<Tensor, Tensor> all() {
        Map<Tensor, Tensor> all = new HashMap<>();
        dense.forEach((id, gradient) -> all.put(parameters.get(id), gradient));
        rowSparse.forEach((id, gradient) -> all.put(parameters.get(id), gradient.rows()));
        return all;
    }
}
