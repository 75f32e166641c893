package lapidary.gemma3;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import lapidary.device.DType;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;
import lapidary.format.Safetensors;
import lapidary.format.SafetensorsWriter;
import lapidary.format.TensorEntry;
import lapidary.nn.LoraPatterns;
import lapidary.nn.LoraSpec;
import lapidary.nn.Parameter;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/** An adapter in PEFT's two files, {@code adapter_config.json} and {@code adapter_model.safetensors}. */
public final class PeftAdapter implements AutoCloseable {
    public static final String CONFIG_FILE = "adapter_config.json";
    public static final String MODEL_FILE = "adapter_model.safetensors";

    private static final String PREFIX = "base_model.model.";
    private static final String A = ".lora_A.weight";
    private static final String B = ".lora_B.weight";

    private static final Set<String> USED = Set.of(
            "r",
            "lora_alpha",
            "lora_dropout",
            "modules_to_save",
            "init_lora_weights",
            "use_rslora",
            "rank_pattern",
            "alpha_pattern",
            "bias");

    /** Keys that change nothing in what a finished adapter computes, and why. */
    private static final Map<String, String> IGNORED = Map.ofEntries(
            Map.entry("auto_mapping", "the model's class in Python"),
            Map.entry("base_model_name_or_path", "the user names the base"),
            Map.entry("revision", "the user names the base"),
            Map.entry("inference_mode", "whether to train is the command's choice"),
            Map.entry("task_type", "the class around the model in Python"),
            Map.entry("peft_version", "who wrote it"),
            Map.entry("target_modules", "the tensors say which modules have adapters"),
            Map.entry("exclude_modules", "the same"),
            Map.entry("layers_to_transform", "the same"),
            Map.entry("layers_pattern", "the same"),
            Map.entry("loftq_config", "belongs to init_lora_weights, which is checked"),
            Map.entry("eva_config", "how lora_A began"),
            Map.entry("megatron_core", "a module's name, used with megatron_config only"),
            Map.entry("qalora_group_size", "used with use_qalora only"),
            Map.entry("runtime_config", "where PEFT computes"));

    /** Settings of PEFT that change what an adapter computes and that this engine does not have, with their neutral value. */
    private static final Map<String, String> NEUTRAL = Map.ofEntries(
            Map.entry("peft_type", "LORA"),
            Map.entry("fan_in_fan_out", "false"),
            Map.entry("lora_bias", "false"),
            Map.entry("use_dora", "false"),
            Map.entry("use_qalora", "false"),
            Map.entry("ensure_weight_tying", "false"),
            Map.entry("use_bdlora", "null"),
            Map.entry("layer_replication", "null"),
            Map.entry("target_parameters", "null"),
            Map.entry("trainable_token_indices", "null"),
            Map.entry("alora_invocation_tokens", "null"),
            Map.entry("arrow_config", "null"),
            Map.entry("corda_config", "null"),
            Map.entry("kasa_config", "null"),
            Map.entry("lora_ga_config", "null"),
            Map.entry("megatron_config", "null"),
            Map.entry("monteclora_config", "null"),
            Map.entry("velora_config", "null"));

    /** Which biases were trained; those that were are in the file, and refused there. Gemma's decoder has none. */
    private static final Set<String> BIASES = Set.of("none", "all", "lora_only");

    /** Ways to begin that leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA train against a changed one. */
    private static final Set<String> BEGINNINGS = Set.of("true", "false", "gaussian", "orthogonal", "eva");

    private final Path directory;
    private final LoraSpec spec;
    private final String baseModel; // as adapter_config.json names it; empty where it does not
    private final Safetensors file;
    private final Map<String, TensorEntry> tensors; // by the name that a Parameter has

    private PeftAdapter(
            Path directory, LoraSpec spec, String baseModel, Safetensors file, Map<String, TensorEntry> tensors) {
        this.directory = directory;
        this.spec = spec;
        this.baseModel = baseModel;
        this.file = file;
        this.tensors = tensors;
    }

    /**
     * Opens an adapter folder.
     *
     * @throws FormatException where a file is missing or malformed, or the adapter is of a kind that this engine does not
     *     compute
     */
    public static PeftAdapter open(Path directory) {
        Path configFile = directory.resolve(CONFIG_FILE);
        Path modelFile = directory.resolve(MODEL_FILE);
        if (!Files.isDirectory(directory)) {
            throw new FormatException(directory + ": no such folder; correct the path to the adapter");
        }
        if (!Files.exists(modelFile) && Files.exists(directory.resolve("adapter_model.bin"))) {
            throw new FormatException(directory + ": has its weights in adapter_model.bin, a pickle, which may run code"
                    + " when it is read, so this engine does not; load the adapter with PEFT and save_pretrained it, which writes "
                    + MODEL_FILE);
        }
        for (Path needed : List.of(configFile, modelFile)) {
            if (!Files.isRegularFile(needed)) {
                throw new FormatException(
                        directory + ": has no " + needed.getFileName() + ", so it is no PEFT adapter");
            }
        }
        JsonNode config = Json.read(configFile).node();
        if (!config.isObject()) {
            throw new FormatException(configFile + ": is no JSON object, so it is no PEFT adapter");
        }
        config.properties().forEach(setting -> check(configFile, setting.getKey(), setting.getValue()));
        if (!config.path("r").canConvertToInt() || config.path("r").intValue() < 1) {
            throw new FormatException(
                    configFile + ": r is " + said(config.path("r")) + ", expected a rank of at least 1");
        }
        if (!config.path("lora_alpha").isNumber() || !(config.path("lora_alpha").doubleValue() > 0)) {
            throw new FormatException(
                    configFile + ": lora_alpha is " + said(config.path("lora_alpha")) + ", expected a number above 0");
        }
        Safetensors file = Safetensors.open(modelFile);
        try {
            return read(directory, config, modelFile, file);
        } catch (RuntimeException e) {
            file.close();
            throw e;
        }
    }

    private static String said(JsonNode value) {
        return value.isMissingNode() ? "missing" : value.toString();
    }

    /** @throws FormatException where this engine would compute something else than what the setting asks for */
    private static void check(Path configFile, String key, JsonNode value) {
        String text = value.isTextual() ? value.textValue() : value.toString();
        if (key.equals("init_lora_weights")) {
            if (!value.isNull() && !BEGINNINGS.contains(text)) {
                throw new FormatException(configFile + ": init_lora_weights is " + value
                        + ", whose adapter belongs to a changed base; convert it to plain LoRA with PEFT first");
            }
            return;
        }
        if (key.equals("bias") && !value.isNull() && !BIASES.contains(text)) {
            throw new FormatException(configFile + ": bias is " + value + ", expected one of none, all and lora_only");
        }
        if (USED.contains(key) || IGNORED.containsKey(key)) {
            return;
        }
        String neutral = NEUTRAL.get(key);
        if (neutral == null) {
            throw new FormatException(configFile + ": key " + key + " is none that PEFT 0.21 writes for LoRA; what it"
                    + " changes is unknown, remove it if nothing");
        }
        boolean off = value.isBoolean() && !value.booleanValue() && neutral.equals("null");
        if (!value.isNull() && !off && !text.equals(neutral)) {
            throw new FormatException(configFile + ": " + key + " is " + value + ", this engine computes adapters with "
                    + neutral + " alone; merge this one into its base with PEFT (merge_and_unload) first");
        }
    }

    private static PeftAdapter read(Path directory, JsonNode config, Path modelFile, Safetensors file) {
        Map<String, TensorEntry> tensors = new TreeMap<>();
        Set<String> targets = new LinkedHashSet<>();
        Map<String, String> namesInMemory = new LinkedHashMap<>(); // by the file's, of modules that have an adapter
        Set<String> halves = new TreeSet<>(); // of which one factor was seen
        Set<String> saved = new LinkedHashSet<>();
        for (String key : file.names()) {
            TensorEntry entry = file.entry(key);
            if (key.startsWith(PREFIX) && !key.endsWith(".weight") && !key.contains(".lora_")) {
                throw notComputed(modelFile, key); // a bias, or a parameter of a module that was trained whole
            }
            if (key.contains(".base_layer.") || key.contains(".lora_embedding_")) {
                throw new FormatException(
                        modelFile + ": tensor " + key + " belongs to LoRA on a table of tokens, lm_head or"
                                + " embed_tokens, which this engine does not compute; train the table whole (modules_to_save), or"
                                + " merge this adapter with PEFT first");
            }
            if (!key.startsWith(PREFIX) || !key.endsWith(".weight")) {
                throw new FormatException(modelFile + ": tensor " + key + " is no adapter weight: expected " + PREFIX
                        + "<module>.lora_A.weight, .lora_B.weight or a saved module's .weight");
            }
            String name = PREFIX + WeightNames.inMemory(key.substring(PREFIX.length()));
            if (tensors.put(name, entry) != null) {
                throw new FormatException(modelFile + ": two tensors mean " + name);
            }
            String module = name.substring(PREFIX.length());
            if (module.endsWith(A) || module.endsWith(B)) {
                String target = module.substring(0, module.length() - A.length());
                targets.add(target);
                namesInMemory.put(key.substring(PREFIX.length(), key.length() - A.length()), target);
                if (!halves.add(target)) {
                    halves.remove(target);
                }
            } else if (module.endsWith("lm_head.weight") || module.endsWith("embed_tokens.weight")) {
                saved.add(module.substring(0, module.length() - ".weight".length()));
            } else {
                throw notComputed(modelFile, key);
            }
        }
        if (targets.isEmpty()) {
            throw new FormatException(modelFile + ": holds no lora_A and lora_B tensors");
        }
        if (!halves.isEmpty()) {
            String module = halves.iterator().next();
            boolean hasA = tensors.containsKey(PREFIX + module + A);
            throw new FormatException(modelFile + ": holds " + (hasA ? "lora_A" : "lora_B") + " of " + module
                    + " but no " + (hasA ? "lora_B" : "lora_A") + "; the adapter is not complete, fetch it again");
        }
        checkSaved(directory, config.path("modules_to_save"), saved);
        Path configFile = directory.resolve(CONFIG_FILE);
        LoraPatterns patterns = patterns(configFile, config, namesInMemory);
        LoraSpec spec = new LoraSpec(
                config.path("r").intValue(),
                config.path("lora_alpha").doubleValue(),
                config.path("lora_dropout").asDouble(0),
                List.copyOf(targets),
                List.copyOf(saved),
                patterns);
        PeftAdapter adapter = new PeftAdapter(
                directory, spec, config.path("base_model_name_or_path").asText(""), file, tensors);
        adapter.pairs().forEach(adapter::checkShapes);
        return adapter;
    }

    private static FormatException notComputed(Path modelFile, String key) {
        return new FormatException(
                modelFile + ": tensor " + key + " was trained whole, which this engine computes of"
                        + " lm_head and embed_tokens alone; merge this adapter into its base with PEFT (merge_and_unload) first");
    }

    /** Expressions are about the names that modules had when they were trained, which are those in the adapter's file. */
    private static LoraPatterns patterns(Path configFile, JsonNode config, Map<String, String> namesInMemory) {
        JsonNode rslora = config.path("use_rslora");
        if (!rslora.isBoolean() && !rslora.isNull() && !rslora.isMissingNode()) {
            throw new FormatException(configFile + ": use_rslora is " + rslora + ", expected true or false");
        }
        Map<String, Integer> ranks = new LinkedHashMap<>();
        pattern(configFile, config, "rank_pattern").forEach((key, value) -> {
            if (!value.canConvertToInt() || !value.isIntegralNumber()) {
                throw new FormatException(configFile + ": rank_pattern gives " + key + " the rank " + value
                        + ", expected a whole number");
            }
            ranks.put(key, value.intValue());
        });
        Map<String, Double> alphas = new LinkedHashMap<>();
        pattern(configFile, config, "alpha_pattern").forEach((key, value) -> {
            if (!value.isNumber()) {
                throw new FormatException(
                        configFile + ": alpha_pattern gives " + key + " the alpha " + value + ", expected a number");
            }
            alphas.put(key, value.doubleValue());
        });
        try {
            return new LoraPatterns(rslora.asBoolean(false), ranks, alphas).renamed(namesInMemory);
        } catch (IllegalArgumentException e) {
            throw new FormatException(configFile + ": " + e.getMessage(), e);
        }
    }

    private static Map<String, JsonNode> pattern(Path configFile, JsonNode config, String key) {
        JsonNode value = config.path(key);
        if (!value.isObject() && !value.isNull() && !value.isMissingNode()) {
            throw new FormatException(configFile + ": " + key + " is " + value + ", expected names and numbers");
        }
        Map<String, JsonNode> entries = new LinkedHashMap<>();
        value.properties().forEach(entry -> entries.put(entry.getKey(), entry.getValue()));
        return entries;
    }

    /** A file whose factors do not fit each other, or another rank than the configuration's, is of two adapters. */
    private void checkShapes(Pair pair) {
        for (TensorEntry factor : List.of(pair.a(), pair.b())) {
            dtype(factor);
            if (factor.shape().length != 2) {
                throw factor.error("is no matrix, expected lora_A [r, in] and lora_B [out, r]");
            }
        }
        long rank = pair.a().shape()[0];
        if (pair.b().shape()[1] != rank) {
            throw pair.b()
                    .error("does not fit its lora_A " + Arrays.toString(pair.a().shape()));
        }
        int expected;
        try {
            expected = spec.rank(pair.module());
            pair.scaling();
        } catch (IllegalArgumentException e) {
            throw new FormatException(directory.resolve(CONFIG_FILE) + ": " + e.getMessage(), e);
        }
        if (rank != expected) {
            throw pair.a()
                    .error("has rank " + rank + ", but " + CONFIG_FILE + " says " + expected
                            + (spec.patterns().ranks().isEmpty() ? " (r)" : " (r and rank_pattern)")
                            + "; fetch both files again from one training run");
        }
    }

    /**
     * The two factors on one linear layer.
     *
     * @param module the layer's name in memory
     * @param a [r, in] F32, BF16 or F16
     * @param b [out, r] F32, BF16 or F16
     * @param spec of the adapter
     */
    public record Pair(String module, TensorEntry a, TensorEntry b, LoraSpec spec) {
        /** What b a is multiplied with before it is added to the layer's matrix. */
        public float scaling() {
            return spec.scaling(module);
        }
    }

    /** The factors of each layer that has an adapter, by the layers' names. */
    public List<Pair> pairs() {
        return spec.targetModules().stream()
                .map(module ->
                        new Pair(module, tensors.get(PREFIX + module + A), tensors.get(PREFIX + module + B), spec))
                .toList();
    }

    /** Modules that were trained whole, by their names in memory, and their weights. */
    public Map<String, TensorEntry> saved() {
        Map<String, TensorEntry> saved = new TreeMap<>();
        spec.modulesToSave().forEach(module -> saved.put(module, tensors.get(PREFIX + module + ".weight")));
        return saved;
    }

    /** @throws FormatException where modules_to_save lists what the file has not, or the other way round */
    private static void checkSaved(Path directory, JsonNode listed, Set<String> saved) {
        Path configFile = directory.resolve(CONFIG_FILE);
        if (!listed.isArray() && !listed.isNull() && !listed.isMissingNode()) {
            throw new FormatException(configFile + ": modules_to_save is " + listed + ", expected a list of names");
        }
        Set<String> unlisted = new TreeSet<>(saved);
        for (JsonNode name : listed) {
            if (!name.isTextual()) {
                throw new FormatException(configFile + ": modules_to_save has " + name + ", expected a name");
            }
            List<String> named = saved.stream()
                    .filter(module -> isNamed(module, name.textValue()))
                    .toList();
            if (named.isEmpty()) {
                throw new FormatException(configFile + ": modules_to_save lists " + name.textValue() + ", but "
                        + MODEL_FILE + " has no tensor of it; the adapter is not complete");
            }
            named.forEach(unlisted::remove);
        }
        if (!unlisted.isEmpty()) {
            throw new FormatException(directory.resolve(MODEL_FILE) + ": holds "
                    + unlisted.iterator().next() + ", which modules_to_save in " + CONFIG_FILE
                    + " does not list; add it there to use it");
        }
    }

    /** Whether a name of the list, whole or its last parts, means that module. */
    private static boolean isNamed(String module, String name) {
        String inMemory = WeightNames.inMemory(name);
        return module.equals(name) || module.endsWith("." + name) || module.equals(inMemory);
    }

    public Path directory() {
        return directory;
    }

    /** What a model must be loaded with to take this adapter: its rank, alpha and modules by their full names. */
    public LoraSpec spec() {
        return spec;
    }

    /** Whether the file has a tensor of that name, which is that of a {@link Parameter}. */
    boolean has(String name) {
        return tensors.containsKey(name);
    }

    /**
     * One tensor, times a factor, in another dtype.
     *
     * @param owner of the result
     * @throws FormatException where it is missing or has another shape
     */
    Tensor read(String name, Frame owner, DType dtype, float factor, long... shape) {
        TensorEntry entry = tensors.get(name);
        if (entry == null) {
            throw new FormatException(directory + ": has no tensor for " + name + "; the adapter is not complete");
        }
        if (!Arrays.equals(entry.shape(), shape)) {
            throw new FormatException(directory.resolve(MODEL_FILE) + ": tensor " + entry.name() + " is "
                    + Arrays.toString(entry.shape()) + ", this model expects " + Arrays.toString(shape)
                    + madeFor());
        }
        Tensor value = owner.empty(dtype, shape);
        try (Frame scratch = owner.child("adapter tensor")) {
            copy(value, entry, factor, scratch);
        }
        return value;
    }

    /** @throws FormatException where the file has tensors that are not among those that were read */
    void requireAllRead(Set<String> read) {
        Set<String> unread = new TreeSet<>(tensors.keySet());
        unread.removeAll(read);
        if (!unread.isEmpty()) {
            throw new FormatException(directory + ": " + unread.size()
                    + " tensors have no place in this model, the first is "
                    + unread.iterator().next() + madeFor());
        }
    }

    /** The base that adapter_config.json names; empty where it names none. */
    public String baseModel() {
        return baseModel;
    }

    /** What the adapter says of its base, for messages. */
    private String madeFor() {
        return baseModel.isEmpty() ? "; is it an adapter of another base?" : "; the adapter was made for " + baseModel;
    }

    /**
     * Copies the adapter's values into a model's parameters.
     *
     * @return names of the parameters that hold less than the file: BF16 of its F32 or F16
     * @throws FormatException where a tensor is missing, has no place in the model, or has another shape; nothing is
     *     left out in silence
     */
    public List<String> copyTo(List<Parameter> parameters, Frame scratchAround) {
        List<String> rounded = new ArrayList<>();
        Set<String> unused = new TreeSet<>(tensors.keySet());
        for (Parameter parameter : parameters) {
            TensorEntry entry = tensors.get(parameter.name());
            if (entry == null) {
                throw new FormatException(directory + ": has no tensor for " + parameter.name());
            }
            unused.remove(parameter.name());
            Tensor value = parameter.value();
            if (!Arrays.equals(entry.shape(), value.shape().toArray())) {
                throw new FormatException(directory.resolve(MODEL_FILE) + ": tensor " + entry.name() + " is "
                        + Arrays.toString(entry.shape()) + ", this model expects " + value.shape());
            }
            if (dtype(entry) != DType.BF16 && value.dtype() == DType.BF16) {
                rounded.add(parameter.name());
            }
            try (Frame scratch = scratchAround.child("adapter")) {
                copy(value, entry, 1, scratch);
            }
        }
        if (!unused.isEmpty()) {
            throw new FormatException(
                    directory + ": " + unused.size() + " tensors have no place in this model, the first is "
                            + unused.iterator().next());
        }
        return rounded;
    }

    private static void copy(Tensor to, TensorEntry entry, float factor, Frame scratch) {
        DType dtype = dtype(entry);
        if (dtype == DType.F16) {
            Weights.fromHalf(to, entry.data(), factor, scratch);
        } else {
            scratch.kernels().convert(to, scratch.borrow(entry.data(), dtype, to.shape()), factor);
        }
    }

    private static DType dtype(TensorEntry entry) {
        return switch (entry.dtype()) {
            case "F32" -> DType.F32;
            case "BF16" -> DType.BF16;
            case "F16" -> DType.F16;
            default -> throw new FormatException(
                    entry.file() + ": tensor " + entry.name() + " is " + entry.dtype() + ", expected F32, BF16 or F16");
        };
    }

    @Override
    public void close() {
        file.close();
    }

    /**
     * Writes an adapter; each file appears whole under its name or not at all.
     *
     * @param linears names of the model's linear layers that may have adapters
     * @param baseModel what adapter_config.json says the adapter belongs to
     */
    public static void write(
            Path directory, List<Parameter> parameters, List<String> linears, LoraSpec spec, String baseModel) {
        List<SafetensorsWriter.Item> tensors = new ArrayList<>();
        for (Parameter parameter : parameters) {
            Tensor value = parameter.value();
            tensors.add(new SafetensorsWriter.Item(
                    parameter.name(), value.dtype().name(), value.shape().toArray(), value::toHost));
        }
        SafetensorsWriter.write(directory.resolve(MODEL_FILE), Map.of("format", "pt"), tensors);
        AtomicFile.writeString(
                directory.resolve(CONFIG_FILE), JsonWriter.sorted(config(parameters, linears, spec, baseModel)));
    }

    /** Every key that PEFT 0.21 writes for LoRA; null and empty where a feature is not used. */
    private static Map<String, Object> config(
            List<Parameter> parameters, List<String> linears, LoraSpec spec, String baseModel) {
        Map<String, Object> config = new TreeMap<>();
        for (String absent : List.of(
                "alora_invocation_tokens",
                "arrow_config",
                "auto_mapping",
                "corda_config",
                "eva_config",
                "exclude_modules",
                "kasa_config",
                "layer_replication",
                "layers_pattern",
                "layers_to_transform",
                "lora_ga_config",
                "megatron_config",
                "monteclora_config",
                "revision",
                "target_parameters",
                "trainable_token_indices",
                "use_bdlora",
                "velora_config")) {
            config.put(absent, null);
        }
        for (String off : List.of("ensure_weight_tying", "fan_in_fan_out", "lora_bias", "use_dora", "use_qalora")) {
            config.put(off, false);
        }
        config.put("alpha_pattern", spec.patterns().alphas());
        config.put("rank_pattern", spec.patterns().ranks());
        config.put("use_rslora", spec.patterns().rslora());
        config.put("loftq_config", Map.of());
        config.put("base_model_name_or_path", baseModel);
        config.put("bias", "none");
        config.put("inference_mode", true);
        config.put("init_lora_weights", true);
        boolean whole = spec.alpha() == Math.rint(spec.alpha()) && spec.alpha() < 1e9;
        config.put("lora_alpha", whole ? (Object) (int) spec.alpha() : (Object) spec.alpha());
        config.put("lora_dropout", spec.dropout());
        config.put("megatron_core", "megatron.core");
        config.put("modules_to_save", spec.modulesToSave().isEmpty() ? null : LoraSpec.lastParts(spec.modulesToSave()));
        config.put("peft_type", "LORA");
        config.put("peft_version", "0.21.0"); // whose format this is
        config.put("qalora_group_size", 16);
        config.put("r", spec.r());
        config.put("target_modules", targetNames(parameters, linears, spec));
        config.put("task_type", "CAUSAL_LM");
        return config;
    }

    /**
     * Names as PEFT compresses them: the last part of each module's name, where those select the modules that have
     * adapters and no other. Where names were asked for, those; they select the same modules.
     */
    private static List<String> targetNames(List<Parameter> parameters, List<String> linears, LoraSpec spec) {
        boolean full = spec.isExpression() || spec.targetModules().stream().anyMatch(name -> name.contains("."));
        if (!spec.targetModules().contains(LoraSpec.ALL_LINEAR) && !full) {
            return spec.targetModules();
        }
        List<String> modules = new ArrayList<>();
        for (Parameter parameter : parameters) {
            if (parameter.name().endsWith(A)) {
                modules.add(parameter
                        .name()
                        .substring(PREFIX.length(), parameter.name().length() - A.length()));
            }
        }
        List<String> endings = LoraSpec.lastParts(modules);
        LoraSpec compressed = new LoraSpec(spec.r(), spec.alpha(), spec.dropout(), endings, List.of());
        return linears.stream().filter(compressed::targets).toList().size() == modules.size() ? endings : modules;
    }
}
