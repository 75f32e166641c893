package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.function.BooleanSupplier;
import lapidary.data.DataOptions;
import lapidary.data.Dataset;
import lapidary.data.Datasets;
import lapidary.data.Profile;
import lapidary.data.Samples;
import lapidary.format.FormatException;
import lapidary.gemma3.Gemma3;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What is told of a data set's rows before the first step. */
class MicroBatchesTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");
    private static final String PARTS = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"},"
            + "{\"type\":\"text\",\"text\":\"x\"}]},{\"role\":\"assistant\",\"content\":\"y\"}],\"images\":[%s]}\n";

    @TempDir
    Path dir;

    @Test
    void anEmptyPictureIsToldByTheLookAtAllRows() throws IOException {
        Files.write(dir.resolve("none.png"), new byte[0]);
        for (String image : List.of("{\"bytes\":\"\"}", "\"none.png\"")) {
            Path rows = Files.writeString(dir.resolve("rows.jsonl"), String.format(PARTS, image));
            String message = complaint(rows);
            assertTrue(message.startsWith(rows + ":1"), message);
            assertTrue(message.contains("is empty (0 bytes)"), message);
        }
        Path parquet = Path.of("src/test/resources/lapidary/data/picture-empty.parquet");
        try (Dataset data = Datasets.open(parquet.toString(), "train[1:]")) {
            assertEquals(
                    parquet + " row 1 images[0] (a.png) is empty (0 bytes), expected a picture",
                    assertThrows(FormatException.class, () -> look(data, 2, () -> true))
                            .getMessage());
        }
    }

    @Test
    void anErrorNamesItsRowOnce() throws IOException {
        Path rows = Files.writeString(dir.resolve("rows.jsonl"), String.format(PARTS, "{\"bytes\":\"AAAA\"}"));
        try (Dataset data = Datasets.open(rows.toString(), "train")) {
            MicroBatches batches = batches(data);
            String message = assertThrows(FormatException.class, () -> batches.load(new int[] {0}))
                    .getMessage();
            assertTrue(message.startsWith(rows + ":1 images[0]: "), message);
            assertEquals(0, message.lastIndexOf(rows.toString()), message);
        }
    }

    @Test
    void aLookAtAllRowsEndsWhenItIsNotWanted() throws IOException {
        Path rows = Files.writeString(
                dir.resolve("rows.jsonl"),
                "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"y\"}]}\n"
                        .repeat(10));
        try (Dataset data = Datasets.open(rows.toString(), "train")) {
            Iterator<Boolean> wanted = List.of(true, true, true, false).iterator();
            assertThrows(CancellationException.class, () -> look(data, 1, wanted::next));
            assertTrue(!wanted.hasNext());
        }
    }

    private String complaint(Path rows) {
        try (Dataset data = Datasets.open(rows.toString(), "train")) {
            return assertThrows(FormatException.class, () -> look(data, 2, () -> true))
                    .getMessage();
        }
    }

    private Checked look(Dataset data, int threads, BooleanSupplier wanted) {
        SftConfig config = SftConfig.builder(MODEL, "rows", dir.resolve("out")).build();
        return Checked.look(
                samples(data),
                false,
                threads,
                wanted,
                done -> {},
                CheckCache.none().place(config, "train", data));
    }

    private static MicroBatches batches(Dataset data) {
        return new MicroBatches(samples(data), 0);
    }

    private static Samples samples(Dataset data) {
        return Samples.of(Gemma3.readConfig(MODEL), MODEL, data, Profile.DEFAULT, DataOptions.DEFAULT);
    }
}
