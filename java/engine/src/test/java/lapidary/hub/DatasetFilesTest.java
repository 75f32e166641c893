package lapidary.hub;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import lapidary.data.Dataset;
import lapidary.data.Datasets;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Which files of a data set are fetched, and that the reader then finds exactly these. */
final class DatasetFilesTest {
    private static final Patience QUICK = new Patience(
            1,
            Duration.ofMillis(1),
            Duration.ofMillis(1),
            Duration.ofSeconds(1),
            Duration.ofSeconds(5),
            Duration.ofSeconds(5));

    @TempDir
    private Path folder;

    private final FakeHub server = new FakeHub();
    private final FakeRepo repo = server.repo("datasets/org/data");

    @AfterEach
    void stop() {
        server.close();
    }

    private void files(String... paths) {
        Map<String, byte[]> files = new LinkedHashMap<>();
        for (String path : paths) {
            files.put(path, row(path).getBytes(StandardCharsets.UTF_8));
        }
        repo.commit("data", files);
    }

    private static String row(String answer) {
        return "{\"messages\": [{\"role\": \"user\", \"content\": \"?\"}, {\"role\": \"assistant\", \"content\": \""
                + answer + "\"}]}\n";
    }

    private String open(boolean offline, String config, String split) {
        HubSettings settings = new HubSettings(
                server.endpoint(),
                folder.resolve("hub"),
                folder.resolve("token"),
                Token.NONE,
                offline,
                QUICK,
                Proxies.of(Map.of()));
        try (Hub hub = new Hub(settings, HubListener.SILENT)) {
            return hub.dataset(RepoId.dataset("org/data"), config, split, Hub.MAIN);
        }
    }

    /** The answers of the rows that are read. Every row's answer is the path of its file. */
    private List<String> rows(String config, String split) {
        String name = open(false, config, split);
        assertEquals(name, open(true, config, split));
        // As the commands do: files that the Hub's rules have chosen are all of the split, whatever they are called.
        try (Dataset data = Datasets.open(name, Files.isDirectory(Path.of(name)) ? split : "train")) {
            List<String> rows = new java.util.ArrayList<>();
            for (int i = 0; i < data.size(); i++) {
                rows.add(data.get(i)
                        .messages()
                        .get(1)
                        .content()
                        .get(0)
                        .toString()
                        .replaceAll(".*text=|]$", ""));
            }
            return rows;
        }
    }

    private String failure(String config, String split) {
        String message = assertThrows(HubException.class, () -> open(false, config, split))
                .getMessage();
        assertEquals(0, server.count("GET .*/resolve/"));
        return message;
    }

    @Test
    void zipFilesComeWithRowsThatNamePictures() throws IOException {
        java.io.ByteArrayOutputStream zip = new java.io.ByteArrayOutputStream();
        try (java.util.zip.ZipOutputStream out = new java.util.zip.ZipOutputStream(zip)) {
            out.putNextEntry(new java.util.zip.ZipEntry("x/1.png"));
            out.write(7);
        }
        String rows = "{\"question\": \"q\", \"input_image_path\": [\"./A/x/1.png\"], \"output\": \"B\"}\n";
        repo.commit(
                "data",
                Map.of(
                        "test.jsonl",
                        rows.getBytes(StandardCharsets.UTF_8),
                        "A.zip",
                        zip.toByteArray(),
                        "b.bin",
                        new byte[9]));
        String name = open(false, "", "test");
        assertEquals(name, open(true, "", "test"));
        try (Dataset data = Datasets.open(name, "test")) {
            assertEquals(1, data.get(0).images().get(0).bytes().length);
        }
        assertEquals(0, server.count("GET .*b.bin"));
        files("test.jsonl", "A.zip"); // rows that name none leave it there
        open(false, "", "test");
        assertEquals(1, server.count("GET .*/resolve/.*A.zip"));
    }

    @Test
    void shardsOfTheSplitAlone() throws IOException {
        files(
                "data/train-00000-of-00002.jsonl",
                "data/train-00001-of-00002.jsonl",
                "data/test-00000-of-00001.jsonl",
                "README.md");
        assertEquals(List.of("data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"), rows("", "train"));
        assertEquals(0, server.count("GET .*(test|README)"));
        assertEquals(List.of("data/test-00000-of-00001.jsonl"), rows("", "test"));
        assertEquals(List.of("data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"), rows("", "train"));
        assertTrue(Files.isDirectory(folder.resolve("hub/datasets--org--data/snapshots")));
    }

    @Test
    void whatTheReadmeSaysCounts() {
        files("a/one.jsonl", "a/two.jsonl", "b/train.jsonl", "c/x,{y}.jsonl", "d/e/deep.jsonl", "train.jsonl");
        repo.card = Map.of(
                "configs",
                List.of(
                        Map.of(
                                "config_name",
                                "first",
                                "data_files",
                                List.of(
                                        Map.of("split", "train", "path", "a/*"),
                                        Map.of("split", "test", "path", List.of("b/train.jsonl", "c/x,{y}.jsonl")))),
                        Map.of("config_name", "second", "default", true, "data_files", "**/deep.jsonl"),
                        Map.of("config_name", "third", "data_dir", "b"),
                        Map.of(
                                "config_name",
                                "fourth",
                                "data_files",
                                Map.of("train", "**/train.jsonl", "none", "nothing-*")),
                        Map.of("config_name", "away", "data_files", "https://example.com/x.jsonl")));
        assertEquals(List.of("d/e/deep.jsonl"), rows("", "train"));
        assertEquals(List.of("a/one.jsonl", "a/two.jsonl"), rows("first", "train"));
        assertEquals(List.of("b/train.jsonl", "c/x,{y}.jsonl"), rows("first", "test"));
        assertEquals(List.of("b/train.jsonl"), rows("third", "train"));
        assertEquals(List.of("b/train.jsonl", "train.jsonl"), rows("fourth", "train"));
    }

    @Test
    void whatIsNotThereIsNamed() {
        files("data/train-00000-of-00002.jsonl", "x.csv");
        assertTrue(failure("", "train").contains("shard 1"), failure("", "train"));
        assertTrue(failure("", "validation").contains("no split \"validation\""), failure("", "validation"));
        assertTrue(failure("other", "train").contains("--dataset_config other"), failure("other", "train"));
        repo.card = Map.of(
                "configs",
                List.of(
                        Map.of("config_name", "a", "data_files", "x.csv"),
                        Map.of("config_name", "b", "data_files", List.of(Map.of("split", "train", "path", "none-*"))),
                        Map.of("config_name", "away", "data_files", "https://example.com/x.jsonl")));
        assertTrue(failure("", "train").contains("choose one of [a, b, away]"), failure("", "train"));
        assertTrue(failure("a", "train").contains("x.csv, which is neither"), failure("a", "train"));
        assertTrue(failure("b", "train").contains("[none-*], which matches no file"), failure("b", "train"));
        assertTrue(failure("b", "test").contains("only [train]"), failure("b", "test"));
        assertTrue(failure("c", "train").contains("no config \"c\""), failure("c", "train"));
        assertTrue(failure("away", "train").contains("elsewhere"), failure("away", "train"));
    }

    @Test
    void otherKindsAreNamed() {
        files("a.tar", "b.csv", "script.py");
        assertTrue(failure("", "train").contains("[csv, py, tar]"), failure("", "train"));
    }
}
