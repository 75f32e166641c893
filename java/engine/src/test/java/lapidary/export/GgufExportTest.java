package lapidary.export;

import static lapidary.export.Fixtures.GOLDEN;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.PriorityQueue;
import java.util.Random;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.stream.Stream;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.GgufWriter;
import lapidary.format.GgufWriter.Type;
import lapidary.format.TensorEntry;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.PeftAdapter;
import lapidary.gemma3.WeightNames;
import lapidary.nn.LoraSpec;
import lapidary.tokenizer.Tokenizer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class GgufExportTest {
    /** The only small checkpoint with a tokenizer here; its head is tied, its images are 4 x 4 tokens of 2 x 2 patches. */
    private static final Path DEMO = Path.of("src/main/resources/lapidary/demo/base");

    private final Device device;

    @TempDir
    private Path folder;

    GgufExportTest(Device device) {
        this.device = device;
    }

    @AfterEach
    void thePoolIsEmpty() {
        assertEquals(0, device.pool().inUse());
    }

    private List<String> export(Path model, Path adapter, Type type) {
        return GgufExport.write(new GgufExport.Options(model, adapter, folder.resolve("out"), "demo", type), device)
                .lines();
    }

    private GgufFile text(Type type) throws IOException {
        return GgufFile.read(folder.resolve("out/demo-" + type.name().toLowerCase(java.util.Locale.ROOT) + ".gguf"));
    }

    private GgufFile vision(Type type) throws IOException {
        return GgufFile.read(
                folder.resolve("out/mmproj-demo-" + type.name().toLowerCase(java.util.Locale.ROOT) + ".gguf"));
    }

    /** The demo's checkpoint with another config, and with the files beside it. */
    private Path changed(Consumer<ObjectNode> config) throws IOException {
        Path model = Fixtures.model(DEMO, folder.resolve("model"), Fixtures::same, config);
        try (Stream<Path> files = Files.list(DEMO)) {
            for (Path file : files.toList()) {
                Path copy = model.resolve(file.getFileName());
                if (!Files.exists(copy) && !file.toString().endsWith(".safetensors")) {
                    Files.copy(file, copy);
                }
            }
        }
        return model;
    }

    private Map<String, TensorEntry> byMemory(Checkpoint checkpoint) {
        Map<String, TensorEntry> entries = new TreeMap<>();
        checkpoint.names().forEach(name -> entries.put(WeightNames.inMemory(name), checkpoint.entry(name)));
        return entries;
    }

    // ---- weights -------------------------------------------------------------------------------------------------

    private static final String LAYER = "model.language_model.layers.1.";
    private static final String TOWER = "model.vision_tower.encoder.layers.0.";

    @ParameterizedTest
    @EnumSource(Type.class)
    void everyWeightIsThereUnderLlamasName(Type type) throws IOException {
        export(DEMO, null, type);
        try (Checkpoint checkpoint = Checkpoint.open(DEMO)) {
            Map<String, TensorEntry> stored = byMemory(checkpoint);
            GgufFile text = text(type);
            GgufFile vision = vision(type);
            int layers = (int) text.metadata().get("gemma3.block_count");
            int towers = (int) vision.metadata().get("clip.vision.block_count");
            assertEquals(2 + 13 * layers, text.tensors().size());
            assertEquals(7 + 16 * towers, vision.tensors().size());
            assertEquals(stored.size(), text.tensors().size() + vision.tensors().size());
            String[][] matrices = {
                {"token_embd", "model.language_model.embed_tokens"},
                {"blk.1.attn_q", LAYER + "self_attn.q_proj"},
                {"blk.1.attn_k", LAYER + "self_attn.k_proj"},
                {"blk.1.attn_v", LAYER + "self_attn.v_proj"},
                {"blk.1.attn_output", LAYER + "self_attn.o_proj"},
                {"blk.1.ffn_gate", LAYER + "mlp.gate_proj"},
                {"blk.1.ffn_up", LAYER + "mlp.up_proj"},
                {"blk.1.ffn_down", LAYER + "mlp.down_proj"},
                {"v.blk.0.attn_q", TOWER + "self_attn.q_proj"},
                {"v.blk.0.attn_k", TOWER + "self_attn.k_proj"},
                {"v.blk.0.attn_v", TOWER + "self_attn.v_proj"},
                {"v.blk.0.attn_out", TOWER + "self_attn.out_proj"},
                {"v.blk.0.ffn_up", TOWER + "mlp.fc1"},
                {"v.blk.0.ffn_down", TOWER + "mlp.fc2"},
            };
            for (String[] names : matrices) {
                GgufFile.Stored found =
                        (names[0].startsWith("v.") ? vision : text).tensors().get(names[0] + ".weight");
                check(found, stored.get(names[1] + ".weight"), type, 0, names[0]);
            }
            String[][] asTheyAre = {
                {"v.patch_embd.weight", "model.vision_tower.embeddings.patch_embedding.weight"},
                {"v.patch_embd.bias", "model.vision_tower.embeddings.patch_embedding.bias"},
                {"v.position_embd.weight", "model.vision_tower.embeddings.position_embedding.weight"},
                {"v.post_ln.weight", "model.vision_tower.post_layernorm.weight"},
                {"v.post_ln.bias", "model.vision_tower.post_layernorm.bias"},
                {"v.blk.0.ln1.weight", TOWER + "layer_norm1.weight"},
                {"v.blk.0.ln2.bias", TOWER + "layer_norm2.bias"},
                {"v.blk.0.ffn_down.bias", TOWER + "mlp.fc2.bias"},
            };
            for (String[] names : asTheyAre) {
                check(vision.tensors().get(names[0]), stored.get(names[1]), Type.F32, 0, names[0]);
            }
            String[][] norms = {
                {"output_norm", "model.language_model.norm"},
                {"blk.1.attn_norm", LAYER + "input_layernorm"},
                {"blk.1.attn_k_norm", LAYER + "self_attn.k_norm"},
                {"blk.1.post_attention_norm", LAYER + "post_attention_layernorm"},
                {"blk.1.ffn_norm", LAYER + "pre_feedforward_layernorm"},
                {"blk.1.post_ffw_norm", LAYER + "post_feedforward_layernorm"},
                {"mm.soft_emb_norm", "model.multi_modal_projector.mm_soft_emb_norm"},
            };
            for (String[] names : norms) {
                GgufFile.Stored found =
                        (names[0].startsWith("mm.") ? vision : text).tensors().get(names[0] + ".weight");
                check(found, stored.get(names[1] + ".weight"), Type.F32, 1, names[0]);
            }
            check(
                    vision.tensors().get("mm.input_projection.weight"),
                    stored.get("model.multi_modal_projector.mm_input_projection_weight"),
                    Type.F16,
                    0,
                    "mm.input_projection");
        }
    }

    /** Axes the other way round, the same values in order, plus {@code one}; as near as the type holds them. */
    private static void check(GgufFile.Stored found, TensorEntry entry, Type asked, float one, String name) {
        List<Long> axes = new ArrayList<>();
        for (int i = entry.shape().length - 1; i >= 0; i--) {
            axes.add(entry.shape()[i]);
        }
        assertEquals(axes, found.axes(), name);
        Type type = axes.get(0) % asked.block() == 0 ? asked : Type.F16;
        assertEquals(type.code(), found.type(), name);
        float[] values = found.floats();
        float[] expected = Fixtures.floats(entry);
        for (int i = 0; i < values.length; i++) {
            float max = 0;
            for (int k = i / 32 * 32; type == Type.Q8_0 && k < i / 32 * 32 + 32; k++) {
                max = Math.max(max, Math.abs(expected[k]));
            }
            double tolerance =
                    switch (type) {
                        case F32, BF16 -> 0; // the checkpoint is in BF16
                        case F16 -> Math.max(Math.abs(expected[i]) / 2048, 3e-8);
                        case Q8_0 -> max * (0.5 / 127 + 1.0 / 2048);
                    };
            assertEquals(expected[i] + one, values[i], tolerance, name + " " + i);
        }
    }

    /** ggml's own loop, in its order and its types. */
    @Test
    void q80IsGgmlsToTheBit() {
        Random random = new Random(3);
        float[] values = new float[32 * 4000];
        for (int i = 0; i < values.length; i++) {
            int block = i / 32;
            values[i] = block == 0 ? 0 : (float) (random.nextGaussian() * Math.pow(10, block % 9 - 6));
            if (block % 5 == 1) { // many halves exactly
                values[i] = (random.nextInt(255) - 127) / 2f;
            }
        }
        ByteBuffer bytes = q80(values);
        for (int block = 0; block < values.length / 32; block++) {
            float amax = 0.0f;
            for (int j = 0; j < 32; j++) {
                float v = values[block * 32 + j];
                amax = amax > Math.abs(v) ? amax : Math.abs(v);
            }
            float d = amax / 127;
            float id = d != 0 ? 1.0f / d : 0.0f;
            assertEquals(Float.floatToFloat16(d), bytes.getShort(block * 34));
            for (int j = 0; j < 32; j++) {
                float x0 = values[block * 32 + j] * id;
                // C's roundf: to the nearest, halves away from zero
                double away = Math.floor(Math.abs((double) x0) + 0.5);
                assertEquals(
                        (byte) (x0 < 0 ? -away : away), bytes.get(block * 34 + 2 + j), "block " + block + ", " + j);
            }
        }
    }

    /** What gguf 0.19.0's quantize_q8_0 makes of these values. */
    @Test
    void q80IsThePythonPackages() {
        float[] values = new float[32];
        for (int i = 0; i < 32; i++) {
            values[i] = (i - 16) * 0.37f + (i % 3) * 0.011f;
        }
        byte[] expected = Q80_OF_PYTHON;
        byte[] found = new byte[34];
        q80(values).get(0, found);
        assertArrayEquals(expected, found);
    }

    private static final byte[] Q80_OF_PYTHON = {
        -9, 41, -127, -119, -111, -103, -95, -87, -79, -71, -63, -56, -47, -39, -32, -24, -15, -8, 0, 8, 16, 24, 32, 40,
        48, 56, 63, 72, 80, 87, 95, 104, 111, 119
    };

    private static ByteBuffer q80(float[] values) {
        MemorySegment segment = GgufValues.q80(values);
        return segment.asByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
    }

    // ---- what is folded in ---------------------------------------------------------------------------------------

    @ParameterizedTest
    @ValueSource(doubles = {24, 256, 32})
    void theScaleOfScoresIsInTheNormOfQueries(double scalar) throws IOException {
        Path model = changed(config -> ((ObjectNode) config.get("text_config")).put("query_pre_attn_scalar", scalar));
        String lines = String.join("\n", export(model, null, Type.F32));
        int headDim = (int) text(Type.F32).metadata().get("gemma3.attention.key_length");
        float factor = (float) Math.sqrt(headDim / scalar);
        assertEquals(factor != 1, lines.contains("query_pre_attn_scalar"), lines);
        try (Checkpoint checkpoint = Checkpoint.open(model)) {
            float[] stored = Fixtures.floats(byMemory(checkpoint).get(LAYER + "self_attn.q_norm.weight"));
            float[] found =
                    text(Type.F32).tensors().get("blk.1.attn_q_norm.weight").floats();
            for (int i = 0; i < stored.length; i++) {
                assertEquals((stored[i] + 1) * factor, found[i], 1e-6);
            }
        }
    }

    @Test
    void anAdapterIsMergedOnTheWay() throws IOException {
        Path adapter = folder.resolve("a");
        LoraSpec spec = new LoraSpec(2, 4, 0, List.of("all-linear"), List.of("lm_head"));
        try (Gemma3 model = Gemma3.load(DEMO, device, DType.F32, spec, 1)) {
            model.parameters().forEach(p -> {
                if (p.name().contains("lora_B") || p.name().endsWith("lm_head.weight")) {
                    float[] values = new float[(int) p.value().elements()];
                    for (int i = 0; i < values.length; i++) {
                        values[i] = (i % 11 - 5) * 0.01f;
                    }
                    device.copyIn(p.value().segment(), MemorySegment.ofArray(values));
                }
            });
            PeftAdapter.write(adapter, model.parameters(), model.linears(), spec, "base");
        }
        String lines = String.join("\n", export(DEMO, adapter, Type.F32));
        assertTrue(lines.contains("kept as output.weight"), lines);
        GgufFile direct = text(Type.F32);
        MergedCheckpoint.write(
                new MergedCheckpoint.Options(
                        DEMO,
                        adapter,
                        folder.resolve("merged"),
                        DType.F32,
                        null,
                        false,
                        1L << 30,
                        List.of("Why?"),
                        List.of(),
                        List.of()),
                device);
        GgufExport.write(
                new GgufExport.Options(folder.resolve("merged"), null, folder.resolve("second"), "demo", Type.F32),
                device);
        GgufFile merged = GgufFile.read(folder.resolve("second/demo-f32.gguf"));
        assertEquals(direct.tensors().keySet(), merged.tensors().keySet());
        assertTrue(direct.tensors().containsKey("output.weight"));
        direct.tensors()
                .forEach((name, tensor) -> assertArrayEquals(
                        tensor.data(), merged.tensors().get(name).data(), name));
    }

    // ---- keys ----------------------------------------------------------------------------------------------------

    @Test
    void theKeysAreTheConfigurations() throws IOException {
        export(DEMO, null, Type.Q8_0);
        var config = Gemma3.readConfig(DEMO);
        Map<String, Object> keys = text(Type.Q8_0).metadata();
        assertEquals("gemma3", keys.get("general.architecture"));
        assertEquals(7, keys.get("general.file_type"));
        assertEquals(config.text().numHiddenLayers(), keys.get("gemma3.block_count"));
        assertEquals(config.text().hiddenSize(), keys.get("gemma3.embedding_length"));
        assertEquals(config.text().slidingWindow(), keys.get("gemma3.attention.sliding_window"));
        assertEquals((float) config.text().globalRope().theta(), keys.get("gemma3.rope.freq_base"));
        assertEquals(
                config.text().globalRope().factor() == 1
                        ? null
                        : (float) config.text().globalRope().factor(),
                keys.get("gemma3.rope.scaling.factor"));
        assertEquals(2, keys.get("tokenizer.ggml.bos_token_id"));
        Map<String, Object> vision = vision(Type.Q8_0).metadata();
        assertEquals("clip", vision.get("general.architecture"));
        assertEquals(config.vision().imageSize(), vision.get("clip.vision.image_size"));
        int scale = config.vision().side() / config.tokensPerSide();
        assertEquals(scale == 4 ? null : scale, vision.get("clip.vision.projector.scale_factor"));
        assertEquals(List.of(0.5f, 0.5f, 0.5f), vision.get("clip.vision.image_mean"));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            nullValues = "none",
            value = {"FFFFFTFFFFFT|6", "FFF|6", "FTFTF|2", "TTT|1", "FFTFF|3", "FFFFFFF|8", "FTTF|none", "TFFFFF|none"})
    void globalLayersComeAtOneDistanceOrNot(String layers, Integer every) {
        List<Boolean> global = layers.chars().mapToObj(c -> c == 'T').toList();
        assertEquals(every == null ? OptionalInt.empty() : OptionalInt.of(every), GgufExport.every(global));
    }

    @ParameterizedTest
    @CsvSource({"2,2", "6,"})
    void theDistanceIsSaidWhereItIsNotTheUsual(int every, Integer said) throws IOException {
        export(changed(c -> ((ObjectNode) c.get("text_config")).put("sliding_window_pattern", every)), null, Type.F32);
        assertEquals(said, text(Type.F32).metadata().get("gemma3.attention.sliding_window_pattern"));
    }

    // ---- the tokenizer -------------------------------------------------------------------------------------------

    /** llama.cpp's way with the exported pieces and scores: highest score first, of equal ones the leftmost. */
    private static List<Integer> sentencePiece(List<?> tokens, List<?> scores, String text) {
        Map<String, Integer> ids = new TreeMap<>();
        for (int id = 0; id < tokens.size(); id++) {
            ids.putIfAbsent((String) tokens.get(id), id);
        }
        List<String> symbols = new ArrayList<>();
        text.replace(' ', '\u2581').codePoints().forEach(c -> symbols.add(Character.toString(c)));
        while (true) {
            record Pair(int at, float score) {}
            PriorityQueue<Pair> pairs = new PriorityQueue<>((a, b) ->
                    a.score() != b.score() ? Float.compare(b.score(), a.score()) : Integer.compare(a.at(), b.at()));
            for (int i = 0; i + 1 < symbols.size(); i++) {
                Integer id = ids.get(symbols.get(i) + symbols.get(i + 1));
                if (id != null) {
                    pairs.add(new Pair(i, (float) scores.get(id)));
                }
            }
            if (pairs.isEmpty()) {
                break;
            }
            int at = pairs.peek().at();
            symbols.set(at, symbols.get(at) + symbols.remove(at + 1));
        }
        List<Integer> out = new ArrayList<>();
        for (String symbol : symbols) {
            if (ids.containsKey(symbol)) {
                out.add(ids.get(symbol));
            } else {
                for (byte b : symbol.getBytes(java.nio.charset.StandardCharsets.UTF_8)) {
                    out.add(ids.get(String.format("<0x%02X>", b)));
                }
            }
        }
        return out;
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "What is in the picture?",
                "a red circle and two blue squares",
                "How many triangles are there?",
                "naïve 日本 🙂 x=1",
                "aaaaaaaaaaaaaaaa",
                "The circle is left of the square.",
            })
    void scoresMergeInTheOrderOfMerges(String words) throws IOException {
        export(DEMO, null, Type.F32);
        Map<String, Object> keys = text(Type.F32).metadata();
        List<Integer> found = sentencePiece(
                (List<?>) keys.get("tokenizer.ggml.tokens"), (List<?>) keys.get("tokenizer.ggml.scores"), words);
        int[] expected = Tokenizer.load(DEMO.resolve("tokenizer.json")).encode(words);
        assertArrayEquals(expected, found.stream().mapToInt(Integer::intValue).toArray());
    }

    @Test
    void everyRowOfTheEmbeddingHasAToken() throws IOException {
        export(DEMO, null, Type.F32);
        Map<String, Object> keys = text(Type.F32).metadata();
        Tokenizer tokenizer = Tokenizer.load(DEMO.resolve("tokenizer.json"));
        List<?> tokens = (List<?>) keys.get("tokenizer.ggml.tokens");
        List<?> kinds = (List<?>) keys.get("tokenizer.ggml.token_type");
        List<?> scores = (List<?>) keys.get("tokenizer.ggml.scores");
        assertEquals(Gemma3.readConfig(DEMO).text().vocabSize(), tokens.size());
        assertEquals(tokens.size(), kinds.size());
        assertEquals(tokens.size(), scores.size());
        int[] seen = new int[7];
        for (int id = 0; id < tokens.size(); id++) {
            int kind = (int) kinds.get(id);
            seen[kind]++;
            assertEquals(!tokenizer.has(id), kind == 5, "id " + id);
            if (tokenizer.has(id)) {
                assertEquals(tokenizer.isSpecial(id), kind == 3, "id " + id);
                assertEquals(tokenizer.isAdded(id) && !tokenizer.isSpecial(id), kind == 4, "id " + id);
                assertEquals(
                        kind == 4 ? tokenizer.token(id).replace('\u2581', ' ') : tokenizer.token(id), tokens.get(id));
            } else {
                assertEquals("[PAD" + id + "]", tokens.get(id));
            }
        }
        assertEquals(256, seen[6]);
        assertTrue(seen[1] > 50 && seen[3] > 10 && seen[4] > 5, java.util.Arrays.toString(seen));
        assertTrue(((String) keys.get("tokenizer.chat_template")).contains("<start_of_turn>"));
    }

    // ---- what is refused -----------------------------------------------------------------------------------------

    private void refused(Path model, Type type, String... words) {
        FormatException e = assertThrows(FormatException.class, () -> export(model, null, type));
        for (String word : words) {
            assertTrue(e.getMessage().contains(word), e.getMessage());
        }
        assertFalse(Files.exists(folder.resolve("out")));
        assertFalse(Files.exists(folder.resolve(".out.part")));
    }

    @Test
    void modelsThatTheFormatCannotSay() throws IOException {
        refused(
                changed(c -> ((ObjectNode) c.get("text_config")).put("final_logit_softcapping", 30.0)),
                Type.F32,
                "final_logit_softcapping is 30.0");
        refused(
                changed(c -> ((ObjectNode) c.get("text_config")).put("rope_local_base_freq", 5000.0)),
                Type.F32,
                "sliding layers is 5000.0");
        refused(
                changed(c -> {
                    var kinds = ((ObjectNode) c.get("text_config")).putArray("layer_types");
                    for (char kind : "sffsss".toCharArray()) {
                        kinds.add(kind == 's' ? "sliding_attention" : "full_attention");
                    }
                }),
                Type.F32,
                "do not come at one distance");
    }

    @Test
    void aScaledLocalRope() throws IOException {
        refused(
                changed(c -> {
                    ObjectNode text = (ObjectNode) c.get("text_config");
                    text.remove("rope_scaling");
                    ObjectNode rope = text.putObject("rope_parameters");
                    rope.putObject("full_attention").put("rope_type", "default").put("rope_theta", 1e6);
                    rope.putObject("sliding_attention")
                            .put("rope_type", "linear")
                            .put("factor", 2.0)
                            .put("rope_theta", 1e4);
                }),
                Type.F32,
                "scaled by 2.0");
    }

    @Test
    void noSlidingLayerAtAll() throws IOException {
        Path model = changed(c -> ((ObjectNode) c.get("text_config")).put("sliding_window_pattern", 1));
        refused(model, Type.F32, "all layers are global", "llama.cpp");
    }

    @Test
    void valuesBeyondHalfPrecision() throws IOException {
        Path model = changed(c -> {});
        Fixtures.model(
                DEMO,
                model,
                entry -> entry.name().endsWith("layers.0.mlp.up_proj.weight")
                        ? List.of(Fixtures.with(entry, 7, 70000))
                        : Fixtures.same(entry),
                c -> {});
        refused(model, Type.F16, "layers.0.mlp.up_proj.weight holds 70000", "--outtype bf16");
    }

    @Test
    void aCheckpointWithoutTokenizer() {
        refused(GOLDEN.resolve("multimodal"), Type.F32, "tokenizer.json is missing");
    }

    @Test
    void aFolderThatIsNotFree() throws IOException {
        Files.createDirectories(folder.resolve("out"));
        Files.writeString(folder.resolve("out/kept"), "kept");
        FormatException e = assertThrows(FormatException.class, () -> export(DEMO, null, Type.F32));
        assertTrue(e.getMessage().contains("is not empty"), e.getMessage());
    }

    @Test
    void writersMistakes() {
        for (long[] shape : new long[][] {{2, 33}, {}, {0}, {1, 1, 1, 1, 32}}) {
            assertThrows(IllegalArgumentException.class, () -> new GgufWriter.Item("x", Type.Q8_0, shape, out -> {}));
        }
        assertThrows(
                IllegalArgumentException.class,
                () -> new GgufWriter.Item("x".repeat(64), Type.F32, new long[] {1}, out -> {}));
        GgufWriter.Item item = new GgufWriter.Item(
                "x", Type.F32, new long[] {2}, out -> out.accept(MemorySegment.ofArray(new float[1])));
        Path file = folder.resolve("x.gguf");
        assertThrows(IllegalArgumentException.class, () -> GgufWriter.write(file, Map.of(), List.of(item)));
        assertThrows(IllegalArgumentException.class, () -> GgufWriter.write(file, Map.of("k", 1.0), List.of()));
        assertThrows(IllegalArgumentException.class, () -> GgufWriter.write(file, Map.of("k", -1), List.of()));
        assertFalse(Files.exists(file));
    }
}
