package lapidary.gemma3;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.SafetensorsWriter;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.format.TensorEntry;
import lapidary.nn.LoraSpec;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Checkpoints and adapters that do not fit the model are refused, not read as something near. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class Gemma3LoadTest {
    private static final Path GOLDEN = Path.of("src/test/resources/golden");

    private final Device device;

    @TempDir
    private Path folder;

    Gemma3LoadTest(Device device) {
        this.device = device;
    }

    private void load(Path model, List<String> modulesToSave) {
        long before = device.pool().inUse();
        LoraSpec lora = new LoraSpec(2, 4, 0, List.of(LoraSpec.ALL_LINEAR), modulesToSave);
        try (Gemma3 loaded = Gemma3.load(model, device, DType.F32, lora, 1)) {
            assertTrue(loaded.parameters().size() > 2);
        } finally {
            assertEquals(before, device.pool().inUse());
        }
    }

    /** A golden model whose config says whether head and embedding are one; with a head of its own where asked. */
    private Path tied(String model, boolean tied, boolean head) throws IOException {
        ObjectNode config = (ObjectNode)
                Json.read(GOLDEN.resolve(model).resolve("config.json")).node();
        config.put("tie_word_embeddings", tied);
        Files.writeString(folder.resolve("config.json"), config.toString());
        try (Checkpoint checkpoint = Checkpoint.open(GOLDEN.resolve(model))) {
            List<Item> items = new ArrayList<>();
            for (String name : checkpoint.names()) {
                TensorEntry entry = checkpoint.entry(name);
                items.add(Item.of(name, entry.dtype(), entry.shape(), entry.data()));
                if (head && name.endsWith("embed_tokens.weight")) {
                    String own =
                            name.startsWith("language_model.") ? "language_model.lm_head.weight" : "lm_head.weight";
                    items.add(Item.of(own, entry.dtype(), entry.shape(), entry.data()));
                }
            }
            SafetensorsWriter.write(folder.resolve("model.safetensors"), Map.of("format", "pt"), items);
        }
        return folder;
    }

    @ParameterizedTest
    @CsvSource({"text,true,false", "text,false,true", "text,true,true", "multimodal,false,true"})
    void aHeadIsStoredOrTied(String model, boolean tied, boolean head) throws IOException {
        load(tied(model, tied, head), List.of());
    }

    @ParameterizedTest
    @ValueSource(strings = {"text", "multimodal"})
    void aHeadThatIsNeitherStoredNorTiedIsMissing(String model) throws IOException {
        Path untied = tied(model, false, false);
        FormatException e = assertThrows(FormatException.class, () -> load(untied, List.of()));
        assertTrue(e.getMessage().contains("lm_head.weight is missing"), e.getMessage());
        assertTrue(e.getMessage().contains("tie_word_embeddings"), e.getMessage());
    }

    private Path reshaped(String suffix, long... shape) throws IOException {
        Files.copy(GOLDEN.resolve("multimodal/config.json"), folder.resolve("config.json"));
        try (Checkpoint checkpoint = Checkpoint.open(GOLDEN.resolve("multimodal"))) {
            List<Item> items = new ArrayList<>();
            for (String name : checkpoint.names()) {
                TensorEntry entry = checkpoint.entry(name);
                items.add(Item.of(name, entry.dtype(), name.endsWith(suffix) ? shape : entry.shape(), entry.data()));
            }
            SafetensorsWriter.write(folder.resolve("model.safetensors"), Map.of("format", "pt"), items);
        }
        return folder;
    }

    @Test
    void theConvolutionHasItsFourAxes() throws IOException {
        load(reshaped("patch_embedding.weight", 44, 3, 7, 7), List.of());
    }

    @ParameterizedTest
    @CsvSource({
        "patch_embedding.weight, 44x7x7x3",
        "patch_embedding.weight, 44x147x1x1",
        "patch_embedding.weight, 44x147",
        "encoder.layers.0.self_attn.q_proj.weight, 44x44x1x1",
        "encoder.layers.0.self_attn.q_proj.weight, 44x11x2x2"
    })
    void noOtherAxesWithTheSameProduct(String suffix, String shape) throws IOException {
        long[] axes = Arrays.stream(shape.split("x")).mapToLong(Long::parseLong).toArray();
        Path wrong = reshaped(suffix, axes);
        FormatException e = assertThrows(FormatException.class, () -> load(wrong, List.of()));
        assertTrue(e.getMessage().contains(suffix), e.getMessage());
        assertTrue(e.getMessage().contains(Arrays.toString(axes) + ", expected"), e.getMessage());
    }

    @ParameterizedTest
    @ValueSource(strings = {"lm_head", "embed_tokens", "model.embed_tokens"})
    void tablesMayBeTrainedWhole(String module) {
        load(GOLDEN.resolve("text"), List.of(module));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"lora_A", "lora_B", "q_proj", "q_proj.lora_A", "tokens", "norm", "head", "lm_head.weight", ""})
    void nothingElseIs(String module) {
        IllegalArgumentException e = assertThrows(
                IllegalArgumentException.class, () -> load(GOLDEN.resolve("text"), List.of("lm_head", module)));
        assertTrue(e.getMessage().startsWith("module " + module + " of --lora_modules_to_save"), e.getMessage());
        assertTrue(e.getMessage().contains("lm_head") && e.getMessage().contains("embed_tokens"), e.getMessage());
    }
}
