package lapidary.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;
import lapidary.format.NewFolder;
import lapidary.format.SafetensorsWriter;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.gemma3.Nf4Options;
import lapidary.gemma3.PeftAdapter;
import lapidary.gemma3.ProcessorFiles;
import lapidary.gemma3.WeightNames;
import lapidary.image.PanAndScanSettings;

/**
 * Writes a checkpoint with an adapter merged in, in the Hub's layout, which Transformers and vLLM load, and compares its
 * logits with those of base and adapter before it appears under its name.
 */
public final class MergedCheckpoint {
    public static final String REPORT_FILE = "merge_report.json";

    private static final List<String> OTHER_FILES = List.of("generation_config.json");

    /** Above this share of the logits' own spread, merged and unmerged are not the same model. */
    private static final double BROKEN = 0.1;

    private final Options options;
    private final Device device;
    private final PeftAdapter adapter;
    private final MergedWeights weights;

    private MergedCheckpoint(Options options, Device device, PeftAdapter adapter, MergedWeights weights) {
        this.options = options;
        this.device = device;
        this.adapter = adapter;
        this.weights = weights;
    }

    /**
     * What to merge, and into what.
     *
     * @param model folder of the base
     * @param target must not exist yet, or be empty
     * @param dtype BF16 or F32, of what is written
     * @param nf4 how the base was quantised while the adapter was trained; null where it was not, or is stored so
     * @param ontoOriginal whether, of a base that was quantised while training, the unquantised weights are taken
     * @param maxShardBytes of tensors in one file; more make several files and an index
     * @param prompts to compare logits on; none for the built-in ones
     * @param images to compare logits on, each a prompt of its own
     * @param notes of the caller's, for the report
     */
    public record Options(
            Path model,
            Path adapter,
            Path target,
            DType dtype,
            Nf4Options nf4,
            boolean ontoOriginal,
            long maxShardBytes,
            List<String> prompts,
            List<Path> images,
            List<String> notes) {}

    /**
     * What was done, in lines to print; the same is in {@value #REPORT_FILE}.
     *
     * @param bytes of all tensors
     */
    public record Written(List<String> lines, long bytes, int files) {}

    /**
     * Merges.
     *
     * @throws FormatException where a file is malformed, base and adapter do not belong together, the target cannot be
     *     written, or what was written computes something else than base and adapter
     * @throws IllegalArgumentException where an option does not fit the model
     */
    public static Written write(Options options, Device device) {
        NewFolder.requireFree("--output_dir", options.target());
        Nf4Options onTheWay = options.ontoOriginal() ? null : options.nf4();
        try (PeftAdapter adapter = PeftAdapter.open(options.adapter());
                MergedWeights weights = MergedWeights.open(options.model(), adapter, device, onTheWay)) {
            return new MergedCheckpoint(options, device, adapter, weights).write();
        }
    }

    private Written write() {
        List<ModelTensor> tensors = weights.tensors();
        long elements = tensors.stream().mapToLong(ModelTensor::elements).reduce(0, Math::addExact);
        long bytes = Math.multiplyExact(elements, (long) options.dtype().bytes());
        NewFolder.requireRoom("--output_dir", options.target(), bytes);
        LogitCheck check = LogitCheck.of(
                options.model(),
                weights.config(),
                elements,
                device,
                new LogitCheck.Questions(options.prompts(), options.images()));
        Nf4Options onTheWay = options.ontoOriginal() ? null : options.nf4();
        List<float[]> tuned = check.run(options.model(), adapter, onTheWay);
        LogitCheck.requireFinite("base + adapter", tuned);
        Report report = new Report(check, adapter.baseModel());
        report.effect = LogitCheck.distance(tuned, check.run(options.model(), null, onTheWay));
        if (options.ontoOriginal() && options.nf4() != null) {
            report.trained = check.run(options.model(), adapter, options.nf4());
        }
        List<List<ModelTensor>> shards = shards(tensors);
        // What was trained on parts of pictures is asked about them, too.
        Optional<PanAndScanSettings> shown =
                weights.config().isTextOnly() ? Optional.empty() : PanAndScanSettings.find(options.adapter());
        AtomicFile.writeNewFolder(options.target(), folder -> {
            writeWeights(folder, shards, bytes);
            AtomicFile.writeString(folder.resolve("config.json"), config() + "\n");
            ProcessorFiles.copy(options.model(), folder);
            ProcessorFiles.copy(OTHER_FILES, options.model(), folder);
            shown.ifPresent(trained -> trained.write(folder));
            List<float[]> merged = check.run(folder, null, null);
            LogitCheck.requireFinite("the merged checkpoint", merged);
            report.error = LogitCheck.distance(tuned, merged);
            requireSame(report.error, tuned, report.effect);
            if (report.trained != null) {
                report.cost = LogitCheck.distance(report.trained, merged);
            }
            AtomicFile.writeString(folder.resolve(REPORT_FILE), JsonWriter.indentedUnicode(report.json()) + "\n");
        });
        return new Written(report.lines(), bytes, shards.size());
    }

    /** A merge that lost something differs from base + adapter by as much as the adapter does, or by more than rounding. */
    private void requireSame(LogitCheck.Distance error, List<float[]> tuned, LogitCheck.Distance effect) {
        double spread = spread(tuned);
        if (error.rms() > BROKEN * spread && error.rms() > 0.5 * effect.rms()) {
            throw new FormatException(String.format(
                    java.util.Locale.ROOT,
                    "the merged checkpoint's logits differ from base + adapter by %.3g (rms), where the adapter itself moves"
                            + " them by %.3g: it is not the same model, so it was not kept",
                    error.rms(),
                    effect.rms()));
        }
    }

    /** Standard deviation of logits around their mean at each position. */
    private static double spread(List<float[]> logits) {
        double squares = 0;
        long count = 0;
        for (float[] row : logits) {
            double mean = 0;
            for (float x : row) {
                mean += x / row.length;
            }
            for (float x : row) {
                squares += (x - mean) * (x - mean);
            }
            count += row.length;
        }
        return Math.sqrt(squares / Math.max(1, count));
    }

    // ---- files ---------------------------------------------------------------------------------------------------

    private List<List<ModelTensor>> shards(List<ModelTensor> tensors) {
        List<List<ModelTensor>> shards = new ArrayList<>();
        List<ModelTensor> shard = new ArrayList<>();
        long filled = 0;
        for (ModelTensor tensor : tensors) {
            long bytes = tensor.elements() * options.dtype().bytes();
            if (!shard.isEmpty() && filled + bytes > options.maxShardBytes()) {
                shards.add(shard);
                shard = new ArrayList<>();
                filled = 0;
            }
            shard.add(tensor);
            filled += bytes;
        }
        shards.add(shard);
        return shards;
    }

    private void writeWeights(Path folder, List<List<ModelTensor>> shards, long bytes) {
        Map<String, Object> weightMap = new LinkedHashMap<>();
        for (int i = 0; i < shards.size(); i++) {
            String file = shards.size() == 1
                    ? "model.safetensors"
                    : String.format("model-%05d-of-%05d.safetensors", i + 1, shards.size());
            List<Item> items = shards.get(i).stream().map(this::item).toList();
            SafetensorsWriter.write(folder.resolve(file), Map.of("format", "pt"), items);
            items.forEach(item -> weightMap.put(item.name(), file));
        }
        if (shards.size() > 1) {
            AtomicFile.writeString(
                    folder.resolve("model.safetensors.index.json"),
                    JsonWriter.sorted(Map.of("metadata", Map.of("total_size", bytes), "weight_map", weightMap)) + "\n");
        }
    }

    private Item item(ModelTensor tensor) {
        return new Item(
                WeightNames.onHub(tensor.name()),
                options.dtype().name(),
                tensor.axes(),
                out -> weights.pieces(tensor, options.dtype(), piece -> piece.toHost(out)));
    }

    /** The base's, less its quantisation, with the dtype and the tying that the weights have now. */
    private String config() {
        Json config = Json.read(options.model().resolve("config.json"));
        ObjectNode changed = config.node().deepCopy();
        changed.remove("quantization_config");
        String dtype = options.dtype() == DType.BF16 ? "bfloat16" : "float32";
        List<ObjectNode> levels = new ArrayList<>(List.of(changed));
        if (changed.get("text_config") instanceof ObjectNode text) {
            levels.add(text);
        }
        for (ObjectNode level : levels) {
            if (!weights.isTied() || level.has("tie_word_embeddings")) {
                level.put("tie_word_embeddings", weights.isTied());
            }
        }
        if (changed.get("vision_config") instanceof ObjectNode vision) {
            levels.add(vision);
        }
        for (ObjectNode level : levels) {
            for (String key : List.of("torch_dtype", "dtype")) {
                if (level.has(key)) {
                    level.put(key, dtype);
                }
            }
        }
        return JsonWriter.sorted(new Json(config.file(), "", changed));
    }

    // ---- the report ----------------------------------------------------------------------------------------------

    private final class Report {
        private final LogitCheck check;
        private LogitCheck.Distance effect; // of the adapter on the base
        private LogitCheck.Distance error; // of the merged checkpoint, against base + adapter
        private List<float[]> trained; // logits of the quantised base + adapter, where another base was taken
        private LogitCheck.Distance cost; // of having taken another
        private final String adapterBase;

        Report(LogitCheck check, String adapterBase) {
            this.check = check;
            this.adapterBase = adapterBase;
        }

        private String base() {
            List<String> stored = weights.storedDtypes();
            if (stored.contains("NF4")) {
                return "the checkpoint's NF4 weights, dequantised to " + name(options.dtype())
                        + "; not the unquantised model they were made from";
            }
            if (options.nf4() == null) {
                return "the checkpoint's own weights (" + String.join(", ", stored) + ")";
            }
            return options.ontoOriginal()
                    ? "the unquantised weights (" + String.join(", ", stored)
                            + "), though the adapter was trained beside their NF4 form"
                    : "the NF4 form of the checkpoint's weights, dequantised to " + name(options.dtype())
                            + ": what the adapter was trained beside";
        }

        private String embedding() {
            return weights.isSaved(ModelTensor.embedding(weights.config()))
                    ? "the copy that the adapter trained"
                    : "the base's";
        }

        private String head() {
            if (weights.isTied()) {
                return "the same table as embed_tokens (tied)";
            }
            String whose = weights.isSaved(ModelTensor.HEAD)
                    ? "the copy that the adapter trained"
                    : weights.hadHead() ? "the base's own" : "the base's embed_tokens as it was before training";
            return whose + ", stored as lm_head.weight (tie_word_embeddings is false now)";
        }

        List<String> lines() {
            List<String> lines = new ArrayList<>();
            lines.add("merged " + weights.mergedLayers() + " layers of " + options.adapter() + " into "
                    + options.model());
            weights.otherName().ifPresent(lines::add);
            lines.addAll(options.notes());
            lines.add("base: " + base());
            lines.add("embed_tokens: " + embedding() + "; lm_head: " + head());
            lines.add(String.format(
                    java.util.Locale.ROOT,
                    "logits at %d positions of %d prompts, in %s: the adapter moves them by %.3g (rms); merged differs from"
                            + " base + adapter by %.3g (rms, at most %.3g), log-probabilities of the top %d by at most"
                            + " %.3g; the likeliest token is the same at %d of %d",
                    error.positions(),
                    check.prompts(),
                    name(check.dtype()),
                    effect.rms(),
                    error.rms(),
                    error.max(),
                    LogitCheck.TOP,
                    error.maxLogprob(),
                    error.sameTop(),
                    error.positions()));
            if (cost != null) {
                lines.add(String.format(
                        java.util.Locale.ROOT,
                        "what taking the unquantised base costs: merged differs from NF4 base + adapter, which was trained,"
                                + " by %.3g (rms, at most %.3g); the likeliest token is the same at %d of %d",
                        cost.rms(),
                        cost.max(),
                        cost.sameTop(),
                        cost.positions()));
            }
            if (effect.rms() == 0) {
                lines.add("note: the adapter changes nothing (its lora_B are zero?), so merged equals the base");
            } else if (error.rms() > 0.5 * effect.rms()) {
                lines.add("note: rounding to " + name(options.dtype()) + " takes much of what this adapter changes;"
                        + " --dtype float32 keeps it");
            }
            return lines;
        }

        Map<String, Object> json() {
            Map<String, Object> json = new LinkedHashMap<>();
            json.put("base_model", options.model().toString());
            json.put("adapter", options.adapter().toString());
            json.put("dtype", name(options.dtype()));
            json.put("base_model_named_by_adapter", adapterBase);
            json.put("base_weights", base());
            json.put("merged_layers", weights.mergedLayers());
            json.put("dequantized_layers", weights.dequantizedLayers());
            json.put("embed_tokens", embedding());
            json.put("lm_head", head());
            json.put("tie_word_embeddings", weights.isTied());
            Map<String, Object> logits = new LinkedHashMap<>();
            logits.put("computed_in", name(check.dtype()));
            logits.put("prompts", check.prompts());
            logits.put("adapter_against_base", effect.json());
            logits.put("merged_against_base_and_adapter", error.json());
            if (cost != null) {
                logits.put("merged_against_nf4_base_and_adapter", cost.json());
            }
            json.put("logits", logits);
            json.put("printed", lines());
            return json;
        }

        private static String name(DType dtype) {
            return dtype == DType.BF16 ? "bfloat16" : "float32";
        }
    }
}
