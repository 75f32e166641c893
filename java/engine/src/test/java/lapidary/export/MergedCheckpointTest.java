package lapidary.export;

import static lapidary.export.Fixtures.GOLDEN;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.Safetensors;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.format.TensorEntry;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Nf4Options;
import lapidary.gemma3.PackedBatch;
import lapidary.gemma3.PeftAdapter;
import lapidary.gemma3.WeightNames;
import lapidary.image.ImagePreprocessor;
import lapidary.image.PanAndScanSettings;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class MergedCheckpointTest {
    private static final Path INIT = GOLDEN.resolve("multimodal/init");

    private final Device device;

    @TempDir
    private Path folder;

    MergedCheckpointTest(Device device) {
        this.device = device;
    }

    @AfterEach
    void thePoolIsEmpty() {
        assertEquals(0, device.pool().inUse());
    }

    private MergedCheckpoint.Options options(Path model, Path adapter, DType dtype) {
        return new MergedCheckpoint.Options(
                model,
                adapter,
                folder.resolve("merged"),
                dtype,
                null,
                false,
                1L << 30,
                List.of(),
                List.of(),
                List.of());
    }

    private String merge(Path model, Path adapter, DType dtype) {
        return String.join(
                "\n",
                MergedCheckpoint.write(options(model, adapter, dtype), device).lines());
    }

    private JsonNode report() {
        return Json.read(folder.resolve("merged").resolve(MergedCheckpoint.REPORT_FILE))
                .node();
    }

    private double rms(String which) {
        return report().path("logits").path(which).path("rms_logit").doubleValue();
    }

    private List<String> leftInFolder() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString())
                    .filter(name -> name.contains("merged"))
                    .toList();
        }
    }

    /** [tokens * vocab] in float32. */
    private float[] logits(Path model, Path adapterFolder, int[] ids) {
        try (PeftAdapter adapter = adapterFolder == null ? null : PeftAdapter.open(adapterFolder);
                Gemma3 loaded = Gemma3.load(model, device, DType.F32, adapter == null ? null : adapter.spec(), 1)) {
            if (adapter != null) {
                adapter.copyTo(loaded.parameters(), loaded.frame());
            }
            loaded.dropout().setTraining(false);
            try (Frame frame = loaded.frame().child("test")) {
                Tensor hidden = loaded.forward(
                        Tape.notRecording(frame),
                        PackedBatch.of(List.of(new PackedBatch.Row(ids, new int[ids.length], List.of()))),
                        false);
                Tensor logits =
                        frame.empty(DType.F32, hidden.rows(), loaded.lmHead().rows());
                frame.gemm().linear(logits, hidden, loaded.lmHead(), Tensor.NONE);
                return logits.toFloats();
            }
        }
    }

    @Test
    void anAdapterOfAnotherNameIsMergedAndToldOf() throws IOException {
        Path adapter = Files.createDirectory(folder.resolve("adapter"));
        for (String name : List.of("adapter_config.json", "adapter_model.safetensors")) {
            Files.copy(GOLDEN.resolve("text/init").resolve(name), adapter.resolve(name));
        }
        Path config = adapter.resolve("adapter_config.json");
        String of = "\"base_model_name_or_path\": ";
        assertTrue(Files.readString(config).contains(of + "null"));
        Files.writeString(config, Files.readString(config).replace(of + "null", of + "\"google/gemma-3-4b-pt\""));
        String said = merge(GOLDEN.resolve("text"), adapter, DType.BF16);
        assertTrue(said.contains("note: adapter_config.json names another base, google/gemma-3-4b-pt, than "), said);
        assertEquals(
                "google/gemma-3-4b-pt",
                report().path("base_model_named_by_adapter").textValue());
    }

    // ---- against PEFT --------------------------------------------------------------------------------------------

    @ParameterizedTest
    @ValueSource(strings = {"rslora", "patterns"})
    void ranksAndScalesOfLayersAreAsPeftComputesThem(String name) {
        Path text = GOLDEN.resolve("text");
        try (Safetensors expected = Safetensors.open(text.resolve(name).resolve("expected.safetensors"))) {
            int[] ids = expected.entry("ids").data().toArray(java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED);
            float[] peft = Fixtures.floats(expected.entry("logits"));
            close(peft, logits(text, text.resolve(name), ids), 1e-4);
            merge(text, text.resolve(name), DType.BF16);
            try (Checkpoint merged = Checkpoint.open(folder.resolve("merged"))) {
                int compared = 0;
                for (String key : expected.names()) {
                    if (key.startsWith("merged.") && merged.names().contains(key.substring("merged.".length()))) {
                        float[] theirs = Fixtures.floats(expected.entry(key));
                        float[] ours = Fixtures.floats(merged.entry(key.substring("merged.".length())));
                        compared++;
                        for (int i = 0; i < ours.length; i++) { // sums in another order, one rounding
                            assertEquals(theirs[i], ours[i], Math.ulp(Math.abs(theirs[i])) * 65536, key + " " + i);
                        }
                    }
                }
                assertEquals(name.equals("rslora") ? 8 : 7, compared);
            }
        }
        float[] merged = logits(folder.resolve("merged"), null, new int[] {2, 20, 30, 40});
        close(logits(text, text.resolve(name), new int[] {2, 20, 30, 40}), merged, 0.1); // weights in bfloat16
    }

    /** Values that F16 holds, so that the same adapter in F32 is the one to equal. */
    @Test
    void anAdapterInHalfPrecisionIsRead() throws IOException {
        Path single = Fixtures.adapter(INIT, folder.resolve("f32"), entry -> List.of(halves(entry, false)), c -> {});
        Path half = Fixtures.adapter(INIT, folder.resolve("f16"), entry -> List.of(halves(entry, true)), c -> {});
        Path base = GOLDEN.resolve("multimodal");
        int[] ids = {2, 20, 30, 40};
        float[] expected = logits(base, single, ids);
        assertArrayEquals(expected, logits(base, half, ids));
        merge(base, half, DType.F32);
        close(expected, logits(folder.resolve("merged"), null, ids), 1e-4);
    }

    private static Item halves(TensorEntry entry, boolean asHalves) {
        float[] values = Fixtures.floats(entry);
        short[] bits = new short[values.length];
        for (int i = 0; i < values.length; i++) {
            float value = values[i] + (entry.name().contains("lora_B") ? (i % 7 - 3) / 16f : 0);
            bits[i] = Float.floatToFloat16(value);
            values[i] = Float.float16ToFloat(bits[i]);
        }
        return asHalves
                ? Item.of(entry.name(), "F16", entry.shape(), Fixtures.bytes(bits))
                : Item.of(entry.name(), entry.shape(), values);
    }

    private static void close(float[] expected, float[] found, double tolerance) {
        assertEquals(expected.length, found.length);
        for (int i = 0; i < expected.length; i++) {
            assertEquals(expected[i], found[i], tolerance, "logit " + i);
        }
    }

    /** Every weight of the merged checkpoint, from its definition in double. */
    @ParameterizedTest
    @CsvSource({"multimodal,F32", "multimodal,BF16", "text,F32", "text,BF16"})
    void everyWeightIsWhatTheAdapterSays(String name, DType dtype) {
        Path model = GOLDEN.resolve(name);
        merge(model, model.resolve("init"), dtype);
        try (Checkpoint base = Checkpoint.open(model);
                Checkpoint merged = Checkpoint.open(folder.resolve("merged"));
                Safetensors adapter = Safetensors.open(model.resolve("init").resolve(PeftAdapter.MODEL_FILE))) {
            Set<String> expected = new TreeSet<>(base.names());
            expected.add("lm_head.weight");
            assertEquals(expected, new TreeSet<>(merged.names()));
            int changed = 0;
            for (String key : merged.names()) {
                String peft = "base_model.model." + WeightNames.inMemory(key);
                String module = peft.substring(0, peft.length() - Math.min(peft.length(), ".weight".length()));
                double[] w;
                if (adapter.names().contains(peft)) {
                    w = doubles(adapter.entry(peft));
                } else {
                    w = doubles(base.entry(key));
                    if (adapter.names().contains(module + ".lora_A.weight")) {
                        changed++;
                        add(w, adapter.entry(module + ".lora_A.weight"), adapter.entry(module + ".lora_B.weight"), 2);
                    }
                }
                TensorEntry found = merged.entry(key);
                assertEquals(dtype.name(), found.dtype());
                float[] values = Fixtures.floats(found);
                for (int i = 0; i < w.length; i++) {
                    float x = (float) w[i];
                    float ulp = Math.ulp(x) * (dtype == DType.BF16 ? 32768.01f : 8);
                    assertEquals(x, values[i], ulp + 1e-7, key + " " + i);
                }
            }
            assertEquals(
                    adapter.names().stream().filter(n -> n.contains("lora_A")).count(), changed);
        }
    }

    private static double[] doubles(TensorEntry entry) {
        float[] values = Fixtures.floats(entry);
        double[] wide = new double[values.length];
        for (int i = 0; i < wide.length; i++) {
            wide[i] = values[i];
        }
        return wide;
    }

    private static void add(double[] w, TensorEntry a, TensorEntry b, double scaling) {
        float[] fa = Fixtures.floats(a);
        float[] fb = Fixtures.floats(b);
        int r = (int) a.shape()[0];
        int in = (int) a.shape()[1];
        for (int i = 0; i < w.length; i++) {
            double sum = 0;
            for (int k = 0; k < r; k++) {
                sum += (double) fb[i / in * r + k] * fa[k * in + i % in];
            }
            w[i] += scaling * sum;
        }
    }

    // ---- the report ----------------------------------------------------------------------------------------------

    @Test
    void theReportSaysHowFarMergedIsFromBaseAndAdapter() throws IOException {
        String lines = merge(GOLDEN.resolve("multimodal"), INIT, DType.F32);
        assertTrue(rms("adapter_against_base") > 0.1, report().toString());
        assertTrue(rms("merged_against_base_and_adapter") < 1e-4, report().toString());
        assertTrue(lines.contains("merged 53 layers"), lines);
        assertTrue(lines.contains("base: the checkpoint's own weights (BF16)"), lines);
        assertEquals(List.of("merged"), leftInFolder());
    }

    @Test
    void roundingIsInTheReport() {
        merge(GOLDEN.resolve("multimodal"), INIT, DType.BF16);
        assertTrue(rms("merged_against_base_and_adapter") > 1e-4, report().toString());
        assertTrue(rms("merged_against_base_and_adapter") < 0.1 * rms("adapter_against_base"), report().toString());
    }

    @Test
    void anAdapterThatDoesNothingIsNamed() throws IOException {
        Path adapter = Fixtures.adapter(
                Fixtures.saving(INIT, folder.resolve("lora"), List.of()),
                folder.resolve("zero"),
                entry -> entry.name().contains("lora_B")
                        ? List.of(Item.of(entry.name(), entry.shape(), new float[(int) entry.elements()]))
                        : Fixtures.same(entry),
                config -> {});
        assertTrue(merge(GOLDEN.resolve("multimodal"), adapter, DType.BF16).contains("the adapter changes nothing"));
        assertEquals(0, rms("merged_against_base_and_adapter"));
    }

    // ---- head and embedding --------------------------------------------------------------------------------------

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "multimodal|''|true|embed_tokens: the base's; lm_head: the same table as embed_tokens (tied)",
                "multimodal|embed_tokens|false|embed_tokens: the copy that the adapter trained; lm_head: the base's"
                        + " embed_tokens as it was before training",
                "multimodal|lm_head|false|embed_tokens: the base's; lm_head: the copy that the adapter trained",
                "multimodal|lm_head,embed_tokens|false|embed_tokens: the copy that the adapter trained; lm_head: the copy",
                "text|''|true|embed_tokens: the base's; lm_head: the same table as embed_tokens (tied)",
                "text|embed_tokens|false|embed_tokens: the copy that the adapter trained; lm_head: the base's",
            })
    void noTableIsLost(String name, String saved, boolean tied, String said) throws IOException {
        Path model = GOLDEN.resolve(name);
        List<String> modules = saved.isEmpty() ? List.of() : List.of(saved.split(","));
        Path adapter = Fixtures.saving(model.resolve("init"), folder.resolve("a"), modules);
        String lines = merge(model, adapter, DType.F32);
        assertTrue(lines.contains(said), lines);
        Path merged = folder.resolve("merged");
        try (Checkpoint checkpoint = Checkpoint.open(merged)) {
            assertEquals(!tied, checkpoint.names().contains("lm_head.weight"));
        }
        JsonNode config = Json.read(merged.resolve("config.json")).node();
        for (JsonNode level : name.equals("text") ? List.of(config) : List.of(config, config.path("text_config"))) {
            assertEquals(tied, level.path("tie_word_embeddings").asBoolean(true));
        }
        int[] ids = {2, 20, 30, 40};
        close(logits(model, adapter, ids), logits(merged, null, ids), 1e-4);
    }

    /** A base that has a head of its own already keeps it. */
    @ParameterizedTest
    @CsvSource({"true", "false"})
    void aHeadOfTheBaseStays(boolean equal) throws IOException {
        Path model = Fixtures.model(
                GOLDEN.resolve("text"),
                folder.resolve("untied"),
                entry -> {
                    List<Item> items = new ArrayList<>(Fixtures.same(entry));
                    if (entry.name().endsWith("embed_tokens.weight")) {
                        items.add(
                                equal
                                        ? Fixtures.item("lm_head.weight", entry)
                                        : Item.of("lm_head.weight", entry.shape(), changed(entry)));
                    }
                    return items;
                },
                config -> config.put("tie_word_embeddings", false));
        Path adapter = Fixtures.saving(GOLDEN.resolve("text/init"), folder.resolve("a"), List.of());
        String lines = merge(model, adapter, DType.F32);
        assertTrue(lines.contains(equal ? "(tied)" : "lm_head: the base's own"), lines);
        assertEquals(equal, Json.read(folder.resolve("merged/config.json")).bool("tie_word_embeddings"));
        int[] ids = {2, 20, 30, 40};
        close(logits(model, adapter, ids), logits(folder.resolve("merged"), null, ids), 1e-4);
    }

    private static float[] changed(TensorEntry entry) {
        float[] values = Fixtures.floats(entry);
        for (int i = 0; i < values.length; i++) {
            values[i] *= 1 + i % 7;
        }
        return values;
    }

    // ---- layouts and files ---------------------------------------------------------------------------------------

    @ParameterizedTest
    @ValueSource(strings = {"hub", "4.52", "5.18"})
    void allLayoutsBecomeTheHubs(String layout) throws IOException {
        Path model = Fixtures.model(
                GOLDEN.resolve("multimodal"),
                folder.resolve("base"),
                entry -> List.of(Fixtures.item(inLayout(layout, entry.name()), entry)),
                config -> {});
        Path adapter = Fixtures.adapter(
                INIT,
                folder.resolve("a"),
                entry -> {
                    String name = entry.name().substring("base_model.model.".length());
                    return List.of(
                            Fixtures.item("base_model.model." + inLayout(layout, WeightNames.onHub(name)), entry));
                },
                config -> {});
        merge(model, adapter, DType.F32);
        assertTrue(rms("merged_against_base_and_adapter") < 1e-4, report().toString());
        try (Checkpoint base = Checkpoint.open(GOLDEN.resolve("multimodal"));
                Checkpoint merged = Checkpoint.open(folder.resolve("merged"))) {
            Set<String> expected = new TreeSet<>(base.names());
            expected.add("lm_head.weight");
            assertEquals(expected, new TreeSet<>(merged.names()));
        }
    }

    private static String inLayout(String layout, String hub) {
        String memory = WeightNames.inMemory(hub);
        return switch (layout) {
            case "hub" -> hub;
            case "4.52" -> memory.replace("model.vision_tower.", "model.vision_tower.vision_model.");
            default -> memory;
        };
    }

    @Test
    void largeOnesAreSharded() throws IOException {
        Path model = GOLDEN.resolve("multimodal");
        MergedCheckpoint.Options whole = options(model, INIT, DType.BF16);
        MergedCheckpoint.Written written = MergedCheckpoint.write(
                new MergedCheckpoint.Options(
                        model, INIT, whole.target(), DType.BF16, null, false, 100_000, List.of(), List.of(), List.of()),
                device);
        assertTrue(written.files() > 2);
        try (Checkpoint checkpoint = Checkpoint.open(whole.target())) {
            long bytes = checkpoint.names().stream()
                    .mapToLong(name -> checkpoint.entry(name).data().byteSize())
                    .sum();
            assertEquals(written.bytes(), bytes);
            assertEquals(
                    bytes,
                    Json.read(whole.target().resolve("model.safetensors.index.json"))
                            .get("metadata")
                            .integer("total_size"));
        }
    }

    @Test
    void theProcessorsFilesComeAlong() throws IOException {
        Path demo = Path.of("src/main/resources/lapidary/demo/base");
        try (Gemma3 model = Gemma3.load(
                demo, device, DType.F32, new lapidary.nn.LoraSpec(2, 4, 0, List.of("all-linear"), List.of()), 1)) {
            PeftAdapter.write(
                    folder.resolve("a"),
                    model.parameters(),
                    model.linears(),
                    new lapidary.nn.LoraSpec(2, 4, 0, List.of("all-linear"), List.of()),
                    "base");
        }
        merge(demo, folder.resolve("a"), DType.BF16);
        assertEquals(5, report().path("logits").path("prompts").intValue());
        for (String name : List.of("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")) {
            if (Files.exists(demo.resolve(name))) {
                assertEquals(
                        -1,
                        Files.mismatch(
                                demo.resolve(name), folder.resolve("merged").resolve(name)));
            }
        }
        assertTrue(Files.exists(folder.resolve("merged/tokenizer.json")));
    }

    /** What was trained on parts of pictures is asked about them when its adapter is no more to be seen. */
    @Test
    void panAndScanIsMergedToo() throws IOException {
        Path demo = Path.of("src/main/resources/lapidary/demo/base");
        Path adapter = Files.createDirectories(folder.resolve("a"));
        for (String file : List.of("adapter_config.json", "adapter_model.safetensors")) {
            Files.copy(Path.of("src/test/resources/lapidary/infer/adapter", file), adapter.resolve(file));
        }
        Files.writeString(adapter.resolve("preprocessor_config.json"), "{\"do_pan_and_scan\": true}");
        merge(demo, adapter, DType.BF16);
        assertTrue(
                PanAndScanSettings.find(folder.resolve("merged")).orElseThrow().isOn());
        assertEquals(
                ImagePreprocessor.read(demo).height(),
                ImagePreprocessor.read(folder.resolve("merged")).height());
    }

    // ---- NF4 -----------------------------------------------------------------------------------------------------

    @Test
    void aBaseStoredInNf4IsDequantized() {
        String lines = merge(GOLDEN.resolve("multimodal_nf4"), INIT, DType.F32);
        assertTrue(lines.contains("NF4 weights, dequantised to float32"), lines);
        assertTrue(rms("merged_against_base_and_adapter") < 1e-3, report().toString());
        assertFalse(Json.read(folder.resolve("merged/config.json")).has("quantization_config"));
    }

    @ParameterizedTest
    @CsvSource({"false,false", "false,true", "true,false"})
    void aBaseQuantizedInTrainingIsTakenEitherWay(boolean original, boolean nested) {
        MergedCheckpoint.Options plain = options(GOLDEN.resolve("multimodal"), INIT, DType.F32);
        MergedCheckpoint.Written written = MergedCheckpoint.write(
                new MergedCheckpoint.Options(
                        plain.model(),
                        plain.adapter(),
                        plain.target(),
                        DType.F32,
                        new Nf4Options(nested, List.of("model.vision_tower")),
                        original,
                        1L << 30,
                        List.of(),
                        List.of(),
                        List.of()),
                device);
        String lines = String.join("\n", written.lines());
        assertTrue(rms("merged_against_base_and_adapter") < 1e-3, report().toString());
        assertEquals(original, lines.contains("what taking the unquantised base costs"), lines);
        assertEquals(original, lines.contains("base: the unquantised weights (BF16)"), lines);
        if (original) {
            assertTrue(rms("merged_against_nf4_base_and_adapter") > 0.01, report().toString());
        }
        assertEquals(original ? 0 : 35, report().path("dequantized_layers").intValue());
    }

    // ---- what is refused -----------------------------------------------------------------------------------------

    private void refused(Path model, Path adapter, String... words) throws IOException {
        RuntimeException e = assertThrows(
                FormatException.class, () -> MergedCheckpoint.write(options(model, adapter, DType.BF16), device));
        for (String word : words) {
            assertTrue(e.getMessage().contains(word), e.getMessage());
        }
        assertFalse(e.getMessage().contains("\n"), e.getMessage());
        assertEquals(List.of(), leftInFolder());
    }

    @Test
    void anAdapterOfAnotherBase() throws IOException {
        refused(
                GOLDEN.resolve("multimodal"),
                GOLDEN.resolve("text/init"),
                "does not belong to",
                "no linear layer of this base");
        refused(GOLDEN.resolve("text"), INIT, "does not belong to", "give the base that it was trained on");
    }

    @Test
    void anAdapterOfAnotherSize() throws IOException {
        Path wider = Fixtures.adapter(
                INIT,
                folder.resolve("a"),
                entry -> entry.name().endsWith("layers.0.mlp.down_proj.lora_A.weight")
                        ? List.of(Item.of(entry.name(), new long[] {4, 7}, new float[28]))
                        : Fixtures.same(entry),
                config -> {});
        refused(GOLDEN.resolve("multimodal"), wider, "layers.0.mlp.down_proj", "the base's is [56, 120]");
    }

    @Test
    void aTableOfAnotherVocabulary() throws IOException {
        Path other = Fixtures.adapter(
                INIT,
                folder.resolve("a"),
                entry -> entry.name().endsWith("lm_head.weight")
                        ? List.of(Item.of(entry.name(), new long[] {177, 56}, new float[177 * 56]))
                        : Fixtures.same(entry),
                config -> {});
        refused(GOLDEN.resolve("multimodal"), other, "lm_head is [177, 56]", "another vocabulary");
    }

    @ParameterizedTest
    @CsvSource({"lora_B,no lora_B", "lora_A,no lora_A", "lm_head,modules_to_save lists lm_head"})
    void aPartialAdapter(String lost, String said) throws IOException {
        Path partial = Fixtures.adapter(
                INIT,
                folder.resolve("a"),
                entry -> entry.name().contains(lost)
                                && (lost.equals("lm_head") || entry.name().contains("layers.2.self_attn.q_proj"))
                        ? List.of()
                        : Fixtures.same(entry),
                config -> {});
        refused(GOLDEN.resolve("multimodal"), partial, said, "not complete");
    }

    @Test
    void anAdapterOfAnotherRank() throws IOException {
        Path other = Fixtures.adapter(INIT, folder.resolve("a"), Fixtures::same, config -> config.put("r", 8));
        refused(GOLDEN.resolve("multimodal"), other, "has rank 4, but adapter_config.json says 8");
    }

    @ParameterizedTest
    @CsvSource({"lora_A,NaN", "lora_B,Infinity", "lm_head,NaN"})
    void valuesThatAreNotFinite(String where, float value) throws IOException {
        boolean[] done = {false};
        Path broken = Fixtures.adapter(
                INIT,
                folder.resolve("a"),
                entry -> {
                    if (done[0] || !entry.name().contains(where)) {
                        return Fixtures.same(entry);
                    }
                    done[0] = true;
                    return List.of(Fixtures.with(entry, 5, value));
                },
                config -> {});
        refused(GOLDEN.resolve("multimodal"), broken, where, "not finite", "take an earlier checkpoint");
    }

    @Test
    void aBaseThatIsNotFinite() throws IOException {
        Path broken = Fixtures.model(
                GOLDEN.resolve("multimodal"),
                folder.resolve("base"),
                entry -> entry.name().endsWith("layers.1.self_attn.o_proj.weight")
                        ? List.of(Fixtures.with(entry, 5, Float.NaN))
                        : Fixtures.same(entry),
                config -> {});
        refused(broken, INIT, "not finite");
    }

    @Test
    void aFolderThatIsNotFree() throws IOException {
        Files.createDirectories(folder.resolve("merged"));
        Files.writeString(folder.resolve("merged/kept.txt"), "kept");
        FormatException e =
                assertThrows(FormatException.class, () -> merge(GOLDEN.resolve("multimodal"), INIT, DType.BF16));
        assertTrue(e.getMessage().contains("is not empty"), e.getMessage());
        assertEquals("kept", Files.readString(folder.resolve("merged/kept.txt")));
    }

    @Test
    void noAdapterAtAll() throws IOException {
        refused(GOLDEN.resolve("multimodal"), folder, "so it is no PEFT adapter");
        refused(GOLDEN.resolve("multimodal"), GOLDEN.resolve("nowhere"), "no such folder");
    }

    @Test
    void anUnwantedSkip() {
        MergedCheckpoint.Options plain = options(GOLDEN.resolve("multimodal"), INIT, DType.F32);
        Nf4Options nf4 = new Nf4Options(false, List.of("nothing"));
        IllegalArgumentException e = assertThrows(
                IllegalArgumentException.class,
                () -> MergedCheckpoint.write(
                        new MergedCheckpoint.Options(
                                plain.model(),
                                plain.adapter(),
                                plain.target(),
                                DType.F32,
                                nf4,
                                false,
                                1L << 30,
                                List.of(),
                                List.of(),
                                List.of()),
                        device));
        assertTrue(e.getMessage().contains("nothing"), e.getMessage());
        assertFalse(Files.exists(plain.target()));
    }

    /** What the weights are named by must be what the model reads: no more, no less, and of those shapes. */
    @ParameterizedTest
    @ValueSource(strings = {"multimodal", "text"})
    void theListOfWeightsIsTheCheckpoints(String name) {
        try (Checkpoint checkpoint = Checkpoint.open(GOLDEN.resolve(name))) {
            Set<String> stored = new TreeSet<>();
            checkpoint
                    .names()
                    .forEach(key -> stored.add(WeightNames.inMemory(key)
                            + Arrays.toString(checkpoint.entry(key).shape())));
            Set<String> listed = new TreeSet<>();
            ModelTensor.of(Gemma3.readConfig(GOLDEN.resolve(name)))
                    .forEach(tensor -> listed.add(tensor.name() + tensor.shape()));
            assertEquals(stored, listed);
        }
    }
}
