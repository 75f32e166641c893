package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Stream;
import lapidary.data.Profile;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.optim.OptimizerOptions;
import lapidary.train.SaveOptions.Strategy;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Runs that are stopped and gone on with end as if they had not been, to the byte. */
final class ResumeTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");

    @TempDir
    private Path folder;

    private final List<String> notices = new ArrayList<>();
    private Consumer<Path> whileWriting = part -> {};

    /** What a run may be made of. */
    private enum Recipe {
        PLAIN,
        ACCUMULATED,
        EVALUATED,
        CODED,
        GRADIENT_DESCENT,
        LIKE_TRL
    }

    @BeforeEach
    void rows() throws IOException {
        StringBuilder rows = new StringBuilder();
        for (String word : List.of("square", "circle", "star", "ring", "cross")) {
            rows.append("{\"messages\":[{\"role\":\"user\",\"content\":\"what ")
                    .append(word)
                    .append("\"},{\"role\":\"assistant\",\"content\":\"a ")
                    .append(word)
                    .append("\"}]}\n");
        }
        Files.writeString(folder.resolve("rows.jsonl"), rows);
        Files.writeString(folder.resolve("held.jsonl"), rows.toString().replace("what", "which"));
    }

    private SftConfig.Builder config(String output) {
        return SftConfig.builder(MODEL, folder.resolve("rows.jsonl").toString(), folder.resolve(output))
                .perDeviceTrainBatchSize(2)
                .loraR(2)
                .loraDropout(0.2)
                .learningRate(1e-2)
                .loggingSteps(2)
                .numTrainEpochs(3);
    }

    private SftConfig config(Recipe recipe, String output, String resumeFrom) {
        SftConfig.Builder builder = config(output).saving(new SaveOptions(Strategy.STEPS, 2, 0, resumeFrom));
        switch (recipe) {
            case PLAIN -> builder.loraModulesToSave(List.of("lm_head", "embed_tokens"));
            case ACCUMULATED -> builder.perDeviceTrainBatchSize(1)
                    .gradientAccumulationSteps(2)
                    .warmupSteps(2)
                    .lrSchedulerType("cosine");
            case EVALUATED -> builder.evaluation(evaluation(0))
                    .saving(new SaveOptions(Strategy.STEPS, 3, 0, resumeFrom));
            case CODED -> builder.optimizer(new OptimizerOptions(OptimizerOptions.ADAMW_8BIT, 0.9, 0.999, 1e-8, 0.01))
                    .loraModulesToSave(List.of("lm_head", "embed_tokens"));
            case GRADIENT_DESCENT -> builder.optimizer(
                            new OptimizerOptions(OptimizerOptions.SGD, 0.9, 0.999, 1e-8, 0.01))
                    .loraModulesToSave(List.of("lm_head", "embed_tokens"));
            case LIKE_TRL -> builder.profile(Profile.TRL)
                    .loadIn4bit(true)
                    .loraModulesToSave(List.of("lm_head", "embed_tokens"));
            default -> throw new AssertionError(recipe);
        }
        return builder.build();
    }

    private EvalOptions evaluation(int patience) {
        return evaluation("loss", "held.jsonl", patience);
    }

    private EvalOptions evaluation(String metric, String held, int patience) {
        return new EvalOptions(
                EvalOptions.Strategy.STEPS,
                folder.resolve(held).toString(),
                "test",
                1,
                2,
                false,
                metric,
                null,
                patience,
                0);
    }

    /** Runs until {@code stopAfter} steps are done, or to the end. */
    private TrainingReport run(SftConfig config, int stopAfter) {
        try (Device device = CpuDevice.open()) {
            Sft[] sft = new Sft[1];
            TrainingListener listener = new TrainingListener() {
                @Override
                public void onNotice(String line) {
                    if (!line.startsWith("The adapter loads in PEFT")) { // what the adapter is for
                        notices.add(line);
                    }
                }

                @Override
                public void onWrite(Path part) {
                    whileWriting.accept(part);
                }

                @Override
                public void onStep(int step, int maxSteps, double loss) {
                    if (step == stopAfter) {
                        sft[0].stop();
                    }
                }
            };
            sft[0] = new Sft(config, device, listener);
            return sft[0].run();
        }
    }

    private byte[] bytes(String output, String file) throws IOException {
        return Files.readAllBytes(folder.resolve(output).resolve(file));
    }

    /** Lines of the log without what a clock decides. */
    private List<JsonNode> log(String output) throws IOException {
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(folder.resolve(output).resolve("metrics.jsonl"))) {
            lines.add(timeless(new ObjectMapper().readTree(line)));
        }
        return lines;
    }

    private static JsonNode timeless(JsonNode entry) {
        ((ObjectNode) entry).remove(List.of("step_seconds", "data_wait", "device_memory", "host_memory"));
        ((ObjectNode) entry)
                .remove(entry.propertyStream()
                        .map(Map.Entry::getKey)
                        .filter(key -> key.endsWith("_runtime") || key.endsWith("_per_second"))
                        .toList());
        return entry;
    }

    private JsonNode state(String output) throws IOException {
        JsonNode state = new ObjectMapper()
                .readTree(Files.readString(folder.resolve(output).resolve("trainer_state.json")));
        state.get("log_history").forEach(ResumeTest::timeless);
        return new ObjectMapper()
                .readTree(state.toString()
                        .replace(folder.resolve(output.split("/")[0]).toString(), "OUT"));
    }

    private void assertSame(String expected, String actual) throws IOException {
        for (String file : List.of("adapter_model.safetensors", "adapter_config.json")) {
            assertArrayEquals(bytes(expected, file), bytes(actual, file), file);
        }
        assertEquals(log(expected), log(actual));
        assertEquals(state(expected), state(actual));
        List<String> checkpoints = checkpoints(expected);
        assertEquals(checkpoints, checkpoints(actual));
        for (String checkpoint : checkpoints) {
            for (String file : List.of("adapter_model.safetensors", "optimizer.safetensors")) {
                assertArrayEquals(
                        bytes(expected + "/" + checkpoint, file),
                        bytes(actual + "/" + checkpoint, file),
                        checkpoint + " " + file);
            }
            assertEquals(state(expected + "/" + checkpoint), state(actual + "/" + checkpoint));
        }
    }

    private List<String> checkpoints(String output) throws IOException {
        try (Stream<Path> files = Files.list(folder.resolve(output))) {
            return files.map(file -> file.getFileName().toString())
                    .filter(name -> name.startsWith("checkpoint-"))
                    .sorted()
                    .toList();
        }
    }

    @ParameterizedTest
    @EnumSource(Recipe.class)
    void aStoppedRunEndsAsIfItHadNotBeen(Recipe recipe) throws IOException {
        TrainingReport whole = run(config(recipe, "whole", ""), -1);
        assertFalse(whole.stopped());
        TrainingReport first = run(config(recipe, "parts", ""), 3);
        assertTrue(first.stopped());
        assertEquals(folder.resolve("parts/checkpoint-3"), first.written());
        assertEquals(3, first.step());
        assertFalse(Files.exists(folder.resolve("parts/adapter_model.safetensors")));
        run(config(recipe, "parts", "true"), 4);
        run(config(recipe, "parts", "true"), 7);
        TrainingReport last = run(config(recipe, "parts", "TRUE"), -1);
        assertEquals(whole.step(), last.step());
        for (int step : new int[] {3, 4, 7}) { // where only the stopped run saved
            if (!checkpoints("whole").contains("checkpoint-" + step)) {
                AtomicFile.deleteTree(folder.resolve("parts/checkpoint-" + step));
            }
        }
        assertSame("whole", "parts");
        assertEquals(List.of(), notices);
    }

    /** Also where every checkpoint is gone on from by its folder, into a folder of its own. */
    @ParameterizedTest
    @ValueSource(ints = {2, 4, 6, 8, 9})
    void anyCheckpointLeadsToTheSameEnd(int step) throws IOException {
        run(config(Recipe.PLAIN, "whole", ""), -1);
        run(
                config(
                        Recipe.PLAIN,
                        "other",
                        folder.resolve("whole/checkpoint-" + step).toString()),
                -1);
        assertArrayEquals(bytes("whole", "adapter_model.safetensors"), bytes("other", "adapter_model.safetensors"));
        assertEquals(state("whole").get("log_history"), state("other").get("log_history"));
        assertEquals(log("whole").size(), log("other").size());
    }

    /** A power cut may leave half a line, or zeros where the system had not written the bytes yet. */
    @ParameterizedTest
    @ValueSource(strings = {"{\"step\": 6, \"lo", "\0\0\0\u00e9"})
    void aTornLineOfTheLogIsNoObstacle(String torn) throws IOException {
        SaveOptions saving = new SaveOptions(Strategy.STEPS, 2, 0, "");
        run(config("whole").saving(saving).build(), -1);
        run(config("out").saving(saving).build(), 4);
        Files.write(
                folder.resolve("out/metrics.jsonl"),
                torn.getBytes(java.nio.charset.StandardCharsets.ISO_8859_1),
                java.nio.file.StandardOpenOption.APPEND);
        run(config("out").saving(new SaveOptions(Strategy.STEPS, 2, 0, "true")).build(), -1);
        assertSame("whole", "out");
    }

    /** A log of as many lines is not the run's own for that. */
    @Test
    void theLogOfAnotherRunIsNotGoneOnWith() throws IOException {
        SaveOptions saving = new SaveOptions(Strategy.STEPS, 2, 0, "");
        run(config("whole").saving(saving).build(), -1);
        run(config("other").saving(saving).seed(43).build(), 4);
        String from = folder.resolve("whole/checkpoint-4").toString();
        run(config("other").saving(new SaveOptions(Strategy.STEPS, 2, 0, from)).build(), -1);
        for (int line = 0; line < log("whole").size(); line++) {
            for (String key : List.of("step", "loss", "grad_norm")) {
                assertEquals(
                        log("whole").get(line).get(key), log("other").get(line).get(key), key);
            }
        }
    }

    private String refusal(SftConfig config) {
        return assertThrows(FormatException.class, () -> run(config, -1)).getMessage();
    }

    @Test
    void anotherRunsCheckpointIsRefused() throws IOException {
        run(config("out").saving(new SaveOptions(Strategy.STEPS, 2, 0, "")).build(), 4);
        SaveOptions resume = new SaveOptions(Strategy.STEPS, 2, 0, "true");
        String message = refusal(config("out").saving(resume).seed(43).build());
        assertTrue(message.contains("--seed was 42 and is 43"), message);
        assertTrue(message.contains("--init_adapter " + folder.resolve("out/checkpoint-4")), message);
        message = refusal(config("out").saving(resume).learningRate(2e-2).build());
        assertTrue(message.contains("--learning_rate was 0.01 and is 0.02, which"), message);
        message = refusal(config("out").saving(resume).numTrainEpochs(4).build());
        assertTrue(
                message.contains("the number of steps (--num_train_epochs) was 9 and is 12, which changes"), message);
        message = refusal(config("out").saving(resume).maxSteps(12).build());
        assertTrue(
                message.contains(
                        "--max_steps was 9 and is 12, which changes the schedule: the learning rate of step 2 was"
                                + " 0.00889 and would be 0.00917;"),
                message);
        message = refusal(config("out").saving(resume).maxSteps(3).build());
        assertTrue(message.contains("after step 4, the run has 3"), message);
        message = refusal(config("out").saving(resume).dtype(DType.F32).build());
        assertTrue(message.contains("--dtype was \"bfloat16\""), message);
        message = refusal(config("out")
                .saving(resume)
                .loraTargetModules(List.of("q_proj"))
                .build());
        assertTrue(message.contains("--lora_target_modules"), message);
        message = refusal(config("out").saving(resume).profile(Profile.TRL).build());
        assertTrue(message.contains("--compat"), message);
        Path model = copyOfModel();
        try (Stream<Path> files = Files.list(model)) {
            flip(files.filter(file -> file.toString().endsWith(".safetensors"))
                    .findFirst()
                    .orElseThrow());
        }
        SftConfig.Builder other =
                SftConfig.builder(model, folder.resolve("rows.jsonl").toString(), folder.resolve("out"));
        message = refusal(other.perDeviceTrainBatchSize(2)
                .loraR(2)
                .loraDropout(0.2)
                .learningRate(1e-2)
                .loggingSteps(2)
                .saving(resume)
                .build());
        assertTrue(message.contains("the model is not the one"), message);
        Path rows = folder.resolve("rows.jsonl");
        Files.writeString(rows, Files.readString(rows).replace("a star", "the star"));
        message = refusal(config("out").saving(resume).build());
        assertTrue(message.contains("the rows of the data set"), message);
    }

    @Test
    void harmlessChangesAreReported() {
        run(
                config("out")
                        .saving(new SaveOptions(Strategy.STEPS, 2, 0, ""))
                        .lrSchedulerType("constant")
                        .build(),
                4);
        run(
                config("out")
                        .saving(new SaveOptions(Strategy.STEPS, 5, 0, "true"))
                        .lrSchedulerType("constant")
                        .numTrainEpochs(4)
                        .loggingSteps(1)
                        .build(),
                -1);
        assertEquals(2, notices.size(), notices.toString());
        assertTrue(notices.get(0).contains("logging_steps was 2 and is 1"), notices.toString());
        assertTrue(
                notices.get(1).contains("(--num_train_epochs) was 9 and is 12; the learning rates are the same"),
                notices.toString());
    }

    /** Nothing goes on; and what would make it longer depends on whether its learning rates would stay. */
    @ParameterizedTest
    @CsvSource({"linear, --init_adapter ", "constant, A larger --num_train_epochs makes it longer"})
    void aFinishedRunIsSaidToBe(String schedule, String cure) throws IOException {
        SaveOptions saving = new SaveOptions(Strategy.STEPS, 5, 0, "true");
        run(config("out").saving(saving).lrSchedulerType(schedule).build(), -1);
        byte[] adapter = bytes("out", "adapter_model.safetensors");
        notices.clear();
        run(config("out").saving(saving).lrSchedulerType(schedule).build(), -1);
        assertEquals(1, notices.size(), notices.toString());
        assertTrue(notices.get(0).startsWith("This run is finished: all 9 steps are done. "), notices.get(0));
        assertTrue(notices.get(0).contains(cure), notices.get(0));
        assertArrayEquals(adapter, bytes("out", "adapter_model.safetensors"));
    }

    private Path copyOfModel() throws IOException {
        Path copy = Files.createDirectory(folder.resolve("model"));
        try (Stream<Path> files = Files.list(MODEL)) {
            for (Path file : files.toList()) {
                Files.copy(file, copy.resolve(file.getFileName()));
            }
        }
        return copy;
    }

    private static void flip(Path file) throws IOException {
        byte[] bytes = Files.readAllBytes(file);
        bytes[bytes.length - 1] ^= 1;
        Files.write(file, bytes);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "flip adapter_model.safetensors",
                "cut optimizer.safetensors",
                "delete adapter_config.json",
                "flip trainer_state.json",
                "cut run_state.json",
                "delete run_state.json"
            })
    void aDamagedCheckpointIsPassedOver(String damage) throws IOException {
        run(config("out").saving(new SaveOptions(Strategy.STEPS, 2, 0, "")).build(), 5);
        Path newest = folder.resolve("out/checkpoint-5");
        Path file = newest.resolve(damage.split(" ")[1]);
        switch (damage.split(" ")[0]) {
            case "flip" -> flip(file);
            case "cut" -> Files.write(file, java.util.Arrays.copyOf(Files.readAllBytes(file), 40));
            default -> Files.delete(file);
        }
        SftConfig named = config("out")
                .saving(new SaveOptions(Strategy.STEPS, 2, 0, newest.toString()))
                .build();
        String message = refusal(named);
        assertTrue(message.contains("checkpoint-5"), message);
        TrainingReport report = run(
                config("out")
                        .saving(new SaveOptions(Strategy.STEPS, 2, 0, "true"))
                        .build(),
                -1);
        assertFalse(report.stopped());
        assertEquals(1, notices.size(), notices.toString());
        assertTrue(notices.get(0).contains("checkpoint-5"), notices.toString());
        assertTrue(notices.get(0).endsWith("; going on from an older checkpoint"), notices.toString());
        run(config("whole").saving(new SaveOptions(Strategy.STEPS, 2, 0, "")).build(), -1);
        assertArrayEquals(bytes("whole", "adapter_model.safetensors"), bytes("out", "adapter_model.safetensors"));
        assertEquals(log("whole"), log("out"));
    }

    /** A disk that is full while one is written, a folder that is read-only for the next. */
    @Test
    void aCheckpointThatCannotBeWrittenCostsNothingElse() throws IOException {
        SaveOptions saving = new SaveOptions(Strategy.STEPS, 2, 0, "");
        run(config("whole").saving(saving).build(), -1);
        whileWriting = part -> {
            String name = part.getFileName().toString();
            if (name.equals(".checkpoint-4.part") || name.equals(".checkpoint-5.part")) {
                throw new UncheckedIOException(new IOException("No space left on device"));
            }
            if (name.equals(".checkpoint-6.part")) {
                throw new UncheckedIOException(new AccessDeniedException(part.toString()));
            }
        };
        run(config("out").saving(saving).build(), -1);
        assertEquals(List.of("checkpoint-2", "checkpoint-8", "checkpoint-9"), checkpoints("out"));
        assertEquals(2, notices.size(), notices.toString());
        String start = "is not written: cannot write " + folder.resolve("out/checkpoint-");
        assertTrue(notices.get(0).contains(start + "4: No space left on device; free some space"), notices.get(0));
        assertTrue(notices.get(1).contains(start + "6: permission denied; make the folder writable"), notices.get(1));
        assertArrayEquals(bytes("whole", "adapter_model.safetensors"), bytes("out", "adapter_model.safetensors"));
        assertFalse(Files.exists(folder.resolve("out/.checkpoint-4.part")));

        FormatException e = assertThrows(
                FormatException.class,
                () -> run(config("stopped").saving(saving).build(), 5));
        assertTrue(e.getMessage().contains("checkpoint-5: No space left on device"), e.getMessage());
        assertEquals(List.of("checkpoint-2"), checkpoints("stopped"));
        whileWriting = part -> {};
        run(
                config("stopped")
                        .saving(new SaveOptions(Strategy.STEPS, 2, 0, "true"))
                        .build(),
                -1);
        assertSame("whole", "stopped");
    }

    @Test
    void whereTheTwoNewestAreHalfAnOlderOneIsGoneOnFrom() throws IOException {
        run(config("whole").saving(new SaveOptions(Strategy.STEPS, 2, 0, "")).build(), -1);
        run(config("out").saving(new SaveOptions(Strategy.STEPS, 2, 0, "")).build(), 6);
        Files.delete(folder.resolve("out/checkpoint-6/optimizer.safetensors"));
        Path cut = folder.resolve("out/checkpoint-4/adapter_model.safetensors");
        Files.write(cut, java.util.Arrays.copyOf(Files.readAllBytes(cut), 1000));
        run(config("out").saving(new SaveOptions(Strategy.STEPS, 2, 0, "true")).build(), -1);
        assertEquals(2, notices.size(), notices.toString());
        assertSame("whole", "out");
    }

    @Test
    void whereAllAreDamagedNothingIsStartedAnew() throws IOException {
        run(config("out").saving(new SaveOptions(Strategy.NO, 2, 0, "")).build(), 2);
        flip(folder.resolve("out/checkpoint-2/optimizer.safetensors"));
        String message = refusal(
                config("out").saving(new SaveOptions(Strategy.NO, 2, 0, "true")).build());
        assertTrue(message.startsWith("no checkpoint in " + folder.resolve("out")), message);
        assertTrue(message.contains("optimizer.safetensors are not those that were written"), message);
    }

    @Test
    void aCheckpointOfAnotherMaskIsRefusedAndOneOfAnotherEngineReported() throws IOException {
        run(config("out").saving(new SaveOptions(Strategy.NO, 2, 0, "")).build(), 2);
        Path manifest = folder.resolve("out/checkpoint-2/run_state.json");
        String written = Files.readString(manifest);
        SftConfig resumed =
                config("out").saving(new SaveOptions(Strategy.NO, 2, 0, "true")).build();
        Files.writeString(manifest, written.replace("causal-window-picture-1", "causal"));
        String message = refusal(resumed);
        assertTrue(message.contains("its attention mask was causal and is causal-window-picture-1"), message);
        Files.writeString(manifest, written.replace("\"of no version\"", "\"0.0.1\""));
        run(resumed, -1);
        assertTrue(
                notices.stream()
                        .anyMatch(line -> line.contains("it was written by engine 0.0.1, and this is of no version")),
                notices.toString());
    }

    /** A checkpoint holds all of the adapter that the run began with. */
    @Test
    void theInitialAdapterIsNotReadAgain() throws IOException {
        run(
                config("first")
                        .saving(new SaveOptions(Strategy.NO, 2, 0, ""))
                        .maxSteps(1)
                        .build(),
                -1);
        Path init = Files.move(folder.resolve("first"), folder.resolve("init"));
        run(
                config("out")
                        .initAdapter(init)
                        .saving(new SaveOptions(Strategy.NO, 2, 0, ""))
                        .build(),
                2);
        Files.move(init, folder.resolve("gone"));
        run(
                config("out")
                        .initAdapter(init)
                        .saving(new SaveOptions(Strategy.NO, 2, 0, "true"))
                        .build(),
                -1);
        assertTrue(Files.exists(folder.resolve("out/adapter_model.safetensors")));
    }

    /** Without its list of files it is still none of another program's, whose optimiser would start anew. */
    @Test
    void aCheckpointWithoutItsListOfFilesIsDamaged() throws IOException {
        run(config("out").saving(new SaveOptions(Strategy.NO, 2, 0, "")).build(), 2);
        Files.delete(folder.resolve("out/checkpoint-2/run_state.json"));
        String message = refusal(
                config("out").saving(new SaveOptions(Strategy.NO, 2, 0, "true")).build());
        assertTrue(message.startsWith("no checkpoint in " + folder.resolve("out")), message);
        assertTrue(message.endsWith("checkpoint-2 is damaged: run_state.json is missing"), message);
    }

    @Test
    void withoutACheckpointARunStartsFromTheBeginning() throws IOException {
        run(config("out").saving(new SaveOptions(Strategy.NO, 2, 0, "true")).build(), -1);
        assertEquals(1, notices.size());
        assertTrue(notices.get(0).startsWith("There is no checkpoint in"), notices.get(0));
        run(config("whole").saving(SaveOptions.NEVER).build(), -1);
        assertArrayEquals(bytes("whole", "adapter_model.safetensors"), bytes("out", "adapter_model.safetensors"));
    }

    @Test
    void onlyAsManyCheckpointsStayAsAreWanted() throws IOException {
        run(config("out").saving(new SaveOptions(Strategy.STEPS, 1, 2, "")).build(), -1);
        assertEquals(List.of("checkpoint-8", "checkpoint-9"), checkpoints("out"));
        run(config("epochs").saving(new SaveOptions(Strategy.EPOCH, 500, 0, "")).build(), -1);
        assertEquals(List.of("checkpoint-3", "checkpoint-6", "checkpoint-9"), checkpoints("epochs"));
        run(config("none").saving(SaveOptions.NEVER).build(), -1);
        assertEquals(List.of(), checkpoints("none"));
        run(config("share").saving(new SaveOptions(Strategy.STEPS, 0.5, 0, "")).build(), -1);
        assertEquals(List.of("checkpoint-5", "checkpoint-9"), checkpoints("share"));
    }

    /** The newest is the one that was written last, whatever its number and whatever the clock says. */
    @Test
    void neitherNumberNorClockDecidesWhichIsNewest() throws IOException {
        run(config("out").saving(new SaveOptions(Strategy.STEPS, 2, 0, "")).build(), -1);
        run(
                config("out")
                        .saving(new SaveOptions(Strategy.STEPS, 2, 0, ""))
                        .seed(43)
                        .build(),
                2);
        Files.setLastModifiedTime(
                folder.resolve("out/checkpoint-2"), java.nio.file.attribute.FileTime.fromMillis(1_000_000));
        run(
                config("out")
                        .saving(new SaveOptions(Strategy.STEPS, 2, 0, "true"))
                        .seed(43)
                        .build(),
                -1);
        run(config("whole").saving(SaveOptions.NEVER).seed(43).build(), -1);
        assertArrayEquals(bytes("whole", "adapter_model.safetensors"), bytes("out", "adapter_model.safetensors"));
        assertEquals(List.of(), notices);
    }

    @Test
    void whatAKilledRunLeftIsClearedAway() throws IOException {
        run(config("out").saving(new SaveOptions(Strategy.STEPS, 2, 0, "")).build(), 4);
        Path out = folder.resolve("out");
        Files.createDirectory(out.resolve(".checkpoint-8.part"));
        Files.writeString(out.resolve(".checkpoint-8.part/optimizer.safetensors"), "half");
        Files.createDirectories(out.resolve(".checkpoint-4.push/checkpoint-4")); // was being published
        Files.move(out.resolve("checkpoint-4"), out.resolve(".checkpoint-4.old"));
        run(config("out").saving(new SaveOptions(Strategy.STEPS, 3, 0, "true")).build(), 5);
        assertEquals(List.of("checkpoint-2", "checkpoint-4", "checkpoint-5"), checkpoints("out"));
        assertFalse(Files.exists(out.resolve(".checkpoint-8.part")));
        assertFalse(Files.exists(out.resolve(".checkpoint-4.push")));
        assertFalse(Files.exists(out.resolve(".checkpoint-4.old")));
    }

    /** Adapter and trainer_state.json alone, as of TRL's: the log goes on, the optimiser starts anew. */
    @Test
    void anotherProgramsCheckpointIsGoneOnFrom() throws IOException {
        run(config("trl").saving(new SaveOptions(Strategy.STEPS, 4, 0, "")).build(), 4);
        Path checkpoint = folder.resolve("trl/checkpoint-4");
        Files.delete(checkpoint.resolve("run_state.json"));
        Files.delete(checkpoint.resolve("optimizer.safetensors"));
        run(
                config("out")
                        .saving(new SaveOptions(Strategy.NO, 4, 0, checkpoint.toString()))
                        .build(),
                -1);
        assertEquals(2, notices.size(), notices.toString());
        assertTrue(notices.get(0).contains("after step 4"), notices.get(0));
        assertTrue(notices.get(1).startsWith("From the adapter in " + checkpoint), notices.get(1));
        List<JsonNode> log = log("out");
        assertEquals(
                List.of(2, 4, 6, 8),
                log.stream().map(l -> l.get("step").intValue()).toList());
        double first = log.get(0).get("loss").doubleValue();
        double last = log.get(3).get("loss").doubleValue();
        assertTrue(last < first, log.toString());
    }

    @Test
    void patienceEndsARunAndIsRemembered() throws IOException {
        SftConfig.Builder builder = config("out").learningRate(0).evaluation(evaluation(3));
        TrainingReport report =
                run(builder.saving(new SaveOptions(Strategy.STEPS, 1, 0, "")).build(), 3);
        assertTrue(report.stopped());
        report = run(
                builder.saving(new SaveOptions(Strategy.STEPS, 1, 0, "true")).build(), -1);
        assertFalse(report.stopped());
        assertEquals(4, report.step());
        assertEquals(1, state("out").get("best_global_step").intValue());
        report = run(
                builder.saving(new SaveOptions(Strategy.STEPS, 1, 0, "true")).build(), -1);
        assertEquals(4, report.step());
    }

    /** A loss is no accuracy, and that of other rows no measure for these. */
    @ParameterizedTest
    @CsvSource({"mean_token_accuracy, held.jsonl", "loss, others.jsonl"})
    void theBestOfAnotherComparisonDoesNotCount(String metric, String held) throws IOException {
        Files.writeString(
                folder.resolve("others.jsonl"),
                Files.readString(folder.resolve("held.jsonl")).replace("\"a ", "\"Xylophones #%& "));
        SaveOptions saving = new SaveOptions(Strategy.STEPS, 1, 0, "");
        run(
                config("out")
                        .saving(saving)
                        .learningRate(0)
                        .evaluation(evaluation(0))
                        .build(),
                3);
        assertEquals(1, state("out/checkpoint-3").get("best_global_step").intValue());
        run(
                config("out")
                        .saving(new SaveOptions(Strategy.STEPS, 1, 0, "true"))
                        .learningRate(0)
                        .evaluation(evaluation(metric, held, 0))
                        .build(),
                -1);
        assertEquals(3, state("out").get("best_global_step").intValue()); // the first evaluation after that
        assertTrue(
                notices.stream().anyMatch(each -> each.endsWith("so it does not count any more")), notices.toString());
    }

    /** The same in every process, as a checkpoint says them: a Map.of has another order in each. */
    @Test
    void argumentsOfAScheduleHaveOneOrder() {
        SftConfig config = config("out")
                .lrSchedulerType("warmup_stable_decay")
                .lrSchedulerKwargs(Map.of(
                        "num_decay_steps",
                        2,
                        "num_stable_steps",
                        2,
                        "warmup_type",
                        "linear",
                        "decay_type",
                        "cosine",
                        "min_lr_ratio",
                        0.1,
                        "num_cycles",
                        0.5))
                .build();
        assertEquals(
                List.of(
                        "decay_type",
                        "min_lr_ratio",
                        "num_cycles",
                        "num_decay_steps",
                        "num_stable_steps",
                        "warmup_type"),
                List.copyOf(config.lrSchedulerKwargs().keySet()));
    }
}
