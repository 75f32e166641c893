package lapidary.gemma3;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.DryDevice;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.image.Pixels;
import lapidary.nn.Dropout;
import lapidary.nn.LoraSpec;
import lapidary.nn.Parameter;
import lapidary.op.Concat;
import lapidary.op.RopeTable;
import lapidary.op.ScatterImageFeatures;
import lapidary.op.Segments;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/**
 * A loaded Gemma 3: decoder, output head, and for a multimodal checkpoint the vision tower and its projector. Owns its
 * weights' frame and the mapped checkpoint.
 */
public final class Gemma3 implements AutoCloseable {
    /**
     * Names what attention sees, for what is kept of a training run: earlier tokens, on sliding layers those within the window, and
     * all tokens of the same picture. What changes that changes this name.
     */
    public static final String ATTENTION_MASK = "causal-window-picture-1";

    /** The tower runs so many patches at a time: enough rows for its products, while a layer's activations stay small. */
    private static final int PATCHES_TOGETHER = 4096;

    /** The same on a GPU, which the tower's small kernels do not fill: bench/results/gpu.md. */
    private static final int PATCHES_TOGETHER_ON_A_GPU = 4 * PATCHES_TOGETHER;

    private final Gemma3Config config;
    private final DType dtype;
    private final Checkpoint checkpoint; // null where the base of an adapter owns it
    private final Frame frame;
    private final Dropout dropout;
    private final Weights weights;
    private final SiglipVisionTower visionTower; // null for a text-only model
    private final MultiModalProjector projector; // null for a text-only model
    private final Gemma3Decoder decoder;
    private final Tensor lmHead; // [vocab, hidden]
    private final List<Parameter> parameters;
    private final List<String> linears;

    private Rotary rotary; // null before something is read with a cache; grows

    private Gemma3(
            Gemma3Config config,
            DType dtype,
            Checkpoint checkpoint,
            Frame frame,
            Dropout dropout,
            Weights weights,
            Slots slots) {
        this.config = config;
        this.dtype = dtype;
        this.checkpoint = checkpoint;
        this.frame = frame;
        this.dropout = dropout;
        this.weights = weights;
        String prefix = config.isTextOnly() ? "model." : "model.language_model.";
        visionTower = config.isTextOnly() ? null : new SiglipVisionTower(config.vision(), slots);
        projector = config.isTextOnly() ? null : new MultiModalProjector(config, slots);
        decoder = new Gemma3Decoder(config.text(), slots, prefix);
        // A head that is not stored is the embedding; one that is stored counts, whatever the config says of tying.
        String head = slots.has("lm_head.weight") ? "lm_head.weight" : prefix + "embed_tokens.weight";
        lmHead = slots.table(
                "lm_head", head, config.text().vocabSize(), config.text().hiddenSize());
        parameters = slots.parameters();
        linears = slots.linears();
    }

    /**
     * A model that holds nothing, to learn on a dry device what memory one of this configuration takes. Its weights need not
     * exist; where they do, only what their files say of dtypes is looked at, and all are taken to be as the embedding is.
     *
     * @param directory of the model; config.json is enough
     * @param lora what to train
     */
    public static Gemma3 dry(Path directory, DryDevice device, Precision precision, LoraSpec lora, long seed) {
        Gemma3Config config = readConfig(directory);
        Weights.StoredAs storedAs = new Weights.StoredAs("BF16", !config.text().tieWordEmbeddings());
        Precision asStored = precision;
        boolean hasWeights = Checkpoint.isThere(directory);
        if (hasWeights) {
            try (Checkpoint checkpoint = Checkpoint.open(directory)) {
                String head = "lm_head.weight";
                storedAs = new Weights.StoredAs(
                        checkpoint.names().stream()
                                .filter(name -> name.endsWith("embed_tokens.weight"))
                                .map(name -> checkpoint.entry(name).dtype())
                                .map(dtype -> dtype.equals("F16") ? "BF16" : dtype) // copied in either case
                                .findFirst()
                                .orElse("BF16"),
                        checkpoint.names().stream()
                                .anyMatch(name -> WeightNames.inMemory(name).equals(head)));
                if (config.isQuantized()) {
                    boolean nested = checkpoint.names().stream().anyMatch(name -> name.endsWith(".nested_absmax"));
                    asStored = new Precision(
                            precision.dtype(), new Nf4Options(nested, List.of()), precision.bf16Adapters());
                }
            }
        } else if (config.isQuantized()) {
            asStored = new Precision(precision.dtype(), new Nf4Options(true, List.of()), precision.bf16Adapters());
        }
        Frame frame = Frame.root(device, "model");
        Dropout dropout = new Dropout((float) lora.dropout(), seed);
        Weights weights = new Weights(storedAs, frame, asStored);
        Slots slots = new Slots(frame, weights, lora, precision.bf16Adapters(), dropout, seed);
        Gemma3 model = new Gemma3(config, precision.dtype(), null, frame, dropout, weights, slots);
        slots.requireTargetsMatched();
        weights.requireSkipsMatched(slots.linears());
        return model;
    }

    private static Gemma3 load(
            Gemma3Config config, Precision precision, Checkpoint checkpoint, Frame frame, LoraSpec lora, long seed) {
        Dropout dropout = new Dropout(lora == null ? 0 : (float) lora.dropout(), seed);
        Weights weights = new Weights(checkpoint, frame, precision, config.isQuantized());
        if (!weights.has("lm_head.weight") && !config.text().tieWordEmbeddings()) {
            throw new FormatException("checkpoint " + checkpoint.folder() + ": tensor lm_head.weight is missing, but"
                    + " config.json has tie_word_embeddings false; fetch config.json and the weights again from one"
                    + " revision, or set it to true where the head is the embedding");
        }
        Slots slots = new Slots(frame, weights, lora, precision.bf16Adapters(), dropout, seed);
        Gemma3 model = new Gemma3(config, precision.dtype(), checkpoint, frame, dropout, weights, slots);
        slots.requireTargetsMatched();
        weights.requireSkipsMatched(slots.linears());
        if (precision.nf4() != null && weights.quantizedNames().isEmpty()) {
            throw new IllegalArgumentException("--llm_int8_skip_modules "
                    + String.join(",", precision.nf4().skipModules()) + " leaves no linear layer to quantise");
        }
        weights.refuseUnused();
        if (weights.foundQuantized() != config.isQuantized()) {
            throw new FormatException("checkpoint " + checkpoint.folder() + ": "
                    + (config.isQuantized()
                            ? "config.json has a quantization_config, but no linear layer is quantised"
                            : "linear layers are quantised, but config.json has no quantization_config")
                    + "; fetch config.json and the weights again from one revision");
        }
        return model;
    }

    /**
     * This model with an adapter beside it, to run and not to train. It shares this one's weights, owns the adapter's, and is
     * to be closed before this one; both may be used in turns.
     *
     * @throws FormatException where the adapter does not fit: nothing of it is left out in silence
     */
    public Gemma3 withAdapter(PeftAdapter adapter) {
        Frame own = frame.child("adapter " + adapter.directory());
        try {
            Slots slots = new Slots(own, weights, adapter);
            Gemma3 adapted = new Gemma3(config, dtype, null, own, new Dropout(0, 0), weights, slots);
            slots.requireAdapterRead();
            return adapted;
        } catch (RuntimeException e) {
            own.close();
            throw e;
        }
    }

    /**
     * Loads a model folder.
     *
     * @param dtype of weights and activations: F32 or BF16
     * @param lora what to train, or null to train nothing
     * @param seed of the adapters' initial values and of dropout
     * @throws FormatException naming the file and what is wrong in it
     */
    public static Gemma3 load(Path directory, Device device, DType dtype, LoraSpec lora, long seed) {
        return load(directory, device, Precision.of(dtype), lora, seed);
    }

    /**
     * Loads a model folder, quantising its linear layers on the way where the precision says so.
     *
     * @param lora what to train, or null to train nothing
     * @param seed of the adapters' initial values and of dropout
     * @throws FormatException naming the file and what is wrong in it
     */
    public static Gemma3 load(Path directory, Device device, Precision precision, LoraSpec lora, long seed) {
        Gemma3Config config = readConfig(directory);
        Checkpoint checkpoint = Checkpoint.open(directory);
        Frame frame = Frame.root(device, "model");
        try {
            return load(config, precision, checkpoint, frame, lora, seed);
        } catch (RuntimeException e) {
            frame.close();
            checkpoint.close();
            throw e;
        }
    }

    public static Gemma3Config readConfig(Path directory) {
        if (!Files.isDirectory(directory)) {
            throw new FormatException(
                    Files.exists(directory)
                            ? directory + " is a file, expected the folder of a model"
                            : "no such folder: " + directory
                                    + " (a model on the Hub has its owner's name before it, as google/gemma-3-4b-it)");
        }
        Path file = directory.resolve("config.json");
        if (!Files.isRegularFile(file)) {
            throw new FormatException(directory + ": has no config.json, so it is not a model folder");
        }
        return Gemma3Config.parse(file.toString(), Json.read(file).node());
    }

    Weights weights() {
        return weights;
    }

    /** Bytes of the weights that lie in the mapped files and not in the device's own memory. */
    public long mappedBytes() {
        return weights.mappedBytes();
    }

    public Gemma3Config config() {
        return config;
    }

    public DType dtype() {
        return dtype;
    }

    /** Frame of the weights; training state that lives as long as the model may live in it. */
    public Frame frame() {
        return frame;
    }

    /** What is trained, in the order of the model. */
    public List<Parameter> parameters() {
        return parameters;
    }

    /** Names in memory of the linear layers that may get adapters: all but the output head. */
    public List<String> linears() {
        return linears;
    }

    public Dropout dropout() {
        return dropout;
    }

    /** Output head [vocab, hidden]. */
    public Tensor lmHead() {
        return lmHead;
    }

    /**
     * Hidden states after the last norm, ready for the output head: [tokens, hidden].
     *
     * @param checkpointing whether each layer keeps only its input and is run again in backward
     * @throws IllegalArgumentException where images and image tokens do not match, or a text-only model gets images
     */
    public Tensor forward(Tape tape, PackedBatch batch, boolean checkpointing) {
        List<Tensor> trained = parameters.stream().map(Parameter::value).toList();
        Tensor features =
                batch.pixels().isEmpty() ? Tensor.NONE : imageFeatures(tape, batch.pixels(), checkpointing, trained);
        return forward(tape, batch, features, checkpointing, trained);
    }

    /** The same with image features computed before, [images * tokens, hidden]; none for a batch without images. */
    public Tensor forward(Tape tape, PackedBatch batch, Tensor features) {
        return forward(tape, batch, features, false, List.of());
    }

    /** What the decoder reads in place of image tokens: [images * tokens, hidden]. */
    public Tensor imageFeatures(Tape tape, List<? extends Pixels> pixels) {
        return imageFeatures(tape, pixels, false, List.of());
    }

    /** An empty cache for a sequence that this model reads; to be closed before the model. */
    public KvCache newCache() {
        return new KvCache(config.text(), dtype, frame);
    }

    /**
     * Reads a sequence's next tokens; what the cache holds is what comes before them, and holds them too afterwards.
     *
     * @param ids [tokens], one or more
     * @param types [tokens], 1 for an image's tokens; an image is whole among them
     * @param features [images' tokens, hidden] for those, as {@link #imageFeatures} made them, or {@link Tensor#NONE}
     * @param scratch of the result
     * @return the last token's hidden state after the last norm, [1, hidden]
     */
    public Tensor read(Frame scratch, KvCache cache, int[] ids, int[] types, Tensor features) {
        Tape tape = Tape.notRecording(scratch);
        PackedBatch row = PackedBatch.of(List.of(new PackedBatch.Row(ids, types, List.of())));
        int[] imageTokens = row.imageTokens();
        Tensor x = embed(tape, row);
        if (imageTokens.length > 0 || !features.isNone()) {
            x = tape.run(new ScatterImageFeatures(x, features, imageTokens));
        }
        int[] positions = row.positions();
        Arrays.setAll(positions, t -> cache.length() + positions[t]);
        Tensor spans = imageTokens.length > 0 ? scratch.of(row.spans(), ids.length) : Tensor.NONE;
        Tensor hidden = forward(tape, x, positions, cache.reading(spans));
        cache.advance(ids.length);
        return hidden.slice(ids.length - 1, ids.length);
    }

    /**
     * Reads one next token of each of several sequences, each into its own cache. What a sequence's becomes does not depend on
     * the others where the products of few rows do not, as on the CPU.
     *
     * @param ids [sequences], text
     * @return hidden states after the last norm, [sequences, hidden]
     */
    public Tensor decode(Frame scratch, List<KvCache> caches, int[] ids) {
        Tape tape = Tape.notRecording(scratch);
        int[] positions = caches.stream().mapToInt(KvCache::length).toArray();
        Tensor hidden = forward(tape, decoder.embed(tape, ids), positions, KvCache.decoding(caches));
        caches.forEach(cache -> cache.advance(1));
        return hidden;
    }

    private Tensor forward(Tape tape, Tensor x, int[] positions, Gemma3Decoder.Attends attends) {
        int furthest = Arrays.stream(positions).max().orElse(0);
        if (rotary == null || rotary.positions() <= furthest) {
            closeRotary();
            rotary = Rotary.upTo(furthest, config.text(), dtype, frame);
        }
        return decoder.forward(
                new Pass(tape, false, List.of(), dropout, 0),
                x,
                new Gemma3Decoder.Context(
                        tape.frame().of(positions, positions.length), attends, rotary.global(), rotary.local()));
    }

    private void closeRotary() {
        if (rotary != null) {
            rotary.close();
            rotary = null;
        }
    }

    @Override
    public void close() {
        closeRotary();
        frame.close();
        if (checkpoint != null) {
            checkpoint.close();
        }
    }

    private Tensor forward(Tape tape, PackedBatch batch, Tensor features, boolean checkpointing, List<Tensor> trained) {
        Tensor x = embed(tape, batch);
        if (!config.isTextOnly()) {
            int[] imageTokens = batch.positionsOf(config.imageTokenId());
            if (!features.isNone() || imageTokens.length > 0) {
                x = tape.run(new ScatterImageFeatures(x, features, imageTokens));
            }
        } else if (!features.isNone()) {
            throw new IllegalArgumentException(
                    "this checkpoint is text-only (model_type gemma3_text) and takes no images");
        }
        return decoder.forward(new Pass(tape, checkpointing, trained, dropout, 0), x, context(tape.frame(), batch));
    }

    private Tensor embed(Tape tape, PackedBatch batch) {
        int[] ids = batch.ids();
        if (!config.isTextOnly() && config.imageTokenId() >= config.text().vocabSize()) {
            // The image token has no row of its own then: any row serves, since the features replace it.
            ids = ids.clone();
            for (int t = 0; t < ids.length; t++) {
                ids[t] = ids[t] == config.imageTokenId() ? config.text().padTokenId() : ids[t];
            }
        }
        return decoder.embed(tape, ids);
    }

    private Gemma3Decoder.Context context(Frame step, PackedBatch batch) {
        Gemma3Config.Text text = config.text();
        int positions = Math.max(1, batch.longestRow());
        boolean images = !config.isTextOnly();
        return Gemma3Decoder.Context.packed(
                step.of(batch.positions(), batch.tokens()),
                new Segments(
                        step.of(batch.starts(), batch.starts().length),
                        images ? step.of(batch.spans(), batch.tokens()) : Tensor.NONE),
                rope(step, text.globalRope(), text.headDim(), positions),
                rope(step, text.localRope(), text.headDim(), positions));
    }

    private RopeTable rope(Frame step, Gemma3Config.Rope rope, int headDim, int positions) {
        return RopeTable.of(step, dtype, positions, headDim, rope.theta(), rope.factor());
    }

    private Tensor imageFeatures(
            Tape tape, List<? extends Pixels> pixels, boolean checkpointing, List<Tensor> trained) {
        if (config.isTextOnly()) {
            throw new IllegalArgumentException(
                    "this checkpoint is text-only (model_type gemma3_text) and takes no images");
        }
        Gemma3Config.Vision vision = config.vision();
        int images = pixels.size();
        long each = (long) vision.numChannels() * vision.imageSize() * vision.imageSize();
        Tensor stacked = tape.frame()
                .empty(DType.F32, Shape.of(images, vision.numChannels(), vision.imageSize(), vision.imageSize()));
        for (int i = 0; i < images; i++) {
            Pixels picture = pixels.get(i);
            if (picture.length() != each) {
                throw new IllegalArgumentException(
                        "[image] " + i + " has " + picture.length() + " values, expected " + each + " = "
                                + vision.numChannels() + " x " + vision.imageSize() + " x " + vision.imageSize());
            }
            frame.device()
                    .copyIn(
                            stacked.slice(i, i + 1).segment(),
                            (from, floats) -> picture.values(Math.toIntExact(from / Float.BYTES), floats));
        }
        int patches = vision.side() * vision.side();
        int most = frame.device().isGpu() ? PATCHES_TOGETHER_ON_A_GPU : PATCHES_TOGETHER;
        int together = Math.max(1, most / patches);
        List<Tensor> features = new ArrayList<>();
        for (int from = 0; from < images; from += together) {
            int to = Math.min(images, from + together);
            Pass pass = new Pass(tape, checkpointing, trained, dropout, features.size());
            features.add(projector.forward(tape, visionTower.forward(pass, stacked.slice(from, to)), to - from));
        }
        return features.size() == 1 ? features.get(0) : tape.run(new Concat(features));
    }
}
