package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import lapidary.format.Json;
import lapidary.format.Safetensors;
import lapidary.format.TensorEntry;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** SIGKILL to a whole training run, at any moment: what stands under a final name is whole, and belongs together. */
final class KillTest {
    private static final Set<String> COPIED = Set.of(
            "added_tokens.json",
            "chat_template.json",
            "preprocessor_config.json",
            "processor_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json");
    private static final Set<String> WRITTEN = Set.of(
            "adapter_config.json",
            "adapter_model.safetensors",
            "metrics.jsonl",
            "train_config.yaml",
            "trainer_state.json");

    /** Where the files grow before they are renamed, all together. */
    private static final String PARTS = ".adapter_config.json.parts";

    private static final int ROUNDS = 8;

    @TempDir
    Path folder;

    private Path model;
    private Path output;

    @BeforeEach
    void goodInputs() throws IOException {
        model = EngineProcess.model(folder.resolve("model"));
        output = folder.resolve("out");
        Files.writeString(
                folder.resolve("train.jsonl"),
                "{\"messages\": [{\"role\": \"user\", \"content\": \"what shape\"}, {\"role\": \"assistant\", \"content\": \"square\"}]}\n"
                        .repeat(20));
    }

    /** Ranks differ between runs, so that files of two runs are told apart. */
    private List<String> arguments(int rank, int steps) {
        return List.of(
                "train",
                "--model_name_or_path=" + model,
                "--dataset_name=" + folder.resolve("train.jsonl"),
                "--output_dir=" + output,
                "--overwrite_output_dir",
                "--max_steps=" + steps,
                "--per_device_train_batch_size=1",
                "--gradient_accumulation_steps=1",
                "--lora_modules_to_save=lm_head,embed_tokens",
                "--lora_r=" + rank,
                "--save_strategy=no",
                "--logging_steps=1");
    }

    private Process start(int rank, int steps) throws IOException {
        return EngineProcess.start(folder.resolve("stdout.txt"), folder.resolve("stderr.txt"), arguments(rank, steps));
    }

    @Test
    void leavesWholeFilesAtAnyMoment() throws Exception {
        Random random = new Random(11);
        for (int round = 0; round < 6; round++) {
            Process run = start(round % 2 == 0 ? 4 : 8, 20);
            run.waitFor(100 + random.nextInt(1500), TimeUnit.MILLISECONDS);
            kill(run);
            checkOutput();
        }
        checkGoodRun();
    }

    @Test
    void leavesWholeFilesWhereItWasWritingThem() throws Exception {
        checkGoodRun(); // of rank 8, whose files the next runs replace
        Random random = new Random(12);
        int caught = 0;
        for (int round = 0; round < ROUNDS; round++) {
            Process run = start(round % 4 < 2 ? 4 : 8, 2);
            await(run, EngineProcess.list(output.resolve(PARTS))); // what an earlier kill left there
            if (round % 2 == 0) {
                Thread.sleep(random.nextInt(10));
            } else {
                while (run.isAlive()
                        && !EngineProcess.list(output.resolve(PARTS)).contains("trainer_state.json")) {
                    LockSupport.parkNanos(100_000); // the last of them
                }
                await(run, EngineProcess.list(output.resolve(PARTS))); // now they are being renamed
            }
            kill(run);
            caught += Files.exists(output.resolve(PARTS)) ? 1 : 0;
            checkOutput();
        }
        assertTrue(caught > 0, "no kill fell into the writing");
        checkGoodRun();
    }

    /** Waits for the growing files to be others than {@code before}; without spinning, which would slow the run down. */
    private void await(Process run, List<String> before) throws IOException {
        while (run.isAlive() && before.equals(EngineProcess.list(output.resolve(PARTS)))) {
            LockSupport.parkNanos(100_000);
        }
    }

    private static void kill(Process run) throws InterruptedException {
        run.destroyForcibly();
        assertTrue(run.waitFor(30, TimeUnit.SECONDS));
    }

    private void checkGoodRun() throws Exception {
        EngineProcess run = EngineProcess.run(folder, arguments(8, 2));
        assertEquals("", run.err());
        assertEquals(0, run.code());
        checkOutput();
        Set<String> all = new TreeSet<>(COPIED);
        all.addAll(WRITTEN);
        assertEquals(List.copyOf(all), EngineProcess.list(output));
    }

    private void checkOutput() throws IOException {
        Set<String> found = new TreeSet<>(EngineProcess.list(output));
        found.removeAll(Set.of(PARTS, ".lock"));
        for (String name : found) {
            Path file = output.resolve(name);
            if (COPIED.contains(name)) {
                assertArrayEquals(Files.readAllBytes(model.resolve(name)), Files.readAllBytes(file), name);
            } else if (name.equals("metrics.jsonl")) {
                for (String line : Files.readAllLines(file)) {
                    Json.parse(name, line).number("loss");
                }
            } else if (name.endsWith(".yaml")) {
                assertEquals(
                        output.toString(),
                        ConfigFile.read(file)
                                .entries()
                                .get("output_dir")
                                .values()
                                .get(0));
            } else if (name.endsWith(".safetensors")) {
                rank(); // reads the whole header; the file has the length it says
            } else {
                assertTrue(WRITTEN.contains(name), name);
                Json.read(file);
            }
        }
        if (found.contains("adapter_config.json")) {
            Set<String> all = new TreeSet<>(COPIED);
            all.addAll(WRITTEN);
            assertEquals(all, found);
            assertEquals(
                    Json.read(output.resolve("adapter_config.json")).get("r").intBetween(1, 99), rank());
        }
    }

    /** The rank that the adapter's tensors have. */
    private int rank() {
        try (Safetensors weights = Safetensors.open(output.resolve("adapter_model.safetensors"))) {
            String name = weights.names().stream()
                    .filter(n -> n.endsWith("lora_A.weight"))
                    .findFirst()
                    .orElseThrow();
            TensorEntry entry = weights.entry(name);
            return (int) entry.shape()[0];
        }
    }
}
