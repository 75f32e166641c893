package lapidary.gemma3;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import lapidary.device.DType;
import lapidary.device.DryDevice;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.format.TensorEntry;
import lapidary.quant.BitsAndBytes;
import lapidary.quant.DenseWeight;
import lapidary.quant.LinearWeight;
import lapidary.quant.Nf4Quantizer;
import lapidary.quant.Nf4Tensor;
import lapidary.quant.QuantStorage;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/**
 * A checkpoint's tensors by their names in memory, in one compute dtype. A tensor that is stored in that dtype is used
 * where the file is mapped, without a copy; another one is converted once. Matrices of linear layers may be stored in NF4,
 * or become it here.
 */
final class Weights {
    /** What checkpoints may hold and Gemma 3 never reads. */
    private static final String POOLING_HEAD = "model.vision_tower.head.";

    /** Values in F16 that are widened at once: 16 MiB of F32. */
    private static final int HALVES_TOGETHER = 1 << 22;

    private final Checkpoint checkpoint; // null where there are shapes alone
    private final StoredAs storedAs; // in place of a checkpoint
    private final Frame frame;
    private final DType dtype;
    private final BitsAndBytes quantized;
    private final Nf4Quantizer quantizer; // null where nothing is quantised here
    private final Nf4Options options; // with what is to be skipped; null where nothing was said
    private final Map<String, String> stored = new HashMap<>();
    private final Map<String, Tensor> loaded = new HashMap<>();
    private final Map<String, Nf4Tensor> nf4 = new HashMap<>();
    private final Set<String> used = new HashSet<>();
    private boolean foundQuantized;
    private long mappedBytes;

    /**
     * How the tensors of a checkpoint lie that is not opened.
     *
     * @param dtype of its tensors, the format's word
     * @param hasHead whether the output head is stored, and not the embedding in its place
     */
    record StoredAs(String dtype, boolean hasHead) {}

    /** Weights of which only the shapes are known, for a device that computes nothing: every name is there. */
    Weights(StoredAs storedAs, Frame frame, Precision precision) {
        this.checkpoint = null;
        this.storedAs = storedAs;
        this.frame = frame;
        this.dtype = precision.dtype();
        this.quantized = null;
        this.options = precision.nf4();
        this.quantizer = options == null ? null : new Nf4Quantizer(frame, dtype, options.doubleQuant());
    }

    /**
     * @param frame owns the weights; the checkpoint must stay open for as long
     * @param isQuantized whether the checkpoint holds NF4 already: what it left out stays so
     * @throws FormatException where two tensors of the checkpoint mean the same weight
     */
    Weights(Checkpoint checkpoint, Frame frame, Precision precision, boolean isQuantized) {
        this.checkpoint = checkpoint;
        this.storedAs = null;
        this.frame = frame;
        this.dtype = precision.dtype();
        this.quantized = new BitsAndBytes(checkpoint, frame);
        this.options = precision.nf4();
        this.quantizer = options == null || isQuantized ? null : new Nf4Quantizer(frame, dtype, options.doubleQuant());
        for (String name : checkpoint.names()) {
            String before = stored.put(WeightNames.inMemory(name), name);
            if (before != null) {
                throw new FormatException("checkpoint " + checkpoint.folder() + ": " + before + " and " + name
                        + " are the same weight under two names");
            }
        }
    }

    /** Of weights that are not quantised, and of activations. */
    DType dtype() {
        return dtype;
    }

    boolean has(String name) {
        return checkpoint == null ? !name.equals("lm_head.weight") || storedAs.hasHead() : stored.containsKey(name);
    }

    /** The tensor of that name in memory. @throws FormatException where it is missing or has another shape */
    Tensor get(String name, long... shape) {
        used.add(name);
        Tensor before = loaded.get(name);
        if (before != null) {
            return before;
        }
        TensorEntry entry = entry(name, shape);
        if (isQuantized(entry)) {
            throw entry.error(
                    "is quantised, expected a plain tensor: this engine reads linear layers of decoder and vision"
                            + " tower in NF4, nothing else");
        }
        requireShape(entry, shape);
        Tensor tensor = load(entry, Shape.of(shape));
        loaded.put(name, tensor);
        mappedBytes += isMapped(entry) ? tensor.bytes() : 0;
        return tensor;
    }

    private boolean isMapped(TensorEntry entry) {
        return entry.dtype().equals(dtype.name()) && frame.device().borrows(entry.data());
    }

    /** Bytes of the tensors that are used where their files are mapped. */
    long mappedBytes() {
        return mappedBytes;
    }

    /**
     * Gives back a tensor that was got and copied, and that nobody else has: device memory, or pages of the file that were
     * read for it.
     */
    void drop(String name) {
        Tensor tensor = loaded.remove(name);
        TensorEntry entry = entry(name, tensor.shape().toArray());
        mappedBytes -= isMapped(entry) ? tensor.bytes() : 0;
        frame.release(tensor);
        if (entry.data().isMapped()) {
            entry.data().unload();
        }
    }

    /**
     * The kernel of a convolution as a matrix.
     *
     * @return [out, channels * side * side] of what is stored as [out, channels, side, side]
     * @throws FormatException where it is missing or has another shape
     */
    Tensor convolution(String name, long out, long channels, long side) {
        Tensor kernel = get(name, out, channels, side, side);
        return kernel.reshape(out, channels * side * side);
    }

    /**
     * The matrix of a linear layer: in NF4 where the checkpoint stores it so or where it is to be quantised, else a tensor.
     *
     * @param module name of the layer in memory
     * @throws FormatException where it is missing, has another shape, or is not what its format says
     */
    LinearWeight linear(String module, long out, long in) {
        String name = module + ".weight";
        Nf4Tensor before = nf4.get(name);
        if (before != null) {
            return before;
        }
        TensorEntry entry = entry(name, out, in);
        if (isQuantized(entry)) {
            if (isSkipped(module)) {
                throw new IllegalArgumentException("--llm_int8_skip_modules names " + module
                        + ", which this checkpoint stores in NF4; give the unquantised checkpoint");
            }
            foundQuantized = true;
            used.add(name);
            BitsAndBytes.companions(checkpoint, entry.name()).forEach(key -> used.add(WeightNames.inMemory(key)));
            return keep(name, quantized.read(entry.name(), out, in));
        }
        if (quantizer == null || isSkipped(module)) {
            return new DenseWeight(get(name, out, in));
        }
        used.add(name);
        requireShape(entry, out, in);
        return keep(name, quantizer.quantize(entry));
    }

    private Nf4Tensor keep(String name, Nf4Tensor w) {
        nf4.put(name, w);
        return w;
    }

    /** The checkpoint's own names, in the order of its files. */
    Set<String> keys() {
        return checkpoint.names();
    }

    /** Names in memory of the matrices that are in NF4. */
    Set<String> quantizedNames() {
        return Set.copyOf(nf4.keySet());
    }

    /**
     * What a tensor of the checkpoint has become, to be written under its own name: several tensors for a matrix in NF4.
     * They must be written while the model is open.
     */
    List<Item> items(String key, QuantStorage storage) {
        String name = WeightNames.inMemory(key);
        if (nf4.containsKey(name)) {
            return BitsAndBytes.items(key, nf4.get(name), dtype, storage);
        }
        TensorEntry entry = checkpoint.entry(key);
        Tensor tensor = loaded.get(name);
        return List.of(
                tensor == null // of no part of the model
                        ? Item.of(key, entry.dtype(), entry.shape(), entry.data())
                        : new Item(key, tensor.dtype().name(), entry.shape(), tensor::toHost));
    }

    /** Whether a matrix was stored quantised. */
    boolean foundQuantized() {
        return foundQuantized;
    }

    /**
     * @throws IllegalArgumentException where a module to skip matches no linear layer, listing those there are
     */
    void requireSkipsMatched(List<String> linears) {
        for (String skip : options == null ? List.<String>of() : options.skipModules()) {
            if (!skip.equals("lm_head") && linears.stream().noneMatch(module -> Nf4Options.matches(skip, module))) {
                throw new IllegalArgumentException("--llm_int8_skip_modules " + skip
                        + " matches no linear layer of this model; their names are like " + linears.get(0));
            }
        }
    }

    private boolean isSkipped(String module) {
        return options != null && !options.quantizes(module);
    }

    private boolean isQuantized(TensorEntry entry) {
        return checkpoint != null && BitsAndBytes.isQuantized(checkpoint, entry.name());
    }

    /** @param shape for a tensor of which nothing else is known */
    private TensorEntry entry(String name, long... shape) {
        if (checkpoint == null) {
            long bytes = Shape.of(shape).elements() * (storedAs.dtype().equals("F32") ? 4 : 2);
            return new TensorEntry(name, storedAs.dtype(), shape, DryDevice.unknown(bytes), Path.of("config.json"));
        }
        String key = stored.get(name);
        if (key == null) {
            throw new FormatException("checkpoint " + checkpoint.folder() + ": tensor " + name + " is missing");
        }
        return checkpoint.entry(key);
    }

    private static void requireShape(TensorEntry entry, long... shape) {
        if (!Arrays.equals(entry.shape(), shape)) {
            throw new FormatException(entry.file() + ": tensor " + entry.name() + " is "
                    + Arrays.toString(entry.shape()) + ", expected " + Arrays.toString(shape) + " from config.json");
        }
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
        fromHalf(converted, data, 1, frame);
        return converted;
    }

    /** Values in F16, which no kernel reads, times a factor into a tensor of another dtype; a piece at a time. */
    static void fromHalf(Tensor to, MemorySegment data, float factor, Frame scratchAround) {
        Tensor flat = to.reshape(to.shape().elements());
        long elements = to.shape().elements();
        for (long from = 0; from < elements; from += HALVES_TOGETHER) {
            int n = (int) Math.min(HALVES_TOGETHER, elements - from);
            float[] values = new float[n];
            for (int i = 0; i < n; i++) {
                values[i] = Float.float16ToFloat(data.getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, from + i));
            }
            try (Frame scratch = scratchAround.child("convert")) {
                scratch.kernels().convert(flat.slice(from, from + n), scratch.of(values, n), factor);
            }
        }
    }
}
