package lapidary.gemma3;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import lapidary.device.DType;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.TensorEntry;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/**
 * A checkpoint's tensors by their names in memory, in one compute dtype. A tensor that is stored in that dtype is used
 * where the file is mapped, without a copy; another one is converted once.
 */
final class Weights {
    /** What checkpoints may hold and Gemma 3 never reads. */
    private static final String POOLING_HEAD = "model.vision_tower.head.";

    private final Checkpoint checkpoint;
    private final Frame frame;
    private final DType dtype;
    private final Map<String, String> stored = new HashMap<>();
    private final Map<String, Tensor> loaded = new HashMap<>();
    private final Set<String> used = new HashSet<>();

    /**
     * @param frame owns the weights; the checkpoint must stay open for as long
     * @throws FormatException where two tensors of the checkpoint mean the same weight
     */
    Weights(Checkpoint checkpoint, Frame frame, DType dtype) {
        this.checkpoint = checkpoint;
        this.frame = frame;
        this.dtype = dtype;
        for (String name : checkpoint.names()) {
            String before = stored.put(WeightNames.inMemory(name), name);
            if (before != null) {
                throw new FormatException("checkpoint " + checkpoint.folder() + ": " + before + " and " + name
                        + " are the same weight under two names");
            }
        }
    }

    boolean has(String name) {
        return stored.containsKey(name);
    }

    /** The tensor of that name in memory. @throws FormatException where it is missing or has another shape */
    Tensor get(String name, long... shape) {
        used.add(name);
        Tensor before = loaded.get(name);
        if (before != null) {
            return before;
        }
        String key = stored.get(name);
        if (key == null) {
            throw new FormatException("checkpoint " + checkpoint.folder() + ": tensor " + name + " is missing");
        }
        TensorEntry entry = checkpoint.entry(key);
        if (!Arrays.equals(entry.shape(), shape) && !flattens(entry.shape(), shape)) {
            throw new FormatException(entry.file() + ": tensor " + key + " is " + Arrays.toString(entry.shape())
                    + ", expected " + Arrays.toString(shape) + " from config.json");
        }
        Tensor tensor = load(entry, Shape.of(shape));
        loaded.put(name, tensor);
        return tensor;
    }

    /** @throws FormatException naming tensors that no part of the model asked for */
    void refuseUnused() {
        Set<String> unused = new TreeSet<>(stored.keySet());
        unused.removeAll(used);
        unused.removeIf(name -> name.startsWith(POOLING_HEAD));
        if (!unused.isEmpty()) {
            throw new FormatException("checkpoint " + checkpoint.folder() + ": " + unused.size()
                    + " tensors belong to no part of the model in config.json, the first is "
                    + unused.iterator().next());
        }
    }

    /** A convolution's [out, channels, p, p] is read as [out, channels * p * p]. */
    private static boolean flattens(long[] stored, long[] shape) {
        return stored.length == 4
                && shape.length == 2
                && stored[0] == shape[0]
                && stored[1] * stored[2] * stored[3] == shape[1];
    }

    private Tensor load(TensorEntry entry, Shape shape) {
        switch (entry.dtype()) {
            case "BF16":
                return convert(frame, entry.data(), DType.BF16, shape);
            case "F32":
                return convert(frame, entry.data(), DType.F32, shape);
            case "F16":
                return fromHalf(entry.data(), shape);
            default:
                throw new FormatException(entry.file() + ": tensor " + entry.name() + " is " + entry.dtype()
                        + ", expected BF16, F16 or F32");
        }
    }

    private Tensor convert(Frame owner, MemorySegment data, DType from, Shape shape) {
        if (from == dtype) {
            return owner.borrow(data, from, shape);
        }
        Tensor converted = owner.empty(dtype, shape);
        try (Frame scratch = owner.child("convert")) {
            scratch.kernels().convert(converted, scratch.borrow(data, from, shape), 1);
        }
        return converted;
    }

    private Tensor fromHalf(MemorySegment data, Shape shape) {
        Tensor converted = frame.empty(dtype, shape);
        int rows =
                (int) Math.max(1, Math.min(shape.elements() / Math.max(1, shape.last()), (1 << 22) / shape.last() + 1));
        long step = rows * shape.last();
        Tensor flat = converted.reshape(shape.elements());
        for (long from = 0; from < shape.elements(); from += step) {
            int n = (int) Math.min(step, shape.elements() - from);
            float[] values = new float[n];
            for (int i = 0; i < n; i++) {
                values[i] = Float.float16ToFloat(data.getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, from + i));
            }
            try (Frame scratch = frame.child("convert")) {
                frame.kernels().convert(flat.slice(from, from + n), scratch.of(values, n), 1);
            }
        }
        return converted;
    }
}
