package lapidary.export;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeSet;
import java.util.function.Consumer;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.TensorEntry;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Gemma3Config;
import lapidary.gemma3.Nf4Options;
import lapidary.gemma3.PeftAdapter;
import lapidary.gemma3.WeightNames;
import lapidary.quant.BitsAndBytes;
import lapidary.quant.Nf4Quantizer;
import lapidary.quant.Nf4Tensor;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/**
 * The weights of a checkpoint with an adapter merged in, each made when it is asked for and a piece at a time: no more than
 * one matrix of a linear layer is ever held.
 *
 * <p>A layer's matrix becomes {@code W + scaling B A}, in F32, rounded once. Tables that the adapter trained whole take the
 * place of the checkpoint's. The output head is the embedding's only where both are the same to the bit.
 */
final class MergedWeights implements AutoCloseable {
    /** Values handed on at once: 16 MiB of F32. */
    private static final long PIECE = 1 << 22;

    /** What checkpoints may hold and Gemma 3 never reads. */
    private static final String POOLING_HEAD = "model.vision_tower.head.";

    private final Path folder;
    private final Gemma3Config config;
    private final Checkpoint checkpoint;
    private final PeftAdapter adapter; // null for none
    private final Frame frame;
    private final Nf4Options nf4; // null where nothing is quantised on the way
    private final Map<String, TensorEntry> stored = new LinkedHashMap<>(); // of the base, by names in memory
    private final Map<String, PeftAdapter.Pair> pairs = new LinkedHashMap<>(); // by names of weights
    private final Map<String, TensorEntry> saved = new LinkedHashMap<>(); // by names of weights
    private final List<ModelTensor> tensors = new ArrayList<>();
    private final boolean tied;

    private MergedWeights(Path folder, PeftAdapter adapter, Device device, Nf4Options nf4) {
        this.folder = folder;
        this.config = Gemma3.readConfig(folder);
        this.adapter = adapter;
        // As when it is loaded: what a checkpoint in NF4 left out stays so.
        this.nf4 = config.isQuantized() ? null : nf4;
        this.checkpoint = Checkpoint.open(folder);
        this.frame = Frame.root(device, "weights");
        try {
            readBase();
            if (adapter != null) {
                readAdapter();
            }
            this.tied = decideHead();
        } catch (RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    /**
     * Checks that base and adapter belong together; weights are read later.
     *
     * @param adapter what to merge, or null; stays open for as long
     * @param nf4 how the base's linear layers are to be quantised and dequantised before the adapter is added, which makes
     *     them what a run in NF4 trained beside; null to take them as they are stored
     * @throws FormatException where a file is malformed, or the adapter is one of another base
     */
    static MergedWeights open(Path folder, PeftAdapter adapter, Device device, Nf4Options nf4) {
        return new MergedWeights(folder, adapter, device, nf4);
    }

    // ---- what there is -------------------------------------------------------------------------------------------

    private void readBase() {
        Map<String, TensorEntry> all = new LinkedHashMap<>();
        for (String key : checkpoint.names()) {
            TensorEntry before = all.put(WeightNames.inMemory(key), checkpoint.entry(key));
            if (before != null) {
                throw new FormatException("checkpoint " + folder + ": " + before.name() + " and " + key
                        + " are the same weight under two names");
            }
        }
        TreeSet<String> left = new TreeSet<>(all.keySet());
        for (ModelTensor tensor : ModelTensor.of(config)) {
            take(tensor, all, left);
        }
        if (all.containsKey(ModelTensor.HEAD)) {
            take(head(), all, left);
        } else if (!config.text().tieWordEmbeddings()) {
            throw new FormatException("checkpoint " + folder + ": tensor lm_head.weight is missing, but config.json has"
                    + " tie_word_embeddings false; fetch config.json and the weights again from one revision");
        }
        left.removeIf(name -> name.startsWith(POOLING_HEAD));
        if (!left.isEmpty()) {
            throw new FormatException("checkpoint " + folder + ": " + left.size()
                    + " tensors belong to no part of the model in config.json, the first is " + left.first());
        }
    }

    private ModelTensor head() {
        return new ModelTensor(
                ModelTensor.HEAD,
                List.of((long) config.text().vocabSize(), (long) config.text().hiddenSize()),
                false);
    }

    private void take(ModelTensor tensor, Map<String, TensorEntry> all, TreeSet<String> left) {
        TensorEntry entry = all.get(tensor.name());
        if (entry == null) {
            throw new FormatException("checkpoint " + folder + ": tensor " + tensor.name() + " is missing");
        }
        left.remove(tensor.name());
        if (BitsAndBytes.isQuantized(checkpoint, entry.name())) {
            if (!tensor.linear()) {
                throw entry.error("is quantised, expected a plain tensor: only linear layers are read in NF4");
            }
            BitsAndBytes.companions(checkpoint, entry.name()).forEach(key -> left.remove(WeightNames.inMemory(key)));
        } else {
            requireFloats(entry);
            requireShape(entry, tensor, "config.json");
        }
        stored.put(tensor.name(), entry);
        tensors.add(tensor);
    }

    private void requireShape(TensorEntry entry, ModelTensor tensor, String source) {
        if (!Arrays.equals(entry.shape(), tensor.axes())) {
            throw entry.error("expected " + tensor.shape() + " from " + source);
        }
    }

    private static void requireFloats(TensorEntry entry) {
        if (!List.of("BF16", "F16", "F32").contains(entry.dtype())) {
            throw entry.error("expected BF16, F16 or F32");
        }
    }

    private void readAdapter() {
        Map<String, ModelTensor> byName = new LinkedHashMap<>();
        tensors.forEach(tensor -> byName.put(tensor.name(), tensor));
        for (PeftAdapter.Pair pair : adapter.pairs()) {
            ModelTensor tensor = byName.get(pair.module() + ".weight");
            if (tensor == null || !tensor.linear()) {
                throw otherBase("it has an adapter on " + pair.module() + ", which is no linear layer of this base");
            }
            long out = pair.b().shape()[0];
            long in = pair.a().shape()[1];
            if (!tensor.shape().equals(List.of(out, in))) {
                throw otherBase("its factors on " + pair.module() + " make a matrix [" + out + ", " + in
                        + "], the base's is " + tensor.shape());
            }
            requireFinite(pair.a());
            requireFinite(pair.b());
            pairs.put(tensor.name(), pair);
        }
        adapter.saved().forEach((module, entry) -> {
            String name = module + ".weight";
            ModelTensor tensor = name.equals(ModelTensor.HEAD) ? head() : byName.get(name);
            if (tensor == null || !(name.equals(ModelTensor.HEAD) || name.equals(ModelTensor.embedding(config)))) {
                throw otherBase(
                        "it trained " + module + " whole, which is neither lm_head nor embed_tokens of this base");
            }
            requireFloats(entry);
            if (!Arrays.equals(entry.shape(), tensor.axes())) {
                throw otherBase("its " + module + " is " + Arrays.toString(entry.shape()) + ", the base's "
                        + tensor.shape() + " (another vocabulary, or another size of the model)");
            }
            requireFinite(entry);
            saved.put(name, entry);
        });
    }

    private FormatException otherBase(String why) {
        return new FormatException("the adapter in " + adapter.directory() + " does not belong to " + folder + ": "
                + why + "; give the base that it was trained on");
    }

    private void requireFinite(TensorEntry entry) {
        try (Frame scratch = frame.child("finite")) {
            for (long from = 0; from < entry.elements(); from += PIECE) {
                try (Frame piece = scratch.child("piece")) {
                    long to = Math.min(entry.elements(), from + PIECE);
                    if (!isFinite(values(piece, entry, from, Shape.of(to - from)), piece)) {
                        throw entry.error("holds values that are not finite (or beyond 1e19): its training broke"
                                + " down; take an earlier checkpoint of the run");
                    }
                }
            }
        }
    }

    private static boolean isFinite(Tensor x, Frame frame) {
        Tensor squares = frame.zeros(DType.F32, 1);
        frame.kernels().sumSquares(squares, List.of(x));
        return Float.isFinite(squares.item());
    }

    /** Whether head and embedding are one table; lists the head where they are not. */
    private boolean decideHead() {
        TensorEntry embedding = source(ModelTensor.embedding(config));
        boolean own = stored.containsKey(ModelTensor.HEAD) || saved.containsKey(ModelTensor.HEAD);
        TensorEntry head = own ? source(ModelTensor.HEAD) : stored.get(ModelTensor.embedding(config));
        boolean same = head == embedding
                || head.dtype().equals(embedding.dtype()) && head.data().mismatch(embedding.data()) < 0;
        tensors.removeIf(tensor -> tensor.name().equals(ModelTensor.HEAD));
        if (!same) {
            tensors.add(head());
            if (!own) {
                stored.put(ModelTensor.HEAD, head); // the base's embedding, which the adapter's took the place of
            }
        }
        return same;
    }

    private TensorEntry source(String name) {
        return saved.containsKey(name) ? saved.get(name) : stored.get(name);
    }

    Path folder() {
        return folder;
    }

    Gemma3Config config() {
        return config;
    }

    /** All weights; among them lm_head.weight unless it is the embedding. */
    List<ModelTensor> tensors() {
        return List.copyOf(tensors);
    }

    /** Whether the output head is the embedding. */
    boolean isTied() {
        return tied;
    }

    /** Whether the adapter trained that weight whole. */
    boolean isSaved(String name) {
        return saved.containsKey(name);
    }

    /** Whether the base had a head of its own. */
    boolean hadHead() {
        return checkpoint.names().stream()
                .anyMatch(key -> WeightNames.inMemory(key).equals(ModelTensor.HEAD));
    }

    /** A line for people where the adapter names another base. */
    Optional<String> otherName() {
        return adapter == null ? Optional.empty() : BaseName.note(adapter.baseModel(), folder);
    }

    /** Linear layers that the adapter changes. */
    int mergedLayers() {
        return pairs.size();
    }

    /** Linear layers whose weights come out of NF4. */
    int dequantizedLayers() {
        return (int) tensors.stream().filter(this::isNf4).count();
    }

    /** Dtypes that the base's weights are stored in, NF4 among them. */
    List<String> storedDtypes() {
        TreeSet<String> dtypes = new TreeSet<>();
        for (TensorEntry entry : stored.values()) {
            dtypes.add(BitsAndBytes.isQuantized(checkpoint, entry.name()) ? "NF4" : entry.dtype());
        }
        return List.copyOf(dtypes);
    }

    private boolean isNf4(ModelTensor tensor) {
        if (!tensor.linear()) {
            return false;
        }
        return BitsAndBytes.isQuantized(checkpoint, stored.get(tensor.name()).name())
                || nf4 != null && nf4.quantizes(tensor.module());
    }

    // ---- values --------------------------------------------------------------------------------------------------

    /**
     * Hands a weight on in rows of its first axis, in order: [rows, rest], or [n] of one axis.
     *
     * @param dtype F32 or BF16; a weight stored in NF4 is dequantised to it
     * @param sink must not keep what it is given
     * @throws FormatException where a value is not finite
     */
    void pieces(ModelTensor tensor, DType dtype, Consumer<Tensor> sink) {
        long rows = tensor.shape().size() == 1 ? 1 : tensor.shape().get(0);
        long cols = tensor.elements() / rows;
        long step = Math.max(64, PIECE / cols / 64 * 64); // of NF4, whole blocks
        try (Frame whole = frame.child(tensor.name())) {
            Nf4Tensor packed = isNf4(tensor) ? nf4(whole, tensor) : null;
            PeftAdapter.Pair pair = pairs.get(tensor.name());
            Tensor a = pair == null
                    ? Tensor.NONE
                    : floats(whole, pair.a(), 0, Shape.of(pair.a().shape()));
            for (long from = 0; from < rows; from += step) {
                long to = Math.min(rows, from + step);
                try (Frame piece = whole.child("piece")) {
                    Tensor base = packed == null
                            ? values(piece, source(tensor.name()), from * cols, Shape.of(to - from, cols))
                            : dequantized(piece, packed, from, to, dtype);
                    Tensor merged = pair == null ? base : merge(piece, base, pair, a, from, to);
                    if (!isFinite(merged, piece)) {
                        throw new FormatException(folder + ": weight " + tensor.name()
                                + (pair == null ? "" : " with the adapter merged in")
                                + " holds values that are not finite (or beyond 1e19); fetch the checkpoint again");
                    }
                    sink.accept(convert(piece, merged, dtype));
                }
            }
        }
    }

    private Nf4Tensor nf4(Frame owner, ModelTensor tensor) {
        TensorEntry entry = stored.get(tensor.name());
        if (BitsAndBytes.isQuantized(checkpoint, entry.name())) {
            return new BitsAndBytes(checkpoint, owner)
                    .read(entry.name(), tensor.shape().get(0), tensor.shape().get(1));
        }
        return new Nf4Quantizer(owner, DType.BF16, nf4.doubleQuant()).quantize(entry);
    }

    private static Tensor dequantized(Frame owner, Nf4Tensor packed, long from, long to, DType dtype) {
        Tensor y = owner.empty(dtype, to - from, packed.in());
        owner.kernels().nf4Dequantize(y, packed.operand(), from * packed.in());
        return y;
    }

    private static Tensor merge(Frame owner, Tensor base, PeftAdapter.Pair pair, Tensor a, long from, long to) {
        Tensor w = owner.empty(DType.F32, base.shape());
        owner.kernels().convert(w, base, 1);
        long r = pair.b().shape()[1];
        Tensor b = floats(owner, pair.b(), from * r, Shape.of(to - from, r));
        owner.gemm().multiply(w, b, false, a, false, Tensor.NONE, pair.scaling(), true);
        return w;
    }

    static Tensor floats(Frame owner, TensorEntry entry, long first, Shape shape) {
        return convert(owner, values(owner, entry, first, shape), DType.F32);
    }

    private static Tensor convert(Frame owner, Tensor x, DType dtype) {
        if (x.dtype() == dtype) {
            return x;
        }
        Tensor y = owner.empty(dtype, x.shape());
        owner.kernels().convert(y, x, 1);
        return y;
    }

    /** Values of a stored tensor from {@code first} on: as they lie where kernels read them so, F16 widened. */
    static Tensor values(Frame owner, TensorEntry entry, long first, Shape shape) {
        DType dtype = DType.valueOf(entry.dtype());
        MemorySegment data = entry.data().asSlice(first * dtype.bytes(), shape.elements() * dtype.bytes());
        if (dtype == DType.F16) {
            float[] values = new float[Math.toIntExact(shape.elements())];
            for (int i = 0; i < values.length; i++) {
                values[i] = Float.float16ToFloat(data.getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i));
            }
            return owner.upload(MemorySegment.ofArray(values), DType.F32, shape);
        }
        return data.address() % dtype.bytes() == 0
                ? owner.borrow(data, dtype, shape)
                : owner.upload(data, dtype, shape);
    }

    @Override
    public void close() {
        frame.close();
        checkpoint.close();
    }
}
