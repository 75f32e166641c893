package lapidary.optim;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;
import lapidary.device.Device;
import lapidary.format.Safetensors;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.format.TensorEntry;
import lapidary.tensor.Tensor;

/**
 * How a rule's state lies in a safetensors file: {@code <parameter>.step} (I32 [1]), {@code <parameter>.<name>} for each
 * tensor, and for a table of which only some rows have moments {@code <parameter>.rows} (I32, ascending) beside moments
 * of just those rows.
 */
final class OptimizerState {
    private static final String STEP = ".step";
    private static final String ROWS = ".rows";
    private static final long PIECE = 64L << 20; // bytes copied from a device at a time

    private OptimizerState() {}

    static List<Item> items(String parameter, RuleState state) {
        List<Item> items = new ArrayList<>();
        items.add(ints(parameter + STEP, state.steps()));
        state.whole().forEach((name, tensor) -> items.add(whole(parameter + "." + name, tensor)));
        int[] rows = state.rows();
        if (rows == null) {
            state.byRow().forEach((name, tensor) -> items.add(whole(parameter + "." + name, tensor)));
            return items;
        }
        items.add(ints(parameter + ROWS, rows));
        state.byRow()
                .forEach((name, tensor) -> items.add(new Item(
                        parameter + "." + name, tensor.dtype().name(), new long[] {rows.length, tensor.last()}, out -> {
                            for (int row : rows) {
                                out.accept(tensor.slice(row, row + 1).toHost());
                            }
                        })));
        return items;
    }

    private static Item ints(String name, int... values) {
        return Item.of(name, "I32", new long[] {values.length}, MemorySegment.ofArray(values));
    }

    private static Item whole(String name, Tensor tensor) {
        return new Item(name, tensor.dtype().name(), tensor.shape().toArray(), out -> inPieces(tensor, out));
    }

    private static void inPieces(Tensor tensor, Consumer<MemorySegment> out) {
        Tensor flat = tensor.reshape(tensor.elements());
        long each = PIECE / tensor.dtype().bytes();
        for (long from = 0; from < flat.elements(); from += each) {
            out.accept(flat.slice(from, Math.min(flat.elements(), from + each)).toHost());
        }
    }

    /**
     * @param unused names of the file that nothing has asked for yet; those of this parameter are taken out
     * @throws lapidary.format.FormatException where one is missing, or of another shape or dtype
     */
    static void check(Safetensors file, String parameter, Tensor value, RuleState state, Set<String> unused) {
        Map<String, long[]> shapes = new TreeMap<>();
        Map<String, String> dtypes = new TreeMap<>();
        shapes.put(parameter + STEP, new long[] {1});
        dtypes.put(parameter + STEP, "I32");
        state.whole().forEach((name, tensor) -> {
            shapes.put(parameter + "." + name, tensor.shape().toArray());
            dtypes.put(parameter + "." + name, tensor.dtype().name());
        });
        boolean sparse = file.names().contains(parameter + ROWS);
        if (sparse && !state.byRow().isEmpty()) {
            TensorEntry entry = file.entry(parameter + ROWS);
            if (entry.shape().length != 1 || !entry.dtype().equals("I32")) {
                throw entry.error("expected I32 [rows]");
            }
            int before = -1;
            for (int row : ints(entry)) {
                if (row <= before || row >= value.rows()) {
                    throw entry.error("row " + row + " after " + before + ", expected ascending below " + value.rows());
                }
                before = row;
            }
            unused.remove(parameter + ROWS);
        }
        state.byRow().forEach((name, tensor) -> {
            long[] shape = tensor.shape().toArray();
            shapes.put(
                    parameter + "." + name,
                    sparse ? new long[] {file.entry(parameter + ROWS).shape()[0], tensor.last()} : shape);
            dtypes.put(parameter + "." + name, tensor.dtype().name());
        });
        shapes.forEach((name, shape) -> {
            TensorEntry entry = file.entry(name);
            if (!Arrays.equals(entry.shape(), shape) || !entry.dtype().equals(dtypes.get(name))) {
                throw entry.error("is " + entry.dtype() + " " + Arrays.toString(entry.shape()) + ", this run expects "
                        + dtypes.get(name) + " " + Arrays.toString(shape) + "; the checkpoint is of another");
            }
            unused.remove(name);
        });
    }

    /** Takes up what {@link #check} has found good. */
    static void restore(Safetensors file, String parameter, Rule rule, Device device) {
        RuleState state = rule.state();
        state.whole().forEach((name, tensor) -> copyIn(device, tensor, file.entry(parameter + "." + name)));
        int[] rows = file.names().contains(parameter + ROWS) ? ints(file.entry(parameter + ROWS)) : null;
        state.byRow().forEach((name, tensor) -> {
            TensorEntry entry = file.entry(parameter + "." + name);
            if (rows == null) {
                copyIn(device, tensor, entry);
                return;
            }
            long length = tensor.last() * tensor.dtype().bytes();
            for (int i = 0; i < rows.length; i++) {
                device.copyIn(
                        tensor.slice(rows[i], rows[i] + 1).segment(),
                        entry.data().asSlice(i * length, length));
            }
        });
        rule.restore(ints(file.entry(parameter + STEP))[0], rows);
    }

    private static void copyIn(Device device, Tensor tensor, TensorEntry entry) {
        device.copyIn(tensor.segment(), entry.data());
    }

    private static int[] ints(TensorEntry entry) {
        int[] values = new int[Math.toIntExact(entry.elements())];
        for (int i = 0; i < values.length; i++) {
            values[i] = entry.data().getAtIndex(ValueLayout.JAVA_INT_UNALIGNED, i);
        }
        return values;
    }
}
