package lapidary.format;

import static lapidary.format.SafetensorsTest.assertMessage;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CheckpointTest {
    @TempDir
    Path dir;

    @Test
    void readsASingleFile() {
        shard(dir.resolve("model.safetensors"), "a", "b");
        try (Checkpoint model = Checkpoint.open(dir)) {
            assertEquals(Set.of("a", "b"), model.names());
            assertEquals("F32", model.entry("a").dtype());
            assertMessage(assertThrows(FormatException.class, () -> model.entry("c")), "no tensor \"c\"");
        }
    }

    @Test
    void readsShardsInTheirOrder() {
        shard(dir.resolve("m-1.safetensors"), "z", "b");
        shard(dir.resolve("m-2.safetensors"), "a");
        index("b", "m-1.safetensors", "a", "m-2.safetensors", "z", "m-1.safetensors");
        try (Checkpoint model = Checkpoint.open(dir)) {
            assertEquals(List.of("a", "b", "z"), List.copyOf(model.names())); // "a" is the index's first
            assertEquals(dir.resolve("m-2.safetensors"), model.entry("a").file());
        }
    }

    @Test
    void prefersTheSingleFile() {
        shard(dir.resolve("model.safetensors"), "single");
        shard(dir.resolve("m-1.safetensors"), "a");
        index("a", "m-1.safetensors");
        try (Checkpoint model = Checkpoint.open(dir)) {
            assertEquals(Set.of("single"), model.names());
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "../m-1.safetensors",
                "/etc/passwd",
                "sub/m-1.safetensors",
                "..\\m-1.safetensors",
                "C:m-1.safetensors",
                "..",
                ".",
                "",
                "m\u0000",
                "m\n1.safetensors"
            })
    void refusesNamesThatLeadElsewhere(String name) throws IOException {
        Path model = Files.createDirectories(dir.resolve("model/sub")).getParent();
        shard(dir.resolve("m-1.safetensors"), "a");
        shard(model.resolve("sub/m-1.safetensors"), "a");
        index(model, Map.of("a", name));
        FormatException e = assertThrows(FormatException.class, () -> Checkpoint.open(model));
        assertMessage(e, "index.json", "not a plain file name");
        assertFalse(e.getMessage().contains("\n"));
    }

    @Test
    void refusesALinkOutOfTheFolder() throws IOException {
        Path model = Files.createDirectory(dir.resolve("model"));
        shard(dir.resolve("outside.safetensors"), "a");
        Files.createSymbolicLink(model.resolve("m-1.safetensors"), Path.of("../outside.safetensors"));
        index(model, Map.of("a", "m-1.safetensors"));
        assertMessage(
                assertThrows(FormatException.class, () -> Checkpoint.open(model)), "link out of the model folder");
    }

    @Test
    void followsALinkInsideTheFolder() throws IOException {
        shard(dir.resolve("real.safetensors"), "a");
        Files.createSymbolicLink(dir.resolve("m-1.safetensors"), Path.of("real.safetensors"));
        index("a", "m-1.safetensors");
        Checkpoint.open(dir).close();
    }

    @Test
    void readsTheHubCache() throws IOException {
        Path repo = dir.resolve("models--google--gemma-3-4b-it");
        Path snapshot = Files.createDirectories(repo.resolve("snapshots/0123abc"));
        Path blobs = Files.createDirectory(repo.resolve("blobs"));
        shard(blobs.resolve("b1"), "a");
        shard(blobs.resolve("b2"), "b");
        Files.createSymbolicLink(snapshot.resolve("m-1.safetensors"), Path.of("../../blobs/b1"));
        Files.createSymbolicLink(snapshot.resolve("m-2.safetensors"), Path.of("../../blobs/b2"));
        index(blobs.resolve("b3").getParent(), Map.of("a", "m-1.safetensors", "b", "m-2.safetensors"));
        Files.createSymbolicLink(
                snapshot.resolve("model.safetensors.index.json"), Path.of("../../blobs/model.safetensors.index.json"));
        Path link = Files.createSymbolicLink(dir.resolve("link"), snapshot);
        for (Path folder : List.of(snapshot, link)) {
            try (Checkpoint model = Checkpoint.open(folder)) {
                assertEquals(Set.of("a", "b"), model.names());
            }
        }
        Path shared = Files.createDirectories(dir.resolve("blobs/ab"));
        Files.move(blobs.resolve("b1"), shared.resolve("xet"));
        Files.createSymbolicLink(blobs.resolve("b1"), Path.of("../../blobs/ab/xet"));
        assertMessage(assertThrows(FormatException.class, () -> Checkpoint.open(snapshot)), "link out");
        Files.createFile(dir.resolve("blobs/.huggingface-shared-blobs"));
        Checkpoint.open(snapshot).close();
        shard(dir.resolve("outside"), "a");
        Files.delete(snapshot.resolve("m-1.safetensors"));
        Files.createSymbolicLink(snapshot.resolve("m-1.safetensors"), Path.of("../../../outside"));
        assertMessage(assertThrows(FormatException.class, () -> Checkpoint.open(snapshot)), "link out");
    }

    @Test
    void refusesDisagreementOfIndexAndShards() throws IOException {
        shard(dir.resolve("m-1.safetensors"), "a", "b");
        shard(dir.resolve("m-2.safetensors"), "c");
        refused("is missing in", "a", "m-1.safetensors", "b", "m-1.safetensors", "c", "m-3.safetensors");
        refused(
                "\"d\"",
                "a",
                "m-1.safetensors",
                "b",
                "m-1.safetensors",
                "c",
                "m-2.safetensors",
                "d",
                "m-2.safetensors");
        refused("does not list tensor \"b\"", "a", "m-1.safetensors", "c", "m-2.safetensors");
        refused("should be in m-2", "a", "m-1.safetensors", "b", "m-2.safetensors", "c", "m-2.safetensors");
        shard(dir.resolve("m-2.safetensors"), "c", "a");
        refused("two shards", "a", "m-1.safetensors", "b", "m-1.safetensors", "c", "m-2.safetensors");
    }

    private void refused(String why, String... index) {
        index(index);
        FormatException e = assertThrows(FormatException.class, () -> Checkpoint.open(dir));
        assertMessage(e, "model.safetensors.index.json", why);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "[]",
                "{}",
                "{\"weight_map\": 3}",
                "{\"weight_map\": {}}",
                "{\"weight_map\": {\"a\": 1}}",
                "{\"weight_map\": {\"a\": \"x\", \"a\": \"y\"}}",
                "{\"weight_map\""
            })
    void refusesABadIndex(String text) throws IOException {
        Files.writeString(dir.resolve("model.safetensors.index.json"), text);
        assertMessage(assertThrows(FormatException.class, () -> Checkpoint.open(dir)), "model.safetensors.index.json");
    }

    @Test
    void tellsWhatIsThereInstead() throws IOException {
        assertMessage(
                assertThrows(FormatException.class, () -> Checkpoint.open(dir.resolve("no"))), "no such model folder");
        assertMessage(assertThrows(FormatException.class, () -> Checkpoint.open(dir)), "neither model.safetensors nor");
        Files.writeString(dir.resolve("pytorch_model.bin"), "x");
        assertMessage(assertThrows(FormatException.class, () -> Checkpoint.open(dir)), "pytorch_model.bin");
        assertMessage(
                assertThrows(FormatException.class, () -> Checkpoint.open(dir.resolve("pytorch_model.bin"))),
                "is a file, expected a model folder");
    }

    private static void shard(Path file, String... names) {
        List<SafetensorsWriter.Item> items = new ArrayList<>();
        for (String name : names) {
            items.add(SafetensorsWriter.Item.of(name, new long[] {1}, new float[1]));
        }
        SafetensorsWriter.write(file, Map.of("format", "pt"), items);
    }

    private void index(String... namesAndShards) {
        Map<String, String> map = new LinkedHashMap<>();
        for (int i = 0; i < namesAndShards.length; i += 2) {
            map.put(namesAndShards[i], namesAndShards[i + 1]);
        }
        index(dir, map);
    }

    private static void index(Path folder, Map<String, String> weightMap) {
        AtomicFile.writeString(
                folder.resolve("model.safetensors.index.json"),
                JsonWriter.sorted(Map.of("metadata", Map.of("total_size", 4), "weight_map", weightMap)));
    }
}
