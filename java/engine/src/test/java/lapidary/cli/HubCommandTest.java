package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import lapidary.format.Json;
import lapidary.hub.FakeHub;
import lapidary.hub.FakeRepo;
import lapidary.hub.Fault;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The command in a process of its own, because the Hub's settings come from the environment. */
final class HubCommandTest {
    private static final String TOKEN = "hf_secretSECRETsecret";

    @TempDir
    private Path folder;

    private final FakeHub server = new FakeHub();
    private final Map<String, String> environment = new LinkedHashMap<>();

    /** What a run printed, and how it ended. */
    private record Run(int code, String text) {}

    @BeforeEach
    void fill() throws IOException {
        Map<String, byte[]> model = new LinkedHashMap<>();
        Map<String, byte[]> data = new LinkedHashMap<>();
        for (String name : new String(resource("index.txt"), StandardCharsets.UTF_8)
                .lines()
                .toList()) {
            if (name.startsWith("base/")) {
                model.put(name.substring("base/".length()), resource(name));
            }
        }
        data.put("data/train-00000-of-00001.jsonl", row().getBytes(StandardCharsets.UTF_8));
        server.repo("models/org/tiny").commit("model", model);
        server.repo("datasets/org/data").commit("data", data);
        environment.put("HF_ENDPOINT", server.endpoint().toString());
        environment.put("HF_HOME", folder.resolve("hf").toString());
    }

    @AfterEach
    void stop() {
        server.close();
    }

    private static byte[] resource(String name) throws IOException {
        try (InputStream in = HubCommandTest.class.getClassLoader().getResourceAsStream("lapidary/demo/" + name)) {
            return in.readAllBytes();
        }
    }

    private static String row() {
        return "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n";
    }

    private Run engine(String... arguments) throws IOException, InterruptedException {
        return engineGiven("", arguments);
    }

    private Run engineGiven(String input, String... arguments) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-cp",
                System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")),
                "--enable-native-access=ALL-UNNAMED",
                "-Xmx512m",
                "lapidary.cli.Engine"));
        command.addAll(List.of(arguments));
        Path output = Files.createTempFile(folder, "out", ".txt");
        Path given = Files.writeString(Files.createTempFile(folder, "in", ".txt"), input);
        ProcessBuilder builder = new ProcessBuilder(command)
                .directory(folder.toFile())
                .redirectErrorStream(true)
                .redirectInput(given.toFile())
                .redirectOutput(output.toFile());
        builder.environment().keySet().removeIf(name -> name.startsWith("HF_") || name.startsWith("HUGGING"));
        builder.environment().putAll(environment);
        Process process = builder.start();
        assertTrue(process.waitFor(15, TimeUnit.MINUTES));
        String text = Files.readString(output);
        assertFalse(text.contains("hf_secret"), text);
        return new Run(process.exitValue(), text);
    }

    private String[] train(String... more) {
        return train(1, more);
    }

    private String[] train(int steps, String... more) {
        List<String> arguments = new ArrayList<>(List.of(
                "train",
                "--model_name_or_path",
                "org/tiny",
                "--dataset_name",
                "org/data",
                "--output_dir",
                "out",
                "--max_steps",
                "" + steps,
                "--logging_steps",
                "1",
                "--dtype",
                "float32",
                "--device",
                "cpu"));
        arguments.addAll(List.of(more));
        return arguments.toArray(String[]::new);
    }

    @Test
    void trainsAModelByNameOnADataSetByName() throws Exception {
        Run run = engine(train());
        assertEquals(0, run.code(), run.text());
        assertEquals(
                "org/tiny", Json.read(folder.resolve("out/adapter_config.json")).string("base_model_name_or_path"));
        assertTrue(Files.isRegularFile(folder.resolve("out/tokenizer.json")));
        assertTrue(Files.isRegularFile(folder.resolve("hf/hub/models--org--tiny/refs/main")));
        environment.put("HF_HUB_OFFLINE", "1");
        server.seen.clear();
        assertEquals(0, engine("download", "org/tiny").code());
        assertEquals(0, engine("download", "org/data", "--dataset").code());
        assertEquals(0, server.seen.size());
    }

    /** A slice is not the name of a split, and what the Hub's card calls a split needs no other name. */
    @Test
    void evaluatesASliceOfASplit() throws Exception {
        server.repo("datasets/org/data")
                .commit(
                        "more",
                        Map.of("data/test-00000-of-00001.jsonl", row().repeat(3).getBytes(StandardCharsets.UTF_8)));
        Run run = engine(
                "evaluate",
                "--model_name_or_path",
                "org/tiny",
                "--dataset_name",
                "org/data",
                "--dataset_test_split",
                "test[:2]",
                "--max_new_tokens",
                "2",
                "--device",
                "cpu");
        assertEquals(0, run.code(), run.text());
        assertTrue(run.text().contains(" of 2), loss "), run.text());
    }

    @Test
    void aFolderOfThatNameWins() throws Exception {
        Files.createDirectories(folder.resolve("org/tiny"));
        Run run = engine(train());
        assertEquals(1, run.code(), run.text());
        assertEquals(0, server.count("models"), server.seen.toString());
        assertEquals(2, engine(train("--model_revision", "v1")).code());
    }

    @Test
    void aNameThatIsNowhereIsOneLine() throws Exception {
        FakeRepo repo = server.repo("models/org/tiny");
        repo.isGated = true;
        environment.put("HF_TOKEN", TOKEN);
        server.user(TOKEN, "someone");
        Run run = engine(train());
        assertEquals(1, run.code(), run.text());
        assertTrue(
                run.text().contains("org/tiny is gated: accept its licence at " + server.endpoint() + "/org/tiny"),
                run.text());
        assertEquals(
                1, run.text().lines().filter(line -> line.startsWith("engine:")).count(), run.text());
    }

    @Test
    void aBadEndpointIsAUsageError() throws Exception {
        environment.put("HF_ENDPOINT", "nonsense");
        Run run = engine(train());
        assertEquals(2, run.code(), run.text());
        assertTrue(run.text().contains("HF_ENDPOINT"), run.text());
    }

    @Test
    void whatWasTrainedIsPublishedWithACard() throws Exception {
        environment.put("HF_TOKEN", TOKEN);
        server.user(TOKEN, "someone");
        environment.put("HF_HUB_OFFLINE", "1");
        Run run = engine(train("--push_to_hub", "--hub_private_repo", "true"));
        assertEquals(1, run.code(), run.text());
        assertTrue(run.text().contains("HF_HUB_OFFLINE is set, and --push_to_hub"), run.text());
        environment.remove("HF_HUB_OFFLINE");
        run = engine(train("--push_to_hub", "--hub_private_repo", "true"));
        assertEquals(0, run.code(), run.text());
        FakeRepo repo = server.repo("models/someone/out");
        assertTrue(repo.isPrivate);
        assertEquals("End of training", repo.head().title());
        Map<String, byte[]> files = repo.head().files();
        assertTrue(
                files.keySet()
                        .containsAll(List.of(
                                "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md")),
                files.keySet().toString());
        String card = new String(files.get("README.md"), StandardCharsets.UTF_8);
        assertTrue(card.startsWith("---\nbase_model: org/tiny\ndatasets:\n- org/data\n"), card);
        assertTrue(card.contains("| `lora_r` | 16 |") && card.contains("| 1 | "), card);
        for (byte[] file : files.values()) {
            assertFalse(new String(file, StandardCharsets.ISO_8859_1).contains("hf_secret"));
        }
        server.faults.add(Fault.status("POST .*/commit", 9, 403, Map.of(), "{\"error\": \"no\"}"));
        run = engineGiven(
                "",
                "upload",
                "--commit_message",
                "again",
                "out",
                folder.resolve("hf/hub").toString());
        assertEquals(1, run.code(), run.text());
        server.faults.clear();
        assertEquals(
                0,
                engineGiven("", "upload", "out", folder.resolve("out").toString())
                        .code());
    }

    @ParameterizedTest
    @CsvSource({"every_save, ''", "checkpoint, last-checkpoint/", "all_checkpoints, checkpoint-1/"})
    void checkpointsArePublishedWhileTrainingGoesOn(String strategy, String whole) throws Exception {
        environment.put("HF_TOKEN", TOKEN);
        server.user(TOKEN, "someone");
        Run run = engine(train(3, "--push_to_hub", "--hub_strategy", strategy, "--save_steps", "1"));
        assertEquals(0, run.code(), run.text());
        List<FakeRepo.State> states = server.repo("models/someone/out").states();
        FakeRepo.State first = states.get(1); // after the one that makes the repository
        assertEquals("Training in progress, step 1", first.title());
        assertTrue(run.text().contains("step 1  published as"), run.text());
        Map<String, byte[]> files = first.files();
        assertArrayEquals(
                Files.readAllBytes(folder.resolve("out/checkpoint-1/adapter_model.safetensors")),
                files.get("adapter_model.safetensors"));
        assertFalse(files.containsKey("optimizer.safetensors"));
        List<String> inside = files.keySet().stream()
                .filter(path -> path.contains("/"))
                .map(path -> path.substring(0, path.lastIndexOf('/') + 1))
                .distinct()
                .toList();
        assertEquals(whole.isEmpty() ? List.of() : List.of(whole), inside);
        if (!whole.isEmpty()) { // it can be gone on with
            for (String name : List.of("run_state.json", "optimizer.safetensors", "trainer_state.json")) {
                assertArrayEquals(
                        Files.readAllBytes(folder.resolve("out/checkpoint-1").resolve(name)),
                        files.get(whole + name),
                        name);
            }
        }
        FakeRepo.State end = states.get(states.size() - 1);
        assertEquals("End of training", end.title());
        if (strategy.equals("all_checkpoints")) {
            assertEquals(5, states.size());
            assertTrue(end.files().containsKey("checkpoint-3/run_state.json"));
        }
    }

    @Test
    void aCheckpointThatCannotBePublishedIsToldAndTrainingGoesOn() throws Exception {
        environment.put("HF_TOKEN", TOKEN);
        server.user(TOKEN, "someone");
        server.faults.add(Fault.status("POST .*/commit", 1, 403, Map.of(), "{\"error\": \"no\"}"));
        Run run = engine(train(2, "--push_to_hub", "--save_steps", "1"));
        assertEquals(0, run.code(), run.text());
        assertTrue(run.text().contains("step 1  is not published: "), run.text());
        assertEquals("End of training", server.repo("models/someone/out").head().title());
        assertEquals(
                2, engine(train("--push_to_hub", "--hub_strategy", "often")).code());
    }

    @Test
    void publishingThatCannotSucceedIsToldBeforeTraining() throws Exception {
        Run run = engine(train("--push_to_hub"));
        assertEquals(1, run.code(), run.text());
        assertTrue(run.text().contains("engine login"), run.text());
        assertFalse(run.text().contains("Training"), run.text());
    }

    @Test
    void loginReadsTheTokenFromItsInput() throws Exception {
        server.user(TOKEN, "someone");
        Run run = engineGiven(TOKEN + "\n", "login");
        assertEquals(0, run.code(), run.text());
        assertTrue(run.text().contains("Logged in as someone"), run.text());
        assertEquals(TOKEN, Files.readString(folder.resolve("hf/token")));
        server.repo("models/org/tiny").isPrivate = true;
        server.user(TOKEN, "org");
        assertEquals(0, engine("download", "org/tiny").code());
        assertEquals(2, engineGiven("", "login").code());
        assertEquals(1, engineGiven("hf_secretWRONG", "login").code());
        assertEquals(TOKEN, Files.readString(folder.resolve("hf/token")));
    }
}
