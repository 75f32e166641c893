package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import lapidary.format.AtomicFile;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestReporter;
import org.junit.jupiter.api.io.TempDir;

/**
 * SIGKILL to a training run at any moment, and SIGTERM: gone on with, it ends in the bytes of a run that was left alone.
 * {@code mvn -pl java/engine test -Dtest=ResumeKillTest -DargLine="... -Dlapidary.kills=1000"} makes it the long test.
 */
final class ResumeKillTest {
    private static final int KILLS = Integer.getInteger("lapidary.kills", 100);
    private static final long SEED = Long.getLong("lapidary.kills.seed", 21);
    private static final int STEPS = 12;

    @TempDir
    Path folder;

    private Path model;

    @BeforeEach
    void goodInputs() throws IOException {
        model = EngineProcess.model(folder.resolve("model"));
        StringBuilder rows = new StringBuilder();
        for (int i = 0; i < 20; i++) {
            rows.append("{\"messages\": [{\"role\": \"user\", \"content\": \"what ")
                    .append(i)
                    .append("\"}, {\"role\": \"assistant\", \"content\": \"shape ")
                    .append(i % 7)
                    .append("\"}]}\n");
        }
        Files.writeString(folder.resolve("train.jsonl"), rows);
        Files.writeString(folder.resolve("held.jsonl"), rows.substring(0, rows.indexOf("\n") + 1));
    }

    private List<String> arguments(Path output) {
        return List.of(
                "train",
                "--model_name_or_path=" + model,
                "--dataset_name=" + folder.resolve("train.jsonl"),
                "--eval_dataset=" + folder.resolve("held.jsonl"),
                "--output_dir=" + output,
                "--max_steps=" + STEPS,
                "--per_device_train_batch_size=2",
                "--gradient_accumulation_steps=2",
                "--learning_rate=1e-2",
                "--lora_modules_to_save=lm_head,embed_tokens",
                "--lora_r=2",
                "--logging_steps=2",
                "--save_steps=1",
                "--save_total_limit=2",
                "--eval_strategy=steps",
                "--eval_steps=3",
                "--resume_from_checkpoint=true");
    }

    private void finish(Path output) throws Exception {
        EngineProcess run = EngineProcess.run(folder, arguments(output));
        assertEquals("", run.err());
        assertEquals(0, run.code());
    }

    private void assertSame(Path expected, Path actual) throws IOException {
        for (String file : List.of(
                "adapter_model.safetensors",
                "adapter_config.json",
                "checkpoint-12/adapter_model.safetensors",
                "checkpoint-12/optimizer.safetensors",
                "checkpoint-11/optimizer.safetensors")) {
            assertArrayEquals(
                    Files.readAllBytes(expected.resolve(file)), Files.readAllBytes(actual.resolve(file)), file);
        }
        assertEquals(log(expected), log(actual));
        List<String> names = new ArrayList<>(EngineProcess.list(actual));
        names.remove(".adapter_config.json.parts"); // replaced by the next write
        assertEquals(EngineProcess.list(expected), names);
    }

    /** The log without what a clock decides. */
    private static List<JsonNode> log(Path output) throws IOException {
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(output.resolve("metrics.jsonl"))) {
            ObjectNode entry = (ObjectNode) new ObjectMapper().readTree(line);
            entry.remove(List.of(
                    "step_seconds",
                    "tokens_per_second",
                    "samples_per_second",
                    "data_wait",
                    "device_memory",
                    "host_memory",
                    "eval_runtime",
                    "eval_samples_per_second",
                    "eval_steps_per_second"));
            lines.add(entry);
        }
        return lines;
    }

    @Test
    void aKilledRunEndsAsIfItHadNotBeen(TestReporter reporter) throws Exception {
        Path whole = folder.resolve("whole");
        finish(whole);
        Path output = folder.resolve("out");
        Random random = new Random(SEED);
        int writing = 0; // kills that fell into the writing of a checkpoint
        int ended = 1; // runs that came to their end, and were compared
        for (int kills = 0; kills < KILLS; kills++) {
            Path said = folder.resolve("stdout.txt");
            Process run = EngineProcess.start(said, folder.resolve("stderr.txt"), arguments(output));
            switch (kills % 4) {
                case 0 -> run.waitFor(random.nextInt(2000), TimeUnit.MILLISECONDS);
                case 2 -> {
                    int lines = 2 + random.nextInt(6);
                    await(run, () -> Files.readString(said).lines().count() >= lines);
                    Thread.sleep(random.nextInt(30));
                }
                default -> {
                    for (int checkpoints = random.nextInt(3); checkpoints >= 0; checkpoints--) {
                        await(run, () -> parts(output).isEmpty()); // what the last kill left is cleared away first
                        await(run, () -> !parts(output).isEmpty());
                    }
                    Thread.sleep(random.nextInt(12));
                }
            }
            boolean killed = run.isAlive();
            run.destroyForcibly();
            assertTrue(run.waitFor(30, TimeUnit.SECONDS));
            if (!killed) {
                assertEquals(0, run.exitValue(), Files.readString(folder.resolve("stderr.txt")));
                assertSame(whole, output);
                AtomicFile.deleteTree(output);
                ended++;
            }
            writing += kills % 2 == 1 && !parts(output).isEmpty() ? 1 : 0;
        }
        finish(output);
        assertSame(whole, output);
        reporter.publishEntry(Map.of(
                "kills", "" + KILLS, "while a checkpoint was written", "" + writing, "ends compared", "" + ended));
        assertTrue(writing > 0, "no kill fell into the writing of a checkpoint");
    }

    /** Waits without spinning, which would slow the run down. */
    private static void await(Process run, Callable<Boolean> what) throws Exception {
        while (run.isAlive() && !what.call()) {
            LockSupport.parkNanos(100_000);
        }
    }

    private static List<String> parts(Path output) throws IOException {
        return EngineProcess.list(output).stream()
                .filter(name -> name.startsWith(".checkpoint-"))
                .toList();
    }

    /** What a terminal's Ctrl-C and a system that shuts down send. */
    @Test
    void anInterruptedRunSavesAndSaysHowToGoOn() throws Exception {
        Path whole = folder.resolve("whole");
        finish(whole);
        Path output = folder.resolve("out");
        Path out = folder.resolve("stdout.txt");
        Process run = EngineProcess.start(out, folder.resolve("stderr.txt"), arguments(output));
        await(run, () -> Files.readString(out).contains("step 2/"));
        run.destroy(); // SIGTERM
        assertTrue(run.waitFor(60, TimeUnit.SECONDS));
        String said = Files.readString(out);
        assertEquals(0, run.exitValue(), said + Files.readString(folder.resolve("stderr.txt")));
        assertTrue(said.contains("Stopped after step "), said);
        assertTrue(said.contains("Go on with: engine train --model_name_or_path=" + model), said);
        assertTrue(said.trim().endsWith("--resume_from_checkpoint true"), said);
        assertTrue(Files.notExists(output.resolve("adapter_model.safetensors")), said);
        assertTrue(Files.exists(output.resolve("train_config.yaml")), "written before the end");
        finish(output);
        assertSame(whole, output);
    }
}
