package lapidary.gemma3;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import lapidary.DeviceTest;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.SafetensorsWriter;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.format.TensorEntry;
import lapidary.nn.LoraSpec;
import lapidary.nn.Parameter;
import lapidary.quant.BitsAndBytes;
import lapidary.quant.QuantStorage;
import lapidary.tensor.Frame;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Written checkpoints against those that Transformers and bitsandbytes wrote (bench/reference/make_nf4_golden.py). */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class Nf4CheckpointTest extends DeviceTest {
    private static final Path GOLDEN = Path.of("src/test/resources/golden");
    private static final long UNLIMITED = Long.MAX_VALUE;

    @TempDir
    private Path folder;

    Nf4CheckpointTest(Device device) {
        super(device);
    }

    private Nf4Checkpoint.Written write(String model, Path target, DType dtype, Nf4Options options, long shard) {
        QuantStorage storage = model.equals("multimodal") ? QuantStorage.BFLOAT16 : QuantStorage.UINT8;
        return Nf4Checkpoint.write(GOLDEN.resolve(model), target, device, dtype, options, storage, shard);
    }

    private static Nf4Options options(boolean nested, String... skip) {
        return new Nf4Options(nested, List.of(skip));
    }

    private static Json config(Path model) {
        return Json.read(model.resolve("config.json"));
    }

    private static Set<String> names(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString()).collect(Collectors.toCollection(TreeSet::new));
        }
    }

    @ParameterizedTest
    @CsvSource({"multimodal,true,53", "text,false,21"})
    void equalsWhatTransformersWrote(String model, boolean nested, int matrices) throws IOException {
        Path target = folder.resolve("nf4");
        Nf4Checkpoint.Written written = write(model, target, DType.BF16, options(nested), UNLIMITED);
        assertEquals(matrices, written.matrices());
        assertEquals(1, written.files());
        Path golden = GOLDEN.resolve(model + "_nf4");
        assertArrayEquals(
                Files.readAllBytes(golden.resolve("model.safetensors")),
                Files.readAllBytes(target.resolve("model.safetensors")));
        assertEquals(
                config(golden).get("quantization_config").node(),
                config(target).get("quantization_config").node());
        JsonNode source = config(GOLDEN.resolve(model)).node();
        source.fieldNames()
                .forEachRemaining(key ->
                        assertEquals(source.get(key), config(target).node().get(key), key));
        assertEquals(Set.of("config.json", "model.safetensors"), names(target));
        assertEquals(Set.of("nf4"), names(folder));
    }

    @Test
    void theFilesBesideItAreCopied() throws IOException {
        Path source = copyWithProcessor();
        Files.writeString(source.resolve("generation_config.json"), "{}");
        Files.writeString(source.resolve("other.txt"), "not of the model");
        Path target = folder.resolve("a/b/nf4");
        Nf4Checkpoint.write(source, target, device, DType.BF16, options(true), QuantStorage.UINT8, UNLIMITED);
        Set<String> expected = names(source);
        expected.remove("other.txt");
        assertEquals(expected, names(target));
        assertArrayEquals(
                Files.readAllBytes(source.resolve("tokenizer.json")),
                Files.readAllBytes(target.resolve("tokenizer.json")));
    }

    @Test
    void aSkipListThatLeavesNothingIsRefused() {
        Path target = folder.resolve("nf4");
        IllegalArgumentException all = assertThrows(
                IllegalArgumentException.class,
                () -> write("text", target, DType.BF16, options(false, "model"), UNLIMITED));
        assertTrue(all.getMessage().contains("leaves no linear layer"), all.getMessage());
        assertThrows(IllegalArgumentException.class, () -> options(false, "fc1", ""));
        assertFalse(Files.exists(target));
    }

    private Path copyWithProcessor() throws IOException {
        Path source = Files.createDirectory(folder.resolve("source"));
        ProcessorFiles.copy(TextGolden.MODEL, source);
        for (String name : List.of("config.json", "model.safetensors")) {
            Files.copy(GOLDEN.resolve("multimodal").resolve(name), source.resolve(name));
        }
        return source;
    }

    /** In shards, with layers left out, in both dtypes: what is loaded again computes what it does quantised on loading. */
    @ParameterizedTest
    @CsvSource({
        "multimodal,BF16,true,9223372036854775807,''",
        "multimodal,F32,true,60000,''",
        "multimodal,BF16,false,1,fc1",
        "text,F32,false,20000,model.layers.1",
        "text,BF16,true,100000,q_proj"
    })
    void loadsAsWhatItWasMadeFrom(String model, DType dtype, boolean nested, long shard, String skip)
            throws IOException {
        Nf4Options options = skip.isEmpty() ? options(nested) : options(nested, skip);
        Path target = folder.resolve("nf4");
        Nf4Checkpoint.Written written = write(model, target, dtype, options, shard);
        if (written.files() > 1) {
            assertTrue(Files.exists(
                    target.resolve(String.format("model-%05d-of-%05d.safetensors", written.files(), written.files()))));
            assertFalse(Files.exists(target.resolve("model.safetensors")));
            Json index = Json.read(target.resolve("model.safetensors.index.json"));
            assertEquals(written.bytes(), index.get("metadata").integer("total_size"));
        }
        assertEquals(written.bytes() > shard, written.files() > 1);
        int[] ids = {2, 40, 41, 42, 99, 43};
        float[] made = hidden(GOLDEN.resolve(model), new Precision(dtype, options, false), ids);
        assertArrayEquals(made, hidden(target, Precision.of(dtype), ids));
        assertArrayEquals(
                made,
                hidden(target, new Precision(dtype, options(nested), false), ids),
                "what is stored in NF4 is used as it is, and so is what was left out");
        float[] other = hidden(GOLDEN.resolve(model), Precision.of(dtype), ids);
        assertFalse(java.util.Arrays.equals(other, made), "quantising changes nothing?");
    }

    private float[] hidden(Path model, Precision precision, int[] ids) {
        try (Gemma3 loaded = Gemma3.load(model, device, precision, null, 1);
                Frame frame = loaded.frame().child("forward")) {
            PackedBatch batch = PackedBatch.of(List.of(new PackedBatch.Row(ids, new int[ids.length], List.of())));
            return loaded.forward(Tape.notRecording(frame), batch, false).toFloats();
        }
    }

    /** Transformers reads a name in the list as the beginning or the end of a module's. */
    @ParameterizedTest
    @CsvSource({
        "text,q_proj,q_proj|lm_head",
        "text,lm_head,lm_head",
        "multimodal,model.vision_tower,model.vision_tower|lm_head",
        "text,model.layers.1,model.layers.1|lm_head"
    })
    void theSkipListIsWrittenForTransformers(String model, String skip, String expected) {
        Path target = folder.resolve("nf4");
        write(model, target, DType.BF16, options(true, skip), UNLIMITED);
        List<String> written =
                config(target).get("quantization_config").get("llm_int8_skip_modules").elements().stream()
                        .map(Json::string)
                        .toList();
        assertEquals(List.of(expected.split("\\|")), written);
        try (Checkpoint checkpoint = Checkpoint.open(target);
                Gemma3 loaded = Gemma3.load(target, device, Precision.of(DType.BF16), null, 1)) {
            for (String key : checkpoint.names()) {
                String module = WeightNames.inMemory(key).replaceAll("\\.weight$", "");
                if (loaded.linears().contains(module)) {
                    boolean left = module.startsWith(skip + ".") || module.endsWith(skip);
                    assertEquals(!left, BitsAndBytes.isQuantized(checkpoint, key), key);
                }
            }
        }
    }

    @Test
    void whatIsQuantisedAlreadyIsRefused() {
        var error = assertThrows(
                FormatException.class,
                () -> write("text_nf4", folder.resolve("nf4"), DType.BF16, options(true), UNLIMITED));
        assertTrue(
                error.getMessage().contains("config.json") && error.getMessage().contains("already"),
                error.getMessage());
        assertFalse(Files.exists(folder.resolve("nf4")));
    }

    @Test
    void nothingIsOverwritten() throws IOException {
        Files.writeString(folder.resolve("mine"), "x");
        for (Path target : List.of(folder, folder.resolve("mine"), GOLDEN.resolve("text"))) {
            var error = assertThrows(
                    FormatException.class, () -> write("text", target, DType.BF16, options(true), UNLIMITED));
            assertTrue(error.getMessage().contains("--output_dir"), error.getMessage());
        }
        assertEquals("x", Files.readString(folder.resolve("mine")));
        assertEquals(Set.of("mine"), names(folder));
    }

    @Test
    void anEmptyFolderIsFilled() throws IOException {
        Path target = Files.createDirectory(folder.resolve("nf4"));
        write("text", target, DType.BF16, options(false), UNLIMITED);
        assertEquals(Set.of("config.json", "model.safetensors"), names(target));
    }

    @Test
    void aFailureLeavesNothing() {
        var error = assertThrows(
                IllegalArgumentException.class,
                () -> write("text", folder.resolve("nf4"), DType.BF16, options(true, "fc9"), UNLIMITED));
        assertTrue(error.getMessage().contains("fc9"), error.getMessage());
        assertFalse(Files.exists(folder.resolve("nf4")));
    }

    @Test
    void configAndTensorsMustAgree() throws IOException {
        Path source = copyWithProcessor();
        Files.copy(
                GOLDEN.resolve("multimodal_nf4/config.json"),
                source.resolve("config.json"),
                StandardCopyOption.REPLACE_EXISTING);
        assertTrue(loadFailure(source).contains("no linear layer is quantised"));
        Files.copy(
                GOLDEN.resolve("multimodal_nf4/model.safetensors"),
                source.resolve("model.safetensors"),
                StandardCopyOption.REPLACE_EXISTING);
        Gemma3.load(source, device, Precision.of(DType.BF16), null, 1).close();
        Files.copy(
                GOLDEN.resolve("multimodal/config.json"),
                source.resolve("config.json"),
                StandardCopyOption.REPLACE_EXISTING);
        assertTrue(loadFailure(source).contains("no quantization_config"));
    }

    @ParameterizedTest
    @CsvSource({"true,BF16", "false,F32"})
    void adaptersBesideNf4AreBf16OnlyWhereAskedFor(boolean bf16Adapters, DType expected) {
        LoraSpec lora = new LoraSpec(2, 4, 0, List.of("all-linear"), List.of());
        Precision precision = new Precision(DType.BF16, options(true, "fc1"), bf16Adapters);
        try (Gemma3 model = Gemma3.load(GOLDEN.resolve("multimodal"), device, precision, lora, 1)) {
            assertEquals(2 * 53, model.parameters().size());
            for (Parameter parameter : model.parameters()) {
                boolean dense = parameter.name().contains(".fc1.");
                assertEquals(dense ? DType.F32 : expected, parameter.value().dtype(), parameter.name());
            }
        }
    }

    /** What a checkpoint may not hold in NF4, and parts that are left when their matrix is gone. */
    @ParameterizedTest
    @CsvSource({
        "language_model.model.embed_tokens.weight,is quantised",
        "multi_modal_projector.mm_input_projection_weight,is quantised",
        "language_model.model.layers.0.input_layernorm.weight,is quantised"
    })
    void onlyLinearLayersMayBeQuantised(String name, String why) throws IOException {
        Path source = copyWithProcessor();
        try (Checkpoint checkpoint = Checkpoint.open(GOLDEN.resolve("multimodal_nf4"))) {
            List<Item> items = new ArrayList<>();
            for (String key : checkpoint.names()) {
                TensorEntry entry = checkpoint.entry(key);
                items.add(Item.of(key, entry.dtype(), entry.shape(), entry.data()));
            }
            items.add(Item.of(name + ".absmax", new long[] {1}, new float[1]));
            SafetensorsWriter.write(source.resolve("model.safetensors"), Map.of(), items);
        }
        Files.copy(
                GOLDEN.resolve("multimodal_nf4/config.json"),
                source.resolve("config.json"),
                StandardCopyOption.REPLACE_EXISTING);
        String message = loadFailure(source);
        assertTrue(message.contains(name) && message.contains(why), message);
    }

    private String loadFailure(Path model) {
        return assertThrows(FormatException.class, () -> Gemma3.load(model, device, Precision.of(DType.BF16), null, 1))
                .getMessage();
    }
}
