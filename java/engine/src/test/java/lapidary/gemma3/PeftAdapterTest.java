package lapidary.gemma3;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.nn.LoraSpec;
import lapidary.nn.Parameter;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
record PeftAdapterTest(Device device) {
    private static Path golden(String model) {
        return Path.of("src/test/resources/golden").resolve(model);
    }

    private Gemma3 load(String model, DType dtype, LoraSpec spec) {
        return Gemma3.load(golden(model), device, dtype, spec, 1);
    }

    private static Set<String> strings(JsonNode array) {
        Set<String> strings = new TreeSet<>();
        array.forEach(s -> strings.add(s.textValue()));
        return strings;
    }

    private static Set<String> written(Path folder, String key) {
        return strings(Json.read(folder.resolve(PeftAdapter.CONFIG_FILE)).node().path(key));
    }

    @ParameterizedTest
    @ValueSource(strings = {"text", "multimodal"})
    void anAdapterGoesThroughAModelAndBackUnchanged(String name, @TempDir Path folder) {
        Path original = golden(name).resolve("init");
        try (PeftAdapter init = PeftAdapter.open(original);
                Gemma3 model = load(name, DType.F32, init.spec())) {
            assertEquals(List.of(), init.copyTo(model.parameters(), model.frame()));
            PeftAdapter.write(folder, model.parameters(), model.linears(), init.spec(), "base");
            try (PeftAdapter again = PeftAdapter.open(folder);
                    Gemma3 second = load(name, DType.F32, again.spec())) {
                again.copyTo(second.parameters(), second.frame());
                for (int i = 0; i < model.parameters().size(); i++) {
                    Parameter expected = model.parameters().get(i);
                    Parameter actual = second.parameters().get(i);
                    assertEquals(expected.name(), actual.name());
                    assertArrayEquals(
                            expected.value().toFloats(), actual.value().toFloats(), expected.name());
                }
            }
        }
        // The set that PEFT wrote, not the modules' full names.
        for (String key : List.of("target_modules", "modules_to_save")) {
            assertEquals(written(original, key), written(folder, key), key);
        }
    }

    @ParameterizedTest
    @CsvSource({"text,0", "multimodal,0", "multimodal,1"})
    void endingsThatWouldSelectMoreAreNotWritten(String name, int layer, @TempDir Path folder) {
        List<String> targets = new ArrayList<>();
        try (Gemma3 model = load(name, DType.F32, null)) {
            for (String module : model.linears()) {
                if (module.endsWith("layers." + layer + ".self_attn.q_proj")) {
                    targets.add(module);
                }
            }
        }
        LoraSpec spec = new LoraSpec(2, 4, 0, targets, List.of());
        try (Gemma3 model = load(name, DType.F32, spec)) {
            PeftAdapter.write(folder, model.parameters(), model.linears(), spec, "base");
        }
        assertEquals(new TreeSet<>(targets), written(folder, "target_modules"));
    }

    @Test
    void anExpressionIsWrittenAsTheNamesThatItSelects(@TempDir Path folder) {
        LoraSpec spec = new LoraSpec(2, 4, 0, List.of(".*layers\\.[01]\\.self_attn\\.(q|v)_proj"), List.of());
        try (Gemma3 model = load("text", DType.F32, spec)) {
            PeftAdapter.write(folder, model.parameters(), model.linears(), spec, "base");
        }
        Set<String> expected = new TreeSet<>();
        for (String module : List.of("0.self_attn.q", "0.self_attn.v", "1.self_attn.q", "1.self_attn.v")) {
            expected.add("model.layers." + module + "_proj");
        }
        assertEquals(expected, written(folder, "target_modules"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"text", "multimodal"})
    void valuesThatBf16TablesCannotHoldAreNamed(String name) {
        try (PeftAdapter init = PeftAdapter.open(golden(name).resolve("init"));
                Gemma3 model = load(name, DType.BF16, init.spec())) {
            List<String> rounded = init.copyTo(model.parameters(), model.frame());
            String embed = name.equals("text") ? "model.embed_tokens" : "model.language_model.embed_tokens";
            assertEquals(
                    new TreeSet<>(Set.of("base_model.model.lm_head.weight", "base_model.model." + embed + ".weight")),
                    new TreeSet<>(rounded));
        }
    }

    /** A copy of the golden adapter whose configuration says something else under one key. */
    private static Path altered(Path folder, String key, String value) throws IOException {
        return altered("text", folder, key, value);
    }

    private static Path altered(String name, Path folder, String key, String value) throws IOException {
        Path original = golden(name).resolve("init");
        Files.copy(original.resolve(PeftAdapter.MODEL_FILE), folder.resolve(PeftAdapter.MODEL_FILE));
        ObjectNode config = (ObjectNode)
                Json.read(original.resolve(PeftAdapter.CONFIG_FILE)).node();
        config.set(key, Json.parse("value", value).node());
        Files.writeString(folder.resolve(PeftAdapter.CONFIG_FILE), config.toString());
        return folder;
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "peft_type|\"LOHA\"",
                "bias|\"some\"",
                "use_dora|true",
                "use_rslora|1",
                "r|8",
                "rank_pattern|[8]",
                "rank_pattern|{\"q_proj\": \"8\"}",
                "rank_pattern|{\"q_proj\": 0}",
                "rank_pattern|{\"(q_proj\": 8}",
                "alpha_pattern|{\"q_proj\": -1}",
                "alpha_pattern|{\"q_proj\": \"x\"}",
                "alpha_pattern|{\"(.*.*.*.*.*.*.*.*.*.*)*x\": 1}",
                "ensure_weight_tying|true",
                "rank_pattern|{\"q_proj\": 8}",
                "alora_invocation_tokens|[1, 2]",
                "arrow_config|{\"top_k\": 2}",
                "kasa_config|{\"beta\": 1}",
                "monteclora_config|{\"samples\": 8}",
                "velora_config|{\"rank\": 1}",
                "corda_config|{\"use_float16\": true}",
                "init_lora_weights|\"pissa\"",
                "init_lora_weights|\"pissa_niter_16\"",
                "init_lora_weights|\"loftq\"",
                "use_totally_new|true",
                "use_totally_new|null",
                "modules_to_save|null",
                "modules_to_save|[]",
                "modules_to_save|[\"lm_head\"]",
                "modules_to_save|[\"lm_head\", \"embed_tokens\", \"norm\"]",
                "modules_to_save|[\"lm_head\", \"tokens\"]",
                "modules_to_save|\"lm_head\"",
                "modules_to_save|[1]",
            })
    void whatWouldComputeSomethingElseIsRefusedByName(String key, String value, @TempDir Path folder)
            throws IOException {
        Path adapter = altered(folder, key, value);
        FormatException e = assertThrows(FormatException.class, () -> PeftAdapter.open(adapter));
        assertTrue(e.getMessage().contains(key), e.getMessage());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "bias|\"some\"|expected one of none, all and lora_only",
                "use_dora|true|computes adapters with false alone; merge this one into its base with PEFT",
                "lora_alpha|-1|lora_alpha is -1, expected a number above 0",
            })
    void whatIsRefusedSaysWhatToDo(String key, String value, String said, @TempDir Path folder) throws IOException {
        Path adapter = altered(folder, key, value);
        FormatException e = assertThrows(FormatException.class, () -> PeftAdapter.open(adapter));
        assertTrue(e.getMessage().contains(said), e.getMessage());
    }

    @Test
    void aPickleIsNotReadAndSaysWhatToDo(@TempDir Path folder) throws IOException {
        Path adapter = altered(folder, "r", "4");
        Files.move(adapter.resolve(PeftAdapter.MODEL_FILE), adapter.resolve("adapter_model.bin"));
        assertRefused(adapter, "adapter_model.bin, a pickle", "save_pretrained");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "base_model.model.model.norm.weight",
                "base_model.model.model.vision_tower.post_layernorm.bias",
                "base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj.base_layer.bias",
                "base_model.model.model.multi_modal_projector.mm_input_projection_weight"
            })
    void whatWasTrainedWholeAndIsNoTableIsRefusedWithWhatToDo(String key, @TempDir Path folder) throws IOException {
        Path adapter = altered(folder, "modules_to_save", "[\"norm\"]");
        rename(adapter, "base_model.model.lm_head.weight", key);
        assertRefused(adapter, key + " was trained whole", "merge this adapter into its base with PEFT");
    }

    /** Files of Transformers before 4.52 have other names, and so have the expressions beside them. */
    @Test
    void expressionsAreAboutTheNamesInTheFile(@TempDir Path folder, @TempDir Path older) throws IOException {
        String old = "language_model.model.layers.0.";
        String now = "model.language_model.layers.0.";
        String patterns = "{\"" + old + "mlp.up_proj\": 32, \"^" + now + "mlp.down_proj\": 64, \"q_proj\": 8}";
        for (Path adapter : List.of(folder, older)) {
            altered("multimodal", adapter, "alpha_pattern", patterns);
        }
        rename(older, "base_model.model.model.language_model.", "base_model.model.language_model.model.");
        try (PeftAdapter first = PeftAdapter.open(folder);
                PeftAdapter second = PeftAdapter.open(older)) {
            float all = first.spec().scaling(now + "mlp.gate_proj");
            float rank = first.spec().r();
            assertEquals(List.of(all, 64 / rank, 8 / rank), scalings(first.spec(), now));
            assertEquals(List.of(32 / rank, all, 8 / rank), scalings(second.spec(), now));
            assertEquals(all, second.spec().scaling(now + "mlp.gate_proj"));
            assertEquals(first.spec().targetModules(), second.spec().targetModules());
        }
    }

    /** A rank that the file's tensors do not have is noticed where its expression is about them, and only there. */
    @Test
    void expressionsOfRanksAreAboutTheNamesInTheFile(@TempDir Path folder) throws IOException {
        String old = "^language_model.model.layers.0.mlp.up_proj";
        String now = "^model.language_model.layers.0.mlp.up_proj";
        for (String expression : List.of(old, now)) {
            Path newer = Files.createDirectory(folder.resolve(expression.equals(old) ? "newer-old" : "newer-now"));
            Path older = Files.createDirectory(folder.resolve(expression.equals(old) ? "older-old" : "older-now"));
            for (Path adapter : List.of(newer, older)) {
                altered("multimodal", adapter, "rank_pattern", "{\"" + expression + "\": 32}");
            }
            rename(older, "base_model.model.model.language_model.", "base_model.model.language_model.model.");
            assertRefused(expression.equals(old) ? older : newer, "up_proj", "32");
            PeftAdapter.open(expression.equals(old) ? newer : older).close();
        }
    }

    private static List<Float> scalings(LoraSpec spec, String layer) {
        return List.of(
                spec.scaling(layer + "mlp.up_proj"),
                spec.scaling(layer + "mlp.down_proj"),
                spec.scaling(layer + "self_attn.q_proj"));
    }

    private static void assertRefused(Path adapter, String... words) {
        String message = assertThrows(FormatException.class, () -> PeftAdapter.open(adapter))
                .getMessage();
        for (String word : words) {
            assertTrue(message.contains(word), message);
        }
    }

    private static void rename(Path adapter, String from, String to) throws IOException {
        Path weights = adapter.resolve(PeftAdapter.MODEL_FILE);
        ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(weights)).order(ByteOrder.LITTLE_ENDIAN);
        byte[] header = new byte[(int) file.getLong()];
        file.get(header);
        byte[] renamed =
                new String(header, StandardCharsets.UTF_8).replace(from, to).getBytes(StandardCharsets.UTF_8);
        ByteBuffer changed = ByteBuffer.allocate(8 + renamed.length + file.remaining());
        changed.order(ByteOrder.LITTLE_ENDIAN)
                .putLong(renamed.length)
                .put(renamed)
                .put(file);
        Files.write(weights, changed.array());
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "base_model.model.lm_head.base_layer.weight",
                "base_model.model.model.embed_tokens.lora_embedding_A"
            })
    void loraOnATableIsRefusedWithWhatToDo(String key, @TempDir Path folder) throws IOException {
        Path adapter = altered(folder, "target_modules", "[\"lm_head\"]");
        rename(adapter, "base_model.model.lm_head.weight", key);
        assertRefused(adapter, key + " belongs to LoRA on a table", "merge");
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "rank_pattern|null",
                "bias|\"all\"",
                "bias|\"lora_only\"",
                "use_bdlora|false",
                "kasa_config|null",
                "init_lora_weights|\"gaussian\"",
                "init_lora_weights|false",
                "target_modules|\"all-linear\"",
                "qalora_group_size|32",
                "revision|\"main\"",
                "modules_to_save|[\"model.embed_tokens\", \"lm_head\"]",
            })
    void whatComputesTheSameIsAccepted(String key, String value, @TempDir Path folder) throws IOException {
        try (PeftAdapter adapter = PeftAdapter.open(altered(folder, key, value))) {
            assertEquals(4, adapter.spec().r());
        }
    }
}
