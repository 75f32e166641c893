package lapidary.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DatasetsTest {
    private static final Path GOLDEN = Path.of("src/test/resources/lapidary/data");

    @TempDir
    Path dir;

    @Test
    void findsShardsOfTheHub() throws IOException {
        parquet("data/train-00001-of-00002.parquet", "llava-snappy");
        parquet("data/train-00000-of-00002.parquet", "rows-chat");
        parquet("data/test-00000-of-00001.parquet", "rows-image");
        jsonl("train.jsonl", "not this");
        try (Dataset data = Datasets.open(dir.toString(), "train")) {
            assertEquals(12, data.size());
            assertTrue(
                    data.get(0).id().endsWith("train-00000-of-00002.parquet row 0"),
                    data.get(0).id());
            assertTrue(
                    data.get(7).id().endsWith("train-00001-of-00002.parquet row 0"),
                    data.get(7).id());
            assertThrows(IndexOutOfBoundsException.class, () -> data.get(12));
            assertTrue(data.description().contains("12 rows in 2 files"), data.description());
            data.forEach(each -> {});
        }
        try (Dataset data = Datasets.open(dir.toString(), "test")) {
            assertEquals(3, data.size());
        }
        Files.delete(dir.resolve("data/train-00000-of-00002.parquet"));
        refused("shard 0 of", dir.toString(), "train");
        // one file named by itself is what the user wants
        Datasets.open(dir.resolve("data/train-00001-of-00002.parquet").toString(), "train")
                .close();
    }

    @Test
    void whatPythonWroteInAnotherFormIsNamed() throws IOException {
        Files.writeString(dir.resolve("rows.json"), "{\n  \"messages\": []\n}\n");
        try (Dataset data = Datasets.open(dir.resolve("rows.json").toString(), "train")) {
            String message =
                    assertThrows(FormatException.class, () -> data.get(0)).getMessage();
            assertTrue(message.contains("rows.json:1: an object that goes over several lines"), message);
        }
        Files.delete(dir.resolve("rows.json"));
        Files.writeString(dir.resolve("dataset_info.json"), "{}");
        Files.writeString(dir.resolve("state.json"), "{}");
        refused("is a folder of save_to_disk", dir.toString(), "train");
    }

    /** Somebody else's README is read before any row is. */
    @Test
    void aCardThatIsBracketsInBracketsSaysNothing() throws IOException {
        jsonl("train.jsonl", "a");
        Files.writeString(dir.resolve("README.md"), "---\na: " + "[".repeat(100_000) + "\n---\n");
        try (Dataset data = Datasets.open(dir.toString(), "train")) {
            assertEquals(1, data.size());
        }
    }

    @Test
    void aPatternThatIsNoneIsNamed() {
        refused("/a[b is no pattern of files: Missing ']'; ", dir + "/a[b", "train");
        refused("/{a is no pattern of files: Missing '}'; ", dir + "/{a", "train");
    }

    @Test
    void findsSplitsByName() throws IOException {
        jsonl("train.jsonl", "a");
        jsonl("more_train_2.jsonl", "b");
        jsonl("dev.jsonl", "c");
        jsonl("Test/x.jsonl", "d");
        jsonl("constrained.jsonl", "e"); // "train" inside of a word
        jsonl(".cache/train.jsonl", "f");
        assertEquals(List.of("b", "a"), answers(dir.toString(), "train"));
        assertEquals(List.of("c"), answers(dir.toString(), "validation"));
        assertEquals(List.of("d"), answers(dir.toString(), "test"));
        refused("no split \"other\", only [test, train, validation]", dir.toString(), "other");
    }

    @Test
    void filesThatNameNoSplitAreTrain() throws IOException {
        jsonl("b.jsonl", "b");
        jsonl("a.ndjson", "a");
        jsonl("c.json", "c");
        assertEquals(List.of("a", "b", "c"), answers(dir.toString(), "train"));
        refused("no split \"test\"", dir.toString(), "test");
    }

    @Test
    void takesFilesAndPatternsWhole() throws IOException {
        jsonl("x/one-test.jsonl", "1");
        jsonl("x/two.jsonl", "2");
        jsonl("y/three.jsonl", "3");
        assertEquals(List.of("1"), answers(dir.resolve("x/one-test.jsonl").toString(), "train"));
        assertEquals(List.of("1", "2"), answers(dir + "/x/*.jsonl", "train"));
        assertEquals(List.of("1", "2"), answers(dir + "//x///*.jsonl", "train"));
        assertEquals(List.of("1", "2", "3"), answers(dir + "/**.jsonl", "train"));
        assertEquals(List.of("2", "3"), answers(dir + "/{x,y}/t*.jsonl", "train"));
        assertEquals(List.of("1"), answers(dir.resolve("x/one-test.jsonl").toString(), "test"));
        refused("two.jsonl is not of split \"test\" but [train]", dir + "/{x,y}/t*.jsonl", "test");
        refused("one-test.jsonl is not of split \"validation\" but [test]", dir + "/x/one-test.jsonl", "validation");
        refused("no data file matches", dir + "/z*.jsonl", "train");
        jsonl("x/odd[1].jsonl", "odd");
        assertEquals(List.of("odd"), answers(dir + "/x/odd[1].jsonl", "train"));
    }

    @Test
    void slicesAsTheReferenceDoes() throws IOException {
        StringBuilder rows = new StringBuilder();
        for (int i = 0; i < 7; i++) {
            rows.append("{\"prompt\": \"q\", \"completion\": \"" + i + "\"}\n");
        }
        String file = Files.writeString(dir.resolve("seven.jsonl"), rows).toString();
        // by datasets 5.0.1: load_dataset("json", data_files=file, split=...)
        Map<String, String> expected = Map.of(
                "train[:3]", "012",
                "train[5:]", "56",
                "train[-2:]", "56",
                "train[:-5]", "01",
                "train[2:4]", "23",
                "train[:50%]", "0123", // 3.5 is rounded to the even 4
                "train[10%:]", "123456",
                "train[-30%:]", "56",
                "train[25%:75%]", "234",
                "train[3:1_000]", "3456");
        expected.forEach((split, answers) -> assertEquals(answers, String.join("", answers(file, split)), split));
        assertEquals("train[:3]", Split.parse("train[:3]").named("train").toString());
        try (Dataset data = Datasets.open(file, "train[5:]")) {
            assertEquals(file + ":7", data.get(1).id());
            assertThrows(IndexOutOfBoundsException.class, () -> data.get(2));
            assertThrows(IndexOutOfBoundsException.class, () -> data.get(-1));
            List<String> ids = new ArrayList<>();
            data.forEach(each -> ids.add(each.id()));
            assertEquals(List.of(file + ":6", file + ":7"), ids);
        }
        refused("has 7 rows, of which train[7:] takes none", file, "train[7:]");
        refused("takes none", file, "train[4:2]");
        for (String wrong : List.of(
                "", "train[", "train[1]", "train[1:2:3]", "train[a:]", "train[10%:3]", "train[:101%]", "a+b", "[:3]")) {
            assertThrows(IllegalArgumentException.class, () -> Datasets.open(file, wrong), wrong);
        }
    }

    @Test
    void theCardSaysWhichFilesAreOfASplit() throws IOException {
        jsonl("all.jsonl", "a");
        jsonl("more/b1.jsonl", "b");
        jsonl("more/b2.jsonl", "c");
        jsonl("train.jsonl", "not in the card");
        Files.writeString(
                dir.resolve("README.md"),
                """
                ---
                license: mit
                configs:
                - config_name: other
                  data_files: x.jsonl
                - config_name: default
                  data_files:
                  - split: test
                    path: all.jsonl
                  - split: train
                    path:
                    - "more/*.jsonl"
                ---
                # Words
                """);
        assertEquals(List.of("a"), answers(dir.toString(), "test"));
        assertEquals(List.of("b", "c"), answers(dir.toString(), "train"));
        assertEquals(List.of("b"), answers(dir.toString(), "train[:1]"));
        refused("README.md has no split \"dev\", only [test, train]", dir.toString(), "dev");
        // a file named by itself
        assertEquals(List.of("a"), answers(dir.resolve("all.jsonl").toString(), "test"));
        assertEquals(List.of("a"), answers(dir.resolve("all.jsonl").toString(), "train"));
        refused("is not of split \"dev\" but [test]", dir.resolve("all.jsonl").toString(), "dev");
        Files.delete(dir.resolve("all.jsonl"));
        refused("README.md keeps split \"test\" in [all.jsonl], but no such", dir.toString(), "test");
    }

    @Test
    void otherCardsSayNothing() throws IOException {
        jsonl("train.jsonl", "a");
        for (String card :
                List.of("", "no head", "---\n: : [\n---\n", "---\nlicense: mit\n---\n", "---\n", "---\n- 1\n---")) {
            Files.writeString(dir.resolve("README.md"), card);
            assertEquals(List.of("a"), answers(dir.toString(), "train"), card);
        }
        Files.writeString(
                dir.resolve("README.md"),
                "---\nconfigs:\n- config_name: x\n  data_dir: sub\n  data_files:\n    train: '**/t*'\n---\n");
        jsonl("sub/deep/t.jsonl", "b");
        assertEquals(List.of("b"), answers(dir.toString(), "train"));
    }

    @Test
    void saysWhatIsWrong() throws IOException {
        refused("no such data set", dir.resolve("none").toString(), "train");
        refused("no data file", dir.toString(), "train");
        Files.writeString(dir.resolve("a.csv"), "x");
        refused("ends in \"csv\"", dir.resolve("a.csv").toString(), "train");
        assertThrows(IllegalArgumentException.class, () -> Datasets.open(" ", "train"));
        jsonl("train.jsonl", "a");
        parquet("train.parquet", "rows-chat");
        refused("both Parquet and JSON", dir.toString(), "train");
    }

    @Test
    void anEmptyShardIsNoMistakeUnlessAllAre() throws IOException {
        parquet("a.parquet", "rows-empty");
        refused("has no rows", dir.toString(), "train");
        parquet("b.parquet", "rows-chat");
        try (Dataset data = Datasets.open(dir.toString(), "train")) {
            assertEquals(7, data.size());
            assertTrue(data.get(6).id().endsWith("b.parquet row 6"));
        }
    }

    private static List<String> answers(String name, String split) {
        List<String> out = new ArrayList<>();
        try (Dataset data = Datasets.open(name, split)) {
            for (int i = 0; i < data.size(); i++) {
                out.add(((Content.Text) data.get(i).messages().get(1).content().get(0)).text());
            }
        }
        return out;
    }

    private static void refused(String part, String name, String split) {
        FormatException e = assertThrows(FormatException.class, () -> Datasets.open(name, split));
        assertTrue(e.getMessage().contains(part), e.getMessage());
        assertFalse(e.getMessage().contains("\n"), e.getMessage());
    }

    private void jsonl(String name, String answer) throws IOException {
        Path file = dir.resolve(name);
        Files.createDirectories(file.getParent());
        Files.writeString(
                file,
                "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"" + answer
                        + "\"}]}\n");
    }

    private void parquet(String name, String golden) throws IOException {
        Path file = dir.resolve(name);
        Files.createDirectories(file.getParent());
        Files.copy(GOLDEN.resolve(golden + ".parquet"), file);
    }
}
