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
        assertEquals(List.of("2", "3"), answers(dir + "/{x,y}/t*.jsonl", "test"));
        refused("no data file matches", dir + "/z*.jsonl", "train");
        jsonl("x/odd[1].jsonl", "odd");
        assertEquals(List.of("odd"), answers(dir + "/x/odd[1].jsonl", "train"));
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
