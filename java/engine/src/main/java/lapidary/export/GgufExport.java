package lapidary.export;

import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.GgufWriter;
import lapidary.format.GgufWriter.Item;
import lapidary.format.GgufWriter.Type;
import lapidary.format.Json;
import lapidary.format.NewFolder;
import lapidary.gemma3.ChatTemplate;
import lapidary.gemma3.Gemma3Config;
import lapidary.gemma3.PeftAdapter;
import lapidary.image.ImagePreprocessor;
import lapidary.tensor.Tensor;

/**
 * Writes GGUF files that llama.cpp loads: the decoder with its tokenizer and chat template, and the vision tower with its
 * projector. What llama.cpp computes otherwise than Gemma 3's configuration asks for is folded into the weights, or refused.
 *
 * @see <a href="https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py">llama.cpp's own converter</a>
 */
public final class GgufExport {
    /** What the loader takes for granted: each sixth layer is global. */
    private static final int USUAL_PATTERN = 6;

    /** Of the projector, where no key says otherwise. */
    private static final int USUAL_SCALE = 4;

    /** The loader takes a model of so many layers for 27b, whose scores it scales by another size than the head's. */
    private static final int LAYERS_OF_27B = 62;

    private static final double LOCAL_THETA = 10_000;

    private final Options options;
    private final Type type;
    private final MergedWeights weights;
    private final Gemma3Config config;
    private final Json raw;
    private final List<String> notes = new ArrayList<>();

    private GgufExport(Options options, MergedWeights weights) {
        this.options = options;
        this.type = options.type();
        this.weights = weights;
        this.config = weights.config();
        this.raw = Json.read(options.model().resolve("config.json"));
    }

    /**
     * What to export.
     *
     * @param adapter merged in on the way, or null
     * @param target must not exist yet, or be empty
     * @param name of the model, which the files' names hold
     * @param type of matrices; vectors are F32, and what a type cannot hold is F16
     */
    public record Options(Path model, Path adapter, Path target, String name, Type type) {}

    /** @param lines to print: files, and what llama.cpp does otherwise */
    public record Written(List<String> lines) {}

    /**
     * Exports; the folder appears complete or not at all.
     *
     * @throws FormatException where a file is malformed, llama.cpp would compute another model, or the target cannot be
     *     written
     */
    public static Written write(Options options, Device device) {
        NewFolder.requireFree("--output_dir", options.target());
        try (PeftAdapter adapter = options.adapter() == null ? null : PeftAdapter.open(options.adapter());
                MergedWeights weights = MergedWeights.open(options.model(), adapter, device, null)) {
            return new GgufExport(options, weights).write();
        }
    }

    private Written write() {
        refuseOtherModels();
        Map<String, Object> textKeys = textKeys();
        List<Item> text = textItems();
        boolean vision = !config.isTextOnly();
        Map<String, Object> visionKeys = vision ? visionKeys() : Map.of();
        List<Item> tower = vision ? visionItems() : List.of();
        NewFolder.requireRoom(
                "--output_dir", options.target(), GgufWriter.bytes(text) + GgufWriter.bytes(tower) + tokensBytes());
        String file = options.name() + "-" + type.name().toLowerCase(Locale.ROOT) + ".gguf";
        AtomicFile.writeNewFolder(options.target(), folder -> {
            GgufWriter.write(folder.resolve(file), textKeys, text);
            if (vision) {
                GgufWriter.write(folder.resolve("mmproj-" + file), visionKeys, tower);
            }
        });
        List<String> lines = new ArrayList<>();
        lines.add(line(options.target().resolve(file), text));
        if (vision) {
            lines.add(line(options.target().resolve("mmproj-" + file), tower));
        }
        lines.addAll(notes);
        return new Written(lines);
    }

    private static String line(Path file, List<Item> items) {
        return String.format(
                Locale.ROOT, "%s has %d tensors, %,.1f MB", file, items.size(), GgufWriter.bytes(items) / 1e6);
    }

    /** An upper bound for the vocabulary's strings, scores and kinds. */
    private long tokensBytes() {
        return 64L * config.text().vocabSize();
    }

    // ---- what llama.cpp does otherwise ---------------------------------------------------------------------------

    private void refuseOtherModels() {
        Gemma3Config.Text text = config.text();
        String file = raw.file();
        if (text.finalLogitSoftcapping() != 0) {
            throw new FormatException(file + ": final_logit_softcapping is " + text.finalLogitSoftcapping()
                    + ", which a Gemma 3 GGUF file cannot say: llama.cpp would leave it out");
        }
        if (text.localRope().factor() != 1) {
            throw new FormatException(file + ": the rotary embedding of sliding layers is scaled by "
                    + text.localRope().factor()
                    + ", which a Gemma 3 GGUF file cannot say: llama.cpp scales global layers"
                    + " only");
        }
        if (text.localRope().theta() != LOCAL_THETA) {
            throw new FormatException(file + ": the rotary base of sliding layers is "
                    + text.localRope().theta() + ", expected 10000: not every llama.cpp reads another");
        }
        if (!text.globalLayer().contains(false)) {
            throw new FormatException(
                    file + ": all layers are global, and llama.cpp ends with a failed assertion on a Gemma"
                            + " 3 GGUF file without a sliding one");
        }
        if (text.headDim() % 2 != 0 || text.numAttentionHeads() % text.numKeyValueHeads() != 0) {
            throw new FormatException(file + ": llama.cpp does not know such heads");
        }
        weights.otherName().ifPresent(notes::add);
        if (weights.dequantizedLayers() > 0) {
            notes.add("note: the base is stored in NF4; its " + weights.dequantizedLayers()
                    + " linear layers were dequantised");
        }
        if (!weights.isTied()) {
            notes.add(
                    "note: the output head is a table of its own and kept as output.weight; a program that knows tied Gemma 3"
                            + " only will refuse the file");
        }
    }

    /** What llama.cpp's scores are divided by the square root of. */
    private double impliedScalar() {
        Gemma3Config.Text text = config.text();
        return text.numHiddenLayers() == LAYERS_OF_27B
                ? (double) text.hiddenSize() / text.numAttentionHeads()
                : text.headDim();
    }

    // ---- keys ----------------------------------------------------------------------------------------------------

    private Map<String, Object> textKeys() {
        Gemma3Config.Text text = config.text();
        Map<String, Object> keys = general("gemma3", "model");
        keys.put("general.size_label", sizeLabel());
        keys.putAll(sampling());
        keys.put("gemma3.block_count", text.numHiddenLayers());
        keys.put("gemma3.context_length", contextLength());
        keys.put("gemma3.embedding_length", text.hiddenSize());
        keys.put("gemma3.feed_forward_length", text.intermediateSize());
        keys.put("gemma3.attention.head_count", text.numAttentionHeads());
        keys.put("gemma3.attention.head_count_kv", text.numKeyValueHeads());
        keys.put("gemma3.attention.key_length", text.headDim());
        keys.put("gemma3.attention.value_length", text.headDim());
        keys.put("gemma3.attention.layer_norm_rms_epsilon", text.rmsNormEps());
        keys.put("gemma3.attention.sliding_window", text.slidingWindow());
        pattern().ifPresent(value -> keys.put("gemma3.attention.sliding_window_pattern", value));
        keys.put("gemma3.rope.freq_base", (float) text.globalRope().theta());
        keys.put("gemma3.rope.freq_base_swa", (float) text.localRope().theta());
        if (text.globalRope().factor() != 1) {
            keys.put("gemma3.rope.scaling.type", "linear");
            keys.put("gemma3.rope.scaling.factor", (float) text.globalRope().factor());
        }
        keys.putAll(GgufTokens.of(options.model(), text.vocabSize()));
        Optional<String> template = ChatTemplate.source(options.model());
        if (template.isPresent()) {
            keys.put("tokenizer.chat_template", template.get());
        } else {
            notes.add("note: the checkpoint has no chat template, so the file has none either; give llama.cpp"
                    + " --chat-template gemma");
        }
        return keys;
    }

    private Map<String, Object> general(String architecture, String kind) {
        Map<String, Object> keys = new LinkedHashMap<>();
        keys.put("general.architecture", architecture);
        keys.put("general.type", kind);
        keys.put("general.name", options.name());
        keys.put(
                "general.file_type",
                switch (type) {
                    case F32 -> 0;
                    case F16 -> 1;
                    case Q8_0 -> 7;
                    case BF16 -> 32;
                });
        keys.put("general.quantization_version", 2);
        return keys;
    }

    private String sizeLabel() {
        double values = weights.tensors().stream()
                .filter(tensor -> isText(tensor.name()))
                .mapToLong(ModelTensor::elements)
                .sum();
        return values < 1e9
                ? String.format(Locale.ROOT, "%.0fM", Math.max(1, values / 1e6))
                : String.format(Locale.ROOT, "%.1fB", values / 1e9);
    }

    /** What the checkpoint says of sampling, as far as the file has keys for it. */
    private Map<String, Object> sampling() {
        Map<String, Object> keys = new LinkedHashMap<>();
        Path file = options.model().resolve("generation_config.json");
        if (Files.exists(file)) {
            Json generation = Json.read(file);
            if (generation.has("top_k") && !generation.get("top_k").isNull()) {
                keys.put("general.sampling.top_k", generation.get("top_k").intBetween(0, Integer.MAX_VALUE));
            }
            if (generation.has("top_p") && !generation.get("top_p").isNull()) {
                keys.put("general.sampling.top_p", (float) generation.number("top_p"));
            }
        }
        return keys;
    }

    private int contextLength() {
        Json text = config.isTextOnly() ? raw : raw.get("text_config");
        return text.has("max_position_embeddings")
                ? text.get("max_position_embeddings").intBetween(1, Integer.MAX_VALUE)
                : 131_072; // the class default
    }

    /** Every how many layers one is global, nothing where it is what the loader takes for granted. */
    private OptionalInt pattern() {
        List<Boolean> global = config.text().globalLayer();
        int every = every(global)
                .orElseThrow(() -> new FormatException(raw.file()
                        + ": its global layers do not come at one distance, which is all that a Gemma 3 GGUF file can say:"
                        + " llama.cpp passes over a list of them"));
        return every == USUAL_PATTERN ? OptionalInt.empty() : OptionalInt.of(every);
    }

    /** The distance of global layers, the usual one where several fit a short model; empty where they have none. */
    static OptionalInt every(List<Boolean> global) {
        return IntStream.concat(IntStream.of(USUAL_PATTERN), IntStream.rangeClosed(1, global.size() + 1))
                .filter(every -> IntStream.range(0, global.size())
                        .allMatch(layer -> global.get(layer) == ((layer + 1) % every == 0)))
                .findFirst();
    }

    private Map<String, Object> visionKeys() {
        Gemma3Config.Vision vision = config.vision();
        ImagePreprocessor preprocessor = ImagePreprocessor.read(options.model());
        if (preprocessor.width() != vision.imageSize() || preprocessor.height() != vision.imageSize()) {
            throw new FormatException(
                    options.model() + ": the processor makes pictures of " + preprocessor.width() + " x "
                            + preprocessor.height() + ", the vision tower takes " + vision.imageSize() + " x "
                            + vision.imageSize());
        }
        if (preprocessor.rescaleFactor() != 1 / 255.0) {
            throw new FormatException(options.model() + ": rescale_factor is " + preprocessor.rescaleFactor()
                    + ", expected 1/255, the one that llama.cpp computes with");
        }
        notes.add("note: llama.cpp scales pictures in another way than training did; give it pictures of "
                + vision.imageSize() + " x " + vision.imageSize() + " for the same answers");
        Map<String, Object> keys = general("clip", "mmproj");
        keys.put("clip.has_vision_encoder", true);
        keys.put("clip.projector_type", "gemma3");
        keys.put("clip.use_gelu", true);
        keys.put("clip.vision.image_size", vision.imageSize());
        keys.put("clip.vision.patch_size", vision.patchSize());
        keys.put("clip.vision.embedding_length", vision.hiddenSize());
        keys.put("clip.vision.feed_forward_length", vision.intermediateSize());
        keys.put("clip.vision.block_count", vision.numHiddenLayers());
        keys.put("clip.vision.attention.head_count", vision.numAttentionHeads());
        keys.put("clip.vision.attention.layer_norm_epsilon", vision.layerNormEps());
        keys.put("clip.vision.projection_dim", config.text().hiddenSize());
        keys.put("clip.vision.image_mean", floats(preprocessor.mean()));
        keys.put("clip.vision.image_std", floats(preprocessor.std()));
        int scale = vision.side() / config.tokensPerSide();
        if (scale != USUAL_SCALE) {
            keys.put("clip.vision.projector.scale_factor", scale);
        }
        return keys;
    }

    private static float[] floats(List<Double> values) {
        float[] array = new float[values.size()];
        for (int i = 0; i < array.length; i++) {
            array[i] = values.get(i).floatValue();
        }
        return array;
    }

    // ---- tensors -------------------------------------------------------------------------------------------------

    private boolean isText(String name) {
        return name.equals(ModelTensor.HEAD) || name.startsWith(ModelTensor.decoder(config));
    }

    private List<Item> textItems() {
        double implied = impliedScalar();
        double asked = config.text().queryPreAttnScalar();
        float factor = (float) Math.sqrt(implied / asked);
        if (factor != 1) {
            notes.add(String.format(
                    Locale.ROOT,
                    "note: query_pre_attn_scalar is %s, which the file cannot say; llama.cpp takes %s, so q_norm is multiplied"
                            + " by %.6g",
                    asked,
                    implied,
                    factor));
        }
        List<Item> items = new ArrayList<>();
        for (ModelTensor tensor : weights.tensors()) {
            if (!isText(tensor.name())) {
                continue;
            }
            String name = textName(tensor.name());
            if (name.endsWith("norm.weight")) {
                items.add(norm(tensor, name, name.endsWith("attn_q_norm.weight") ? factor : 1));
            } else {
                items.add(matrix(tensor, name, type));
            }
        }
        return items;
    }

    private String textName(String name) {
        String prefix = ModelTensor.decoder(config);
        if (name.equals(ModelTensor.HEAD)) {
            return "output.weight";
        }
        String inner = name.substring(prefix.length());
        if (inner.equals("embed_tokens.weight")) {
            return "token_embd.weight";
        }
        if (inner.equals("norm.weight")) {
            return "output_norm.weight";
        }
        String[] parts = inner.split("\\.", 3); // layers, number, the rest
        String module = parts[2].substring(0, parts[2].length() - ".weight".length());
        return "blk." + parts[1] + "."
                + switch (module) {
                    case "input_layernorm" -> "attn_norm";
                    case "self_attn.q_proj" -> "attn_q";
                    case "self_attn.k_proj" -> "attn_k";
                    case "self_attn.v_proj" -> "attn_v";
                    case "self_attn.o_proj" -> "attn_output";
                    case "self_attn.q_norm" -> "attn_q_norm";
                    case "self_attn.k_norm" -> "attn_k_norm";
                    case "post_attention_layernorm" -> "post_attention_norm";
                    case "pre_feedforward_layernorm" -> "ffn_norm";
                    case "mlp.gate_proj" -> "ffn_gate";
                    case "mlp.up_proj" -> "ffn_up";
                    case "mlp.down_proj" -> "ffn_down";
                    case "post_feedforward_layernorm" -> "post_ffw_norm";
                    default -> throw new IllegalStateException(name);
                }
                + ".weight";
    }

    private List<Item> visionItems() {
        List<Item> items = new ArrayList<>();
        for (ModelTensor tensor : weights.tensors()) {
            if (isText(tensor.name())) {
                continue;
            }
            String name = visionName(tensor.name());
            if (name.equals("mm.soft_emb_norm.weight")) {
                items.add(norm(tensor, name, 1));
            } else if (name.equals("mm.input_projection.weight")) {
                items.add(matrix(tensor, name, Type.F16)); // the loader transposes it, which it does for F16 alone
            } else if (tensor.linear() && tensor.shape().size() == 2) {
                items.add(matrix(tensor, name, type));
            } else {
                items.add(matrix(tensor, name, Type.F32)); // vectors, patches, positions
            }
        }
        return items;
    }

    private static String visionName(String name) {
        switch (name) {
            case "model.multi_modal_projector.mm_input_projection_weight":
                return "mm.input_projection.weight";
            case "model.multi_modal_projector.mm_soft_emb_norm.weight":
                return "mm.soft_emb_norm.weight";
            default:
                break;
        }
        String inner = name.substring("model.vision_tower.".length());
        String part = inner.substring(inner.lastIndexOf('.')); // .weight or .bias
        String module = inner.substring(0, inner.lastIndexOf('.'));
        switch (module) {
            case "embeddings.patch_embedding":
                return "v.patch_embd" + part;
            case "embeddings.position_embedding":
                return "v.position_embd" + part;
            case "post_layernorm":
                return "v.post_ln" + part;
            default:
                break;
        }
        String[] parts = module.split("\\.", 4); // encoder, layers, number, the rest
        return "v.blk." + parts[2] + "."
                + switch (parts[3]) {
                    case "layer_norm1" -> "ln1";
                    case "layer_norm2" -> "ln2";
                    case "self_attn.q_proj" -> "attn_q";
                    case "self_attn.k_proj" -> "attn_k";
                    case "self_attn.v_proj" -> "attn_v";
                    case "self_attn.out_proj" -> "attn_out";
                    case "mlp.fc1" -> "ffn_up";
                    case "mlp.fc2" -> "ffn_down";
                    default -> throw new IllegalStateException(name);
                }
                + part;
    }

    /** Gemma's norms multiply by 1 + w; llama.cpp's by what the file holds. */
    private Item norm(ModelTensor tensor, String name, float factor) {
        return new Item(
                name,
                Type.F32,
                tensor.axes(),
                out -> weights.pieces(tensor, DType.F32, piece -> {
                    float[] values = piece.toFloats();
                    for (int i = 0; i < values.length; i++) {
                        values[i] = (values[i] + 1) * factor;
                    }
                    out.accept(MemorySegment.ofArray(values));
                }));
    }

    private Item matrix(ModelTensor tensor, String name, Type asked) {
        long last = tensor.shape().get(tensor.shape().size() - 1);
        Type stored = last % asked.block() == 0 ? asked : Type.F16;
        return new Item(name, stored, tensor.axes(), out -> write(tensor, stored, out));
    }

    private void write(ModelTensor tensor, Type stored, Consumer<MemorySegment> out) {
        weights.pieces(
                tensor,
                stored == Type.BF16 ? DType.BF16 : DType.F32,
                piece -> out.accept(
                        switch (stored) {
                            case F32, BF16 -> piece.toHost();
                            case F16 -> GgufValues.f16(tensor.name(), values(piece));
                            case Q8_0 -> GgufValues.q80(values(piece));
                        }));
    }

    private static float[] values(Tensor piece) {
        return piece.toFloats();
    }
}
