package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A user's mistakes, each in a whole run of {@code engine train}: one line, exit code 1 or 2, nothing written. */
final class FaultsTest {
    private static final String CHAT =
            "{\"messages\": [{\"role\": \"user\", \"content\": \"what shape\"}, {\"role\": \"assistant\", \"content\": \"square\"}]}\n";

    @TempDir
    Path folder;

    private Path model;
    private Path data;
    private Path output;

    @BeforeEach
    void goodInputs() throws IOException {
        model = EngineProcess.model(folder.resolve("model"));
        data = Files.writeString(folder.resolve("train.jsonl"), CHAT.repeat(9));
        output = folder.resolve("out");
    }

    /** Runs the engine to its end on a run of one step. */
    private EngineProcess train(String... more) throws IOException, InterruptedException {
        List<String> arguments = new ArrayList<>(List.of(
                "train",
                "--model_name_or_path=" + model,
                "--dataset_name=" + data,
                "--output_dir=" + output,
                "--max_steps=1",
                "--per_device_train_batch_size=1",
                "--gradient_accumulation_steps=1",
                "--lora_r=2",
                "--dtype=float32"));
        arguments.addAll(Arrays.asList(more));
        return EngineProcess.run(folder, arguments);
    }

    /** Checks that a run ends with this code and one line with these words, and leaves no file behind. */
    private void refused(int code, List<String> words, String... more) throws IOException, InterruptedException {
        boolean folderBefore = Files.isDirectory(output);
        List<String> before = EngineProcess.list(output);
        EngineProcess run = train(more);
        assertEquals(1, run.err().lines().count(), run.err());
        assertTrue(run.err().startsWith("engine: "), run.err());
        assertFalse(run.err().contains("Exception"), run.err());
        for (String word : words) {
            assertTrue(run.err().contains(word), () -> "\"" + word + "\" is not in: " + run.err());
        }
        assertEquals(code, run.code(), run.err());
        assertEquals(before, EngineProcess.list(output));
        assertEquals(folderBefore, Files.isDirectory(output));
    }

    /** The last of ten rows: whoever trains for one step only would not see it. */
    private void lastRow(String row) throws IOException {
        Files.writeString(data, CHAT.repeat(9) + row + "\n");
    }

    @Test
    void goodInputsTrain() throws Exception {
        EngineProcess run = train();
        assertEquals("", run.err());
        assertEquals(0, run.code());
        assertTrue(EngineProcess.list(output).contains("adapter_model.safetensors"));
        assertTrue(EngineProcess.list(output).stream().noneMatch(name -> name.startsWith(".")));
    }

    @Test
    void missingModel() throws Exception {
        model = folder.resolve("nowhere");
        refused(1, List.of("no such folder", model.toString(), "google/gemma-3-4b-it"));
    }

    @Test
    void aFolderWithoutAModel() throws Exception {
        model = Files.createDirectory(folder.resolve("empty"));
        refused(1, List.of(model.toString(), "config.json"));
    }

    @Test
    void truncatedWeights() throws Exception {
        Path weights = model.resolve("model-00002-of-00002.safetensors");
        Files.write(weights, Arrays.copyOf(Files.readAllBytes(weights), 1_000_000));
        refused(1, List.of(weights.toString(), "truncated", "fetch it again"));
    }

    @Test
    void wrongTensorShape() throws Exception {
        Path weights = model.resolve("model-00001-of-00002.safetensors");
        byte[] bytes = Files.readAllBytes(weights);
        int length = (int) ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
        String header = new String(bytes, 8, length, StandardCharsets.UTF_8);
        Matcher shape = Pattern.compile("(down_proj.weight\":\\{[^}]*\"shape\":)\\[(\\d+),(\\d+)]")
                .matcher(header);
        assertTrue(shape.find() && !shape.group(2).equals(shape.group(3)), header);
        String swapped = shape.replaceFirst("$1[$3,$2]");
        System.arraycopy(swapped.getBytes(StandardCharsets.UTF_8), 0, bytes, 8, length);
        Files.write(weights, bytes);
        refused(1, List.of(weights.toString(), "down_proj.weight", shape.group(2), shape.group(3)));
    }

    @Test
    void corruptImage() throws Exception {
        Path picture = Files.writeString(folder.resolve("a.png"), "\u0089PNG but no more");
        Files.writeString(data, CHAT.replace("]}", "], \"images\": [\"a.png\"]}"));
        refused(1, List.of("train.jsonl:1", picture.toString()));
    }

    @Test
    void missingImage() throws Exception {
        lastRow(CHAT.strip().replace("]}", "], \"images\": [\"gone.png\"]}"));
        refused(1, List.of("train.jsonl:10", "gone.png"));
    }

    @Test
    void emptyDataSet() throws Exception {
        Files.writeString(data, "\n\n");
        refused(1, List.of("train.jsonl", "no rows"));
    }

    @Test
    void imagesThatDoNotMatchPlaceholders() throws Exception {
        Files.writeString(folder.resolve("a.png"), "");
        lastRow("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\"}, {\"type\": \"image\"}]},"
                + " {\"role\": \"assistant\", \"content\": \"square\"}], \"images\": [\"a.png\"]}");
        refused(1, List.of("train.jsonl:10", "picture 1"));
    }

    @Test
    void placeholderWithoutImage() throws Exception {
        lastRow(CHAT.strip().replace("what shape", "what <start_of_image> shape"));
        refused(1, List.of("train.jsonl:10", "1 <start_of_image>", "0 images", "take it out"));
    }

    @Test
    void rowWithoutTarget() throws Exception {
        lastRow("{\"messages\": [{\"role\": \"system\", \"content\": \"alone\"}]}");
        refused(1, List.of("train.jsonl:10", "target", "take the record out"));
    }

    @Test
    void brokenJsonLine() throws Exception {
        lastRow("{\"messages\": [");
        refused(1, List.of("train.jsonl:10", "JSON"));
    }

    @Test
    void fileInPlaceOfTheOutputFolder() throws Exception {
        Files.writeString(output, "mine");
        EngineProcess run = train();
        assertEquals(1, run.code());
        assertEquals(1, run.err().lines().count(), run.err());
        assertTrue(run.err().contains(output + " is a file, not a folder"), run.err());
        assertEquals("mine", Files.readString(output));
        output = output.resolve("deep/er");
        refused(1, List.of("--output_dir", "is a file, not a folder", "choose another"));
    }

    @Test
    void folderInPlaceOfAnOutputFile() throws Exception {
        Files.createDirectories(output.resolve("adapter_model.safetensors/x"));
        refused(1, List.of("--output_dir", "adapter_model.safetensors"));
    }

    @Test
    void anotherRunInTheSameFolder() throws Exception {
        Files.createDirectories(output);
        Process first = EngineProcess.start(
                folder.resolve("first.out"),
                folder.resolve("first.err"),
                List.of(
                        "train",
                        "--model_name_or_path=" + model,
                        "--dataset_name=" + data,
                        "--output_dir=" + output,
                        "--max_steps=100000",
                        "--logging_steps=100000"));
        try {
            while (first.isAlive()
                    && !Files.readString(folder.resolve("first.out")).contains("Training")) {
                LockSupport.parkNanos(100_000);
            }
            refused(1, List.of("--output_dir", "another run is writing to it"));
        } finally {
            first.destroyForcibly();
        }
        assertTrue(first.waitFor(30, TimeUnit.SECONDS));
        assertEquals(0, train().code()); // the lock of a killed run holds nobody up
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            textBlock =
                    """
            --lora_rank=3 | --lora_rank | did you mean
            --lora_alpha=x | --lora_alpha | x
            --learning_rate=-1 | --learning_rate | -1
            --dtype=float16 | --dtype | float16
            """)
    void badOption(String option, String name, String word) throws Exception {
        refused(2, List.of(name, word), option);
    }

    @Test
    void targetThatIsNotInTheModel() throws Exception {
        refused(1, List.of("--lora_target_modules", "nonsense", "q_proj"), "--lora_target_modules=nonsense");
    }
}
