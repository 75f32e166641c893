package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import lapidary.data.DataOptions;
import lapidary.data.Dataset;
import lapidary.data.Datasets;
import lapidary.data.LengthLimit.Overlong;
import lapidary.data.LossOn;
import lapidary.data.Profile;
import lapidary.data.Samples;
import lapidary.device.CpuDevice;
import lapidary.device.Device;
import lapidary.format.FormatException;
import lapidary.gemma3.Gemma3;
import lapidary.image.PngWriter;
import lapidary.image.Rgb;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class CheckCacheTest {
    private static final Path DEMO = Path.of("src/main/resources/lapidary/demo/base");

    @TempDir
    private Path dir;

    private Path model;
    private Path rows;
    private long settledMs = -60_000; // files of a moment ago are old enough

    @BeforeEach
    void filesOfARun() throws IOException {
        model = Files.createDirectory(dir.resolve("model"));
        try (Stream<Path> files = Files.list(DEMO)) {
            for (Path file :
                    files.filter(f -> !f.toString().endsWith(".safetensors")).toList()) {
                Files.copy(file, model.resolve(file.getFileName()));
            }
        }
        picture(200);
        rows = Files.writeString(
                dir.resolve("rows.jsonl"),
                "{\"prompt\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": \"a.png\"}]}], \"completion\":"
                        + " [{\"role\": \"assistant\", \"content\": \"red\"}]}\n{\"prompt\": \"what\", \"completion\": \"blue\"}\n");
    }

    private void picture(int grey) throws IOException {
        byte[] pixels = new byte[3 * 20 * 20];
        Arrays.fill(pixels, (byte) grey);
        Files.write(dir.resolve("a.png"), PngWriter.encode(new Rgb(20, 20, pixels)));
    }

    private Checked look(UnaryOperator<SftConfig.Builder> options) {
        SftConfig config = options.apply(SftConfig.builder(model, rows.toString(), dir.resolve("out")))
                .build();
        try (Dataset data = Datasets.open(rows.toString(), "train")) {
            Samples samples = Samples.of(Gemma3.readConfig(model), model, data, config.profile(), config.data());
            CheckCache cache = new CheckCache(dir.resolve("checks"), settledMs);
            return Checked.look(
                    samples,
                    config.data().dropBad(),
                    1,
                    () -> true,
                    done -> {},
                    cache.place(config, config.datasetTrainSplit(), data));
        }
    }

    private Checked look() {
        return look(builder -> builder);
    }

    private List<Path> entries() throws IOException {
        try (Stream<Path> files = Files.list(dir.resolve("checks"))) {
            return files.toList();
        }
    }

    @Test
    void aLookIsRememberedAsItWas() throws IOException {
        Checked first = look();
        Checked second = look();
        assertFalse(first.isRemembered());
        assertTrue(second.isRemembered());
        assertEquals(first.fingerprint(), second.fingerprint());
        assertEquals(2, second.rows());
        assertEquals(first.vocabulary(), second.vocabulary());
        assertArrayEquals(first.accepted(), second.accepted());
        assertArrayEquals(first.tokens(), second.tokens());
        assertArrayEquals(new int[] {1, 0}, second.views());
        assertEquals(1, entries().size());
    }

    @Test
    void rowsThatAreTooLongAreRemembered() {
        DataOptions drop =
                new DataOptions(DataOptions.DEFAULT.forms(), LossOn.DEFAULT, 15, Overlong.DROP, false, false);
        assertEquals(List.of(0), look(builder -> builder.data(drop)).tooLong());
        Checked second = look(builder -> builder.data(drop));
        assertTrue(second.isRemembered());
        assertEquals(List.of(0), second.tooLong());
        assertArrayEquals(new int[] {1}, second.accepted());
    }

    /** Size and time of content are as before: what cp -p or an archiver leaves. */
    @Test
    void anotherPictureOfTheSameSizeAndTimeIsSeen() throws IOException {
        FileTime time = FileTime.from(1_700_000_000, TimeUnit.SECONDS);
        Files.setLastModifiedTime(dir.resolve("a.png"), time);
        look();
        assertTrue(look().isRemembered());
        long size = Files.size(dir.resolve("a.png"));
        byte[] bytes = Files.readAllBytes(dir.resolve("a.png"));
        bytes[bytes.length / 2] ^= 1;
        Files.write(dir.resolve("a.png"), bytes);
        Files.setLastModifiedTime(dir.resolve("a.png"), time);
        assertEquals(size, Files.size(dir.resolve("a.png")));
        assertThrows(FormatException.class, this::look);
        Files.delete(dir.resolve("a.png"));
        assertThrows(FormatException.class, this::look);
    }

    /** The folder of the entry's extracted place is there; the file that would be taken instead appears later. */
    @ParameterizedTest
    @CsvSource({"Animals/cat/1.png", "Animals/cat.zip", "Animals/cat/other.png"})
    void aPictureThatAppearsInPlaceOfAZipsEntryIsSeen(String appears) throws IOException {
        Path zip = dir.resolve("Animals.zip");
        try (ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(zip))) {
            out.putNextEntry(new ZipEntry("cat/1.png"));
            out.write(Files.readAllBytes(dir.resolve("a.png")));
        }
        Files.createDirectories(dir.resolve("Animals/cat"));
        Files.writeString(rows, Files.readString(rows).replace("a.png", "Animals/cat/1.png"));
        look(); // its memory makes a folder beside the data, which counts as a change
        look();
        assertTrue(look().isRemembered());
        Files.copy(appears.endsWith("zip") ? zip : dir.resolve("a.png"), dir.resolve(appears));
        assertFalse(look().isRemembered());
    }

    @Test
    void whateverReadsTheRowsCounts() throws IOException {
        look();
        assertFalse(look(builder -> builder.profile(Profile.TRL)).isRemembered());
        assertFalse(look(builder -> builder.data(
                        new DataOptions(DataOptions.DEFAULT.forms(), LossOn.ALL, 0, Overlong.ERROR, false, false)))
                .isRemembered());
        assertFalse(look(builder -> builder.datasetTrainSplit("train[:100%]")).isRemembered());
        assertTrue(look().isRemembered());
        Path tokenizer = model.resolve("tokenizer.json");
        Files.writeString(tokenizer, Files.readString(tokenizer) + " ");
        assertFalse(look().isRemembered());
        assertTrue(look().isRemembered());
        Files.writeString(model.resolve("notes.json"), "{}");
        assertFalse(look().isRemembered(), "a file more may be one that is read");
        Files.writeString(model.resolve("model.safetensors"), "weights have no part in this");
        assertTrue(look().isRemembered());
        Files.writeString(rows, Files.readString(rows).replace("blue", "grey"));
        assertFalse(look().isRemembered());
    }

    @Test
    void aDamagedEntryCountsForNothing() throws IOException {
        look();
        Path entry = entries().get(0);
        byte[] whole = Files.readAllBytes(entry);
        for (int at : new int[] {0, whole.length / 2, whole.length - 1}) {
            byte[] damaged = whole.clone();
            damaged[at] ^= 1;
            Files.write(entry, damaged);
            assertFalse(look().isRemembered(), "byte " + at);
            assertTrue(look().isRemembered());
        }
        Files.write(entry, Arrays.copyOf(whole, 20));
        assertFalse(look().isRemembered());
        Files.write(entry, new byte[0]);
        assertFalse(look().isRemembered());
    }

    @Test
    void badRowsAreNotRemembered() throws IOException {
        Files.writeString(rows, Files.readString(rows) + "{}\n");
        DataOptions drop = new DataOptions(DataOptions.DEFAULT.forms(), LossOn.DEFAULT, 0, Overlong.ERROR, true, false);
        for (int i = 0; i < 2; i++) {
            Checked checked = look(builder -> builder.data(drop));
            assertFalse(checked.isRemembered());
            assertEquals(List.of(2), checked.bad());
        }
    }

    @Test
    void filesThatJustChangedAreNotTrusted() {
        settledMs = TimeUnit.DAYS.toMillis(1);
        look();
        assertFalse(look().isRemembered());
        settledMs = -60_000;
        look();
        assertTrue(look().isRemembered());
    }

    @Test
    void theFolderIsBounded() throws IOException {
        Path checks = Files.createDirectory(dir.resolve("checks"));
        for (int i = 0; i < CheckCache.MOST + 5; i++) {
            Path old = Files.writeString(checks.resolve(i + ".check"), "old");
            Files.setLastModifiedTime(old, FileTime.from(1_000_000 + i, TimeUnit.SECONDS));
        }
        look();
        assertEquals(CheckCache.MOST, entries().size());
        assertTrue(look().isRemembered());
        assertFalse(Files.exists(checks.resolve("5.check")));
        assertTrue(Files.exists(checks.resolve("6.check")));
    }

    /** Two slices of a data set that are alike in all but what they take. */
    @Test
    void rowsThatAreHeldOutAreKnownByTheirSlice() throws IOException {
        String data = "src/test/resources/lapidary/train/sft/rows.parquet"; // older than a moment
        for (String slice : List.of("train[:2]", "train[2:4]", "train[:2]")) {
            SftConfig config = SftConfig.builder(DEMO, data, dir.resolve("run"))
                    .datasetTrainSplit("train[:4]")
                    .maxSteps(1)
                    .loraR(2)
                    .loraTargetModules(List.of("q_proj"))
                    .evaluation(new EvalOptions(EvalOptions.Strategy.STEPS, "", slice, 1, 2, false, "", null, 0, 0))
                    .build();
            try (Device device = CpuDevice.open()) {
                new Sft(config, device, TrainingListener.SILENT)
                        .remembering(dir.resolve("checks"))
                        .run();
            }
        }
        assertEquals(3, entries().size(), "of the rows that are trained on, and of each slice");
    }
}
