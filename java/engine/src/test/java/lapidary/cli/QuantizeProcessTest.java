package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.UnaryOperator;
import lapidary.format.Safetensors;
import lapidary.format.TensorEntry;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** NF4 in whole processes: quantise, train from what came out, and what happens where that is damaged. */
final class QuantizeProcessTest {
    @TempDir
    Path folder;

    private Path model;
    private Path quantized;

    @BeforeEach
    void plainModel() throws IOException {
        model = EngineProcess.model(folder.resolve("model"));
        quantized = folder.resolve("nf4");
    }

    private EngineProcess quantize(String... more) throws IOException, InterruptedException {
        List<String> arguments = new ArrayList<>(List.of(
                "quantize", "--model_name_or_path=" + model, "--output_dir=" + quantized, "--use_bnb_nested_quant"));
        arguments.addAll(Arrays.asList(more));
        return EngineProcess.run(folder, arguments);
    }

    private EngineProcess train(Path base, Path output, String... more) throws IOException, InterruptedException {
        Path data = Files.writeString(
                folder.resolve("train.jsonl"),
                "{\"messages\": [{\"role\": \"user\", \"content\": \"what shape\"},"
                        + " {\"role\": \"assistant\", \"content\": \"square\"}]}\n");
        List<String> arguments = new ArrayList<>(List.of(
                "train",
                "--model_name_or_path=" + base,
                "--dataset_name=" + data,
                "--output_dir=" + output,
                "--max_steps=1",
                "--lora_r=2"));
        arguments.addAll(Arrays.asList(more));
        return EngineProcess.run(folder, arguments);
    }

    private static void assertRefused(EngineProcess run, String... words) {
        assertEquals(1, run.code(), run.err());
        assertEquals(1, run.err().lines().count(), run.err());
        assertTrue(run.err().startsWith("engine: "), run.err());
        for (String word : words) {
            assertTrue(run.err().contains(word), () -> "\"" + word + "\" is not in: " + run.err());
        }
    }

    /** Replaces the first occurrence of bytes in the stored weights. */
    private void damage(String from, String to) throws IOException {
        Path file = quantized.resolve("model.safetensors");
        String bytes = Files.readString(file, StandardCharsets.ISO_8859_1);
        int at = bytes.indexOf(from);
        assertTrue(at > 0 && from.length() == to.length(), from);
        Files.writeString(
                file, bytes.substring(0, at) + to + bytes.substring(at + to.length()), StandardCharsets.ISO_8859_1);
    }

    @Test
    void storedAndQuantisedOnLoadingTrainTheSame() throws Exception {
        EngineProcess run = quantize();
        assertEquals(0, run.code(), run.err());
        assertTrue(run.out().contains("linear layers in NF4"), run.out());
        Path stored = folder.resolve("stored");
        Path loaded = folder.resolve("loaded");
        assertEquals(0, train(quantized, stored).code());
        EngineProcess onLoading = train(model, loaded, "--load_in_4bit", "--use_bnb_nested_quant");
        assertEquals(0, onLoading.code(), onLoading.err());
        assertEquals(
                -1,
                Files.mismatch(
                        stored.resolve("adapter_model.safetensors"), loaded.resolve("adapter_model.safetensors")));
        Path plain = folder.resolve("plain");
        assertEquals(0, train(model, plain).code());
        assertFalse(
                Files.mismatch(stored.resolve("adapter_model.safetensors"), plain.resolve("adapter_model.safetensors"))
                        < 0,
                "NF4 changes nothing?");
        EngineProcess again = train(quantized, folder.resolve("again"), "--load_in_4bit");
        assertEquals(0, again.code(), again.err());
        assertTrue(again.out().contains("stored in NF4 and used as it is"), again.out());
    }

    @Test
    void damagedPartsAreNamed() throws Exception {
        assertEquals(0, quantize().code());
        damage("\"quant_type\": \"nf4\"", "\"quant_type\": \"nf3\"");
        assertRefused(train(quantized, folder.resolve("out")), "model.safetensors", "quant_type", "nf3", "\"nf4\"");
        damage("\"quant_type\": \"nf3\"", "\"quant_type\": \"nf4\"");
        damage("\"blocksize\": 64", "\"blocksize\": 63");
        assertRefused(train(quantized, folder.resolve("out")), "blocksize", "63");
        damage("\"blocksize\": 63", "\"blocksize\"; 64");
        assertRefused(train(quantized, folder.resolve("out")), "quant_state", "not valid JSON");
        assertFalse(Files.exists(folder.resolve("out")));
    }

    @Test
    void aConfigThatSaysOtherwiseIsNamed() throws Exception {
        assertEquals(0, quantize().code());
        Path config = quantized.resolve("config.json");
        UnaryOperator<String> change = text -> text.replace("\"nf4\"", "\"fp4\"");
        Files.writeString(config, change.apply(Files.readString(config)));
        assertRefused(train(quantized, folder.resolve("out")), "config.json", "bnb_4bit_quant_type", "fp4");
        Files.copy(model.resolve("config.json"), config, StandardCopyOption.REPLACE_EXISTING);
        assertRefused(train(quantized, folder.resolve("out")), "no quantization_config");
    }

    @Test
    void aWeightThatIsNotFiniteIsNamed() throws Exception {
        Path weights = model.resolve("model-00001-of-00002.safetensors");
        String name = "language_model.model.layers.0.mlp.down_proj.weight";
        byte[] bytes = Files.readAllBytes(weights);
        try (Safetensors file = Safetensors.open(weights)) {
            TensorEntry entry = file.entry(name);
            long first = bytes.length - dataFrom(file, entry);
            bytes[(int) first + 7] = (byte) 0xff; // the fourth value of a tensor of two bytes each: 0xffff is NaN
            bytes[(int) first + 6] = (byte) 0xff;
        }
        Files.write(weights, bytes);
        assertRefused(quantize(), weights.toString(), name, "value 3 is", "nan");
        assertRefused(train(model, folder.resolve("out"), "--load_in_4bit"), weights.toString(), name);
        assertFalse(Files.exists(quantized));
        assertEquals(List.of(), EngineProcess.list(quantized));
    }

    /** Bytes from the tensor's first to the end of the file. */
    private static long dataFrom(Safetensors file, TensorEntry entry) {
        long bytes = 0;
        boolean behind = false;
        for (TensorEntry other : file.entries().values()) { // in the order of the data
            behind |= other.name().equals(entry.name());
            bytes += behind ? other.data().byteSize() : 0;
        }
        return bytes;
    }

    /** Killed at any moment, there is the whole checkpoint or none, and the next run is not in its way. */
    @Test
    void killedWhileWriting() throws Exception {
        List<String> arguments = List.of("quantize", "--model_name_or_path=" + model, "--output_dir=" + quantized);
        for (int i = 0; i < 4; i++) {
            Process process =
                    EngineProcess.start(folder.resolve("stdout.txt"), folder.resolve("stderr.txt"), arguments);
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            Path part = folder.resolve(".nf4.part");
            while (process.isAlive() && !Files.exists(part) && System.nanoTime() < deadline) {
                Thread.onSpinWait();
            }
            TimeUnit.MILLISECONDS.sleep(i);
            process.destroyForcibly().waitFor();
            if (Files.exists(quantized)) {
                break; // it was done
            }
        }
        if (!Files.exists(quantized)) {
            assertEquals(0, quantize().code());
        }
        assertTrue(EngineProcess.list(quantized).containsAll(List.of("config.json", "model.safetensors")));
        assertFalse(Files.exists(folder.resolve(".nf4.part")));
        assertEquals(0, train(quantized, folder.resolve("out")).code());
    }
}
