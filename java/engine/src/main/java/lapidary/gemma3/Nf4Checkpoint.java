package lapidary.gemma3;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;
import lapidary.format.NewFolder;
import lapidary.format.SafetensorsWriter;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.quant.QuantStorage;

/**
 * Writes a checkpoint with its linear layers in NF4, as Transformers does with bitsandbytes: config.json with a
 * quantization_config, safetensors under the tensors' names in the source, and the processor's files.
 */
public final class Nf4Checkpoint {
    private static final List<String> OTHER_FILES = List.of("generation_config.json");

    private final Gemma3 model;
    private final Path source;
    private final Nf4Options options;
    private final QuantStorage storage;
    private final long maxShardBytes;

    private Nf4Checkpoint(Gemma3 model, Path source, Nf4Options options, QuantStorage storage, long maxShardBytes) {
        this.model = model;
        this.source = source;
        this.options = options;
        this.storage = storage;
        this.maxShardBytes = maxShardBytes;
    }

    /**
     * What was written.
     *
     * @param matrices number of linear layers in NF4
     * @param bytes of all tensors
     */
    public record Written(int matrices, long bytes, int files) {}

    /**
     * Quantises the checkpoint in {@code source} into a new folder, which appears complete or not at all.
     *
     * @param target must not exist yet, or be empty
     * @param dtype BF16 or F32: what weights are rounded to before they are quantised, and what the others are stored as
     * @param maxShardBytes of tensors in one file; more make several files and an index
     * @throws FormatException where the source is no plain Gemma 3 checkpoint, or the target cannot be written
     * @throws IllegalArgumentException where an option does not fit the model
     */
    public static Written write(
            Path source,
            Path target,
            Device device,
            DType dtype,
            Nf4Options options,
            QuantStorage storage,
            long maxShardBytes) {
        NewFolder.requireFree("--output_dir", target);
        if (Gemma3.readConfig(source).isQuantized()) {
            throw new FormatException(source.resolve("config.json")
                    + ": the checkpoint is quantised already; give the unquantised one of the same model");
        }
        try (Gemma3 model = Gemma3.load(source, device, new Precision(dtype, options, false), null, 0)) {
            return new Nf4Checkpoint(model, source, options, storage, maxShardBytes).write(target);
        }
    }

    private Written write(Path target) {
        List<List<Item>> shards = shards();
        long bytes = shards.stream().mapToLong(Nf4Checkpoint::bytes).sum();
        NewFolder.requireRoom("--output_dir", target, bytes);
        AtomicFile.writeNewFolder(target, folder -> {
            if (shards.size() == 1) {
                writeShard(folder.resolve("model.safetensors"), shards.get(0));
            } else {
                Map<String, Object> weightMap = new LinkedHashMap<>();
                for (int i = 0; i < shards.size(); i++) {
                    String name = String.format("model-%05d-of-%05d.safetensors", i + 1, shards.size());
                    writeShard(folder.resolve(name), shards.get(i));
                    shards.get(i).forEach(item -> weightMap.put(item.name(), name));
                }
                AtomicFile.writeString(
                        folder.resolve("model.safetensors.index.json"),
                        JsonWriter.sorted(Map.of("metadata", Map.of("total_size", bytes), "weight_map", weightMap))
                                + "\n");
            }
            AtomicFile.writeString(folder.resolve("config.json"), config() + "\n");
            ProcessorFiles.copy(source, folder);
            ProcessorFiles.copy(OTHER_FILES, source, folder);
        });
        return new Written(model.weights().quantizedNames().size(), bytes, shards.size());
    }

    private static void writeShard(Path file, List<Item> items) {
        SafetensorsWriter.write(file, Map.of("format", "pt"), items);
    }

    private static long bytes(List<Item> items) {
        return items.stream().mapToLong(Item::bytes).sum();
    }

    /** Tensors in the order of the source, those of a matrix together. */
    private List<List<Item>> shards() {
        List<List<Item>> shards = new ArrayList<>();
        List<Item> shard = new ArrayList<>();
        long filled = 0;
        for (String key : model.weights().keys()) {
            List<Item> items = model.weights().items(key, storage);
            if (!shard.isEmpty() && filled + bytes(items) > maxShardBytes) {
                shards.add(shard);
                shard = new ArrayList<>();
                filled = 0;
            }
            shard.addAll(items);
            filled += bytes(items);
        }
        shards.add(shard);
        return shards;
    }

    /** The source's, with the dtype that it has now and how it is quantised. */
    private String config() {
        Json config = Json.read(source.resolve("config.json"));
        ObjectNode changed = config.node().deepCopy();
        String dtype = model.dtype() == DType.BF16 ? "bfloat16" : "float32";
        setDtype(changed, dtype);
        for (String part : List.of("text_config", "vision_config")) {
            if (changed.get(part) instanceof ObjectNode inner) {
                setDtype(inner, dtype);
            }
        }
        ObjectNode quantization = changed.putObject("quantization_config");
        quantization.put("_load_in_4bit", true);
        quantization.put("_load_in_8bit", false);
        quantization.put("bnb_4bit_compute_dtype", dtype);
        quantization.put("bnb_4bit_quant_storage", storage.torchName());
        quantization.put("bnb_4bit_quant_type", "nf4");
        quantization.put("bnb_4bit_use_double_quant", options.doubleQuant());
        quantization.put("llm_int8_enable_fp32_cpu_offload", false);
        quantization.put("llm_int8_has_fp16_weight", false);
        List<String> skipped = skippedForTransformers();
        if (skipped.isEmpty()) {
            quantization.putNull("llm_int8_skip_modules");
        } else {
            ArrayNode names = quantization.putArray("llm_int8_skip_modules");
            skipped.forEach(names::add);
        }
        quantization.put("llm_int8_threshold", 6.0);
        quantization.put("load_in_4bit", true);
        quantization.put("load_in_8bit", false);
        quantization.put("quant_method", "bitsandbytes");
        return JsonWriter.sorted(new Json(config.file(), "", changed));
    }

    private static void setDtype(ObjectNode config, String dtype) {
        for (String key : List.of("torch_dtype", "dtype")) {
            if (config.has(key)) {
                config.put(key, dtype);
            }
        }
    }

    /**
     * A skip list that means the same to Transformers, to which names are any beginnings or ends, and a list of one's own
     * takes the place of its own one, which has the output head. Empty for that one.
     */
    private List<String> skippedForTransformers() {
        if (options.skipModules().isEmpty()) {
            return List.of();
        }
        Set<String> left = new HashSet<>(model.linears());
        Set<String> quantized = model.weights().quantizedNames();
        left.removeIf(module -> quantized.contains(module + ".weight"));
        List<String> asGiven = new ArrayList<>(options.skipModules());
        boolean same = model.linears().stream()
                .allMatch(module -> left.contains(module)
                        == asGiven.stream().anyMatch(name -> module.startsWith(name) || module.endsWith(name)));
        List<String> names =
                same ? asGiven : new ArrayList<>(left.stream().sorted().toList());
        if (!names.contains("lm_head")) {
            names.add("lm_head");
        }
        return names;
    }
}
