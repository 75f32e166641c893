package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import lapidary.data.DataOptions;
import lapidary.data.Dataset;
import lapidary.data.Datasets;
import lapidary.data.LengthLimit.Overlong;
import lapidary.data.LossOn;
import lapidary.data.Profile;
import lapidary.data.RowForm;
import lapidary.data.Samples;
import lapidary.device.CpuDevice;
import lapidary.device.Device;
import lapidary.format.FormatException;
import lapidary.gemma3.Gemma3;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class UnitsTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");

    @TempDir
    Path dir;

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4})
    void packsHoldEveryRowOnceAndNoMoreThanFits(long seed) {
        Random random = new Random(seed);
        int n = 1 + random.nextInt(300);
        int[] rows = random.ints(0, 10_000).distinct().limit(n).sorted().toArray();
        int[] tokens = random.ints(n, 1, 101).toArray();
        int[][] packs = Units.pack(rows, tokens, 100);
        assertArrayEquals(
                rows, Arrays.stream(packs).flatMapToInt(Arrays::stream).sorted().toArray());
        int least = Integer.MAX_VALUE;
        int secondLeast = Integer.MAX_VALUE;
        for (int[] pack : packs) {
            int sum = Arrays.stream(pack)
                    .map(row -> tokens[Arrays.binarySearch(rows, row)])
                    .sum();
            assertTrue(sum <= 100);
            secondLeast = Math.min(secondLeast, Math.max(least, sum));
            least = Math.min(least, sum);
        }
        assertTrue(packs.length == 1 || least + secondLeast > 100, "two of them would fit into one");
        assertTrue(Arrays.deepEquals(packs, Units.pack(rows, tokens, 100)));
    }

    @Test
    void bestFitsAreTaken() {
        int[][] packs = Units.pack(new int[] {0, 1, 2, 3, 4, 5}, new int[] {3, 6, 4, 5, 7, 5}, 10);
        assertEquals("[[0, 4], [1, 2], [3, 5]]", Arrays.deepToString(packs));
    }

    private static String chat(String question) {
        return "{\"prompt\": \"" + question + "\", \"completion\": \"square\"}\n";
    }

    private Units units(String rows, DataOptions options, boolean packing, List<String> notices) throws IOException {
        Path file = Files.writeString(dir.resolve("rows.jsonl"), rows);
        SftConfig config = SftConfig.builder(MODEL, file.toString(), dir.resolve("out"))
                .data(options)
                .packing(packing)
                .build();
        try (Dataset data = Datasets.open(file.toString(), "train")) {
            return Units.of(
                    config,
                    data.size(),
                    () -> Samples.of(Gemma3.readConfig(MODEL), MODEL, data, Profile.DEFAULT, options),
                    CheckCache.none().place(config, "train", data),
                    new TrainingListener() {
                        @Override
                        public void onNotice(String line) {
                            notices.add(line);
                        }
                    });
        }
    }

    private static DataOptions options(int maxLength, Overlong overlong, boolean dropBad) {
        return new DataOptions(EnumSet.allOf(RowForm.class), LossOn.DEFAULT, maxLength, overlong, dropBad, false);
    }

    @Test
    void rowsThatMayBeLeftOutAreCountedFirst() throws IOException {
        String rows = chat("what shape") + "{}\n" + chat("what ".repeat(60)) + chat("what");
        List<String> notices = new ArrayList<>();
        Units untold = units(rows, DataOptions.DEFAULT, false, notices);
        assertEquals("[[0], [1], [2], [3]]", Arrays.deepToString(untold.rows()));
        assertTrue(!untold.isChecked() && notices.isEmpty());
        Units kept = units(rows, options(40, Overlong.DROP, true), false, notices);
        assertEquals("[[0], [3]]", Arrays.deepToString(kept.rows()));
        assertTrue(kept.isChecked());
        assertEquals(
                List.of(
                        "1 of 4 rows are bad and left out: [1] (engine check says why)",
                        "1 of 4 rows are too long and left out: [2] (engine check says why)"),
                notices);
        assertTrue(assertThrows(
                        FormatException.class,
                        () -> units(rows, options(40, Overlong.DROP, false), false, new ArrayList<>()))
                .getMessage()
                .contains("rows.jsonl:2: has no \"messages\""));
        assertTrue(assertThrows(
                        FormatException.class,
                        () -> units("{}\n{}\n", options(40, Overlong.DROP, true), false, new ArrayList<>()))
                .getMessage()
                .endsWith("none of its 2 rows is left to train on"));
    }

    /** What is wrong with rows that are held out is not said of those that are trained on. */
    @Test
    void heldOutRowsThatAreLeftOutAreCalledThat() throws IOException {
        Path held = Files.writeString(dir.resolve("held.jsonl"), chat("what ".repeat(60)) + chat("what"));
        Path longs = Files.writeString(dir.resolve("longs.jsonl"), chat("what ".repeat(60)));
        Files.writeString(dir.resolve("rows.jsonl"), chat("what"));
        List<String> notices = new ArrayList<>();
        run(held, notices);
        assertTrue(
                notices.contains("1 of 2 held-out rows are too long and left out: [0] (engine check says why)"),
                notices.toString());
        String message =
                assertThrows(FormatException.class, () -> run(longs, notices)).getMessage();
        assertEquals(longs + ": none of its 1 rows is left to evaluate on", message);
    }

    private void run(Path held, List<String> notices) {
        SftConfig config = SftConfig.builder(MODEL, dir.resolve("rows.jsonl").toString(), dir.resolve("out"))
                .data(new DataOptions(RowForm.ANSWERED, LossOn.DEFAULT, 40, Overlong.DROP, false, false))
                .maxSteps(1)
                .evaluation(new EvalOptions(
                        EvalOptions.Strategy.EPOCH, held.toString(), "test", 0, 8, false, "", null, 0, 0))
                .build();
        try (Device device = CpuDevice.open()) {
            new Sft(config, device, new TrainingListener() {
                        @Override
                        public void onNotice(String line) {
                            notices.add(line);
                        }
                    })
                    .run();
        }
    }

    @Test
    void packingNeedsALengthAndCountsSets() throws IOException {
        String rows = IntStream.range(0, 20).mapToObj(i -> chat("what shape")).reduce("", String::concat);
        Units packed = units(rows, options(60, Overlong.ERROR, false), true, new ArrayList<>());
        assertTrue(packed.size() < 10, packed.size() + " units");
        assertArrayEquals(
                IntStream.range(0, 20).toArray(),
                Arrays.stream(packed.rows())
                        .flatMapToInt(Arrays::stream)
                        .sorted()
                        .toArray());
        assertTrue(assertThrows(
                        IllegalArgumentException.class, () -> units(rows, DataOptions.DEFAULT, true, new ArrayList<>()))
                .getMessage()
                .contains("--max_length is 0"));
    }
}
