package lapidary.train;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Consumer;
import lapidary.device.DType;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;
import lapidary.format.TensorEntry;
import lapidary.gemma3.Gemma3;
import lapidary.nn.LoraSpec;

/**
 * What makes a run the one that it is: a checkpoint of another is refused, since going on from it would end in something
 * that neither of the two runs is.
 *
 * @param settings that decide every number, by option
 * @param harmless settings that change no number of the adapter, by option; a change is reported
 */
record Identity(Map<String, Object> settings, Map<String, Object> harmless) {
    private static final String DATA_SEED = "data_seed";
    private static final String MASK = "attention_mask";
    private static final String ENGINE = "engine";
    private static final int SAMPLE = 4096; // bytes read at three places of each tensor

    static Identity of(SftConfig config, LoraSpec lora, String device) {
        Map<String, Object> settings = new LinkedHashMap<>();
        settings.put("seed", config.seed());
        settings.put(DATA_SEED, config.orderSeed());
        settings.put("per_device_train_batch_size", config.perDeviceTrainBatchSize());
        settings.put("gradient_accumulation_steps", config.gradientAccumulationSteps());
        settings.put("optim", config.optimizer().optim());
        settings.put("adam_beta1", config.optimizer().beta1());
        settings.put("adam_beta2", config.optimizer().beta2());
        settings.put("adam_epsilon", config.optimizer().epsilon());
        settings.put("weight_decay", config.optimizer().weightDecay());
        settings.put("max_grad_norm", config.maxGradNorm());
        settings.put("lora_r", lora.r());
        settings.put("lora_alpha", lora.alpha());
        settings.put("lora_dropout", lora.dropout());
        settings.put(
                "lora_target_modules", lora.targetModules().stream().sorted().toList());
        settings.put(
                "lora_modules_to_save", lora.modulesToSave().stream().sorted().toList());
        settings.put("dtype", config.dtype() == DType.F32 ? "float32" : "bfloat16");
        settings.put("load_in_4bit", config.loadIn4bit());
        settings.put("use_bnb_nested_quant", config.useBnbNestedQuant());
        settings.put("llm_int8_skip_modules", config.llmInt8SkipModules());
        settings.put("packing", config.packing());
        settings.put("max_length", config.packing() ? config.data().maxLength() : 0);
        settings.put("compat", config.profile().name());
        Map<String, Object> harmless = new LinkedHashMap<>();
        harmless.put("logging_steps", Intervals.plain(config.loggingSteps()));
        harmless.put("gradient_checkpointing", config.gradientCheckpointing());
        harmless.put("eval_strategy", config.evaluation().strategy().name());
        harmless.put("eval_steps", config.evaluation().steps());
        harmless.put("per_device_eval_batch_size", config.evaluation().batchSize());
        harmless.put(
                "metric_for_best_model",
                config.evaluation().bestKey(config.saving().strategy()));
        harmless.put("early_stopping_patience", config.evaluation().earlyStoppingPatience());
        harmless.put("device", device);
        return new Identity(settings, harmless);
    }

    /**
     * @param notice told of harmless differences
     * @throws FormatException naming the first difference that is not
     */
    void requireSame(Path folder, Json saved, Consumer<String> notice) {
        String mask = saved.string(MASK, Gemma3.ATTENTION_MASK); // older checkpoints do not say
        if (!mask.equals(Gemma3.ATTENTION_MASK)) {
            throw refused(
                    folder,
                    "its attention mask was " + mask + " and is " + Gemma3.ATTENTION_MASK
                            + " in this version of the engine (it was written by " + saved.string(ENGINE, "another")
                            + ")");
        }
        String engine = saved.string(ENGINE, engine());
        if (!engine.equals(engine())) {
            notice.accept(
                    "Going on from " + folder + ": it was written by engine " + engine + ", and this is " + engine());
        }
        settings.forEach((option, now) -> {
            String before = text(saved.get("settings"), option);
            if (!before.equals(JsonWriter.line(now))) {
                throw refused(folder, "--" + option + " was " + before + " and is " + JsonWriter.line(now));
            }
        });
        harmless.forEach((option, now) -> {
            String before = text(saved.get("harmless"), option);
            if (!before.equals(JsonWriter.line(now))) {
                notice.accept("Going on from " + folder + ": " + option + " was " + before + " and is "
                        + JsonWriter.line(now));
            }
        });
    }

    /** What wrote a checkpoint, for {@link #requireSame}. */
    static Map<String, Object> versions() {
        return Map.of(MASK, Gemma3.ATTENTION_MASK, ENGINE, engine());
    }

    private static String engine() {
        String version = Identity.class.getPackage().getImplementationVersion();
        return version == null ? "of no version" : version;
    }

    private static String text(Json saved, String option) {
        if (option.equals(DATA_SEED) && !saved.has(option)) {
            return text(saved, "seed"); // of a checkpoint that is older than that option
        }
        return saved.has(option) ? JsonWriter.line(saved.get(option)) : "not known";
    }

    static FormatException refused(Path folder, String difference) {
        return new FormatException("cannot go on from " + folder + ": " + difference + "; resume with what the run was"
                + " started with, or start a new run from its adapter with --init_adapter " + folder);
    }

    /** Of a model folder: its configuration, and of every tensor name, type, shape and bytes at three places. */
    static String ofModel(Path folder) {
        Fingerprint all = new Fingerprint();
        try (Checkpoint checkpoint = Checkpoint.open(folder)) {
            all.add(Files.readAllBytes(folder.resolve("config.json")));
            for (String name : checkpoint.names().stream().sorted().toList()) {
                TensorEntry entry = checkpoint.entry(name);
                all.add((name + " " + entry.dtype()).getBytes(StandardCharsets.UTF_8));
                for (long axis : entry.shape()) {
                    all.add(axis);
                }
                long bytes = entry.data().byteSize();
                for (long at : new long[] {0, bytes / 2, Math.max(0, bytes - SAMPLE)}) {
                    all.add(bytes(entry.data(), at, Math.min(SAMPLE, bytes - at)));
                }
            }
        } catch (IOException e) {
            throw new FormatException("cannot read " + folder.resolve("config.json") + ": " + e.getMessage(), e);
        }
        return all.text();
    }

    private static byte[] bytes(MemorySegment data, long at, long length) {
        return data.asSlice(at, length).toArray(ValueLayout.JAVA_BYTE);
    }
}
