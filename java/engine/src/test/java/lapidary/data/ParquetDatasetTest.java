package lapidary.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.image.ImageSource;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Golden files: bench/reference/make_data_golden.py (pyarrow). */
class ParquetDatasetTest {
    private static final Path GOLDEN = Path.of("src/test/resources/lapidary/data");

    @TempDir
    Path dir;

    @ParameterizedTest
    @ValueSource(
            strings = {
                "none",
                "snappy",
                "gzip",
                "zstd",
                "lz4",
                "brotli",
                "page1-dict",
                "page1-plain",
                "page2-dict",
                "page2-plain",
                "groups",
                "index",
                "pages",
                "delta",
                "large",
                "oldlists",
                "nopath",
                "extra",
                "binarylist"
            })
    void readsWhatPyarrowWrote(String variant) throws IOException {
        try (Dataset data = Datasets.open(golden("llava-" + variant), "train")) {
            assertEquals(5, data.size());
            data.forEach(each -> {});
            for (int round = 0; round < 2; round++) { // the second reads what the first has kept
                for (int row : TorchRandom.randperm(5, round)) {
                    assertRow(row, data.get(row));
                }
            }
            assertEquals(golden("llava-" + variant) + " row 3", data.get(3).id());
        }
    }

    /** LLAVA of the script. */
    private static void assertRow(int row, Conversation found) throws IOException {
        List<List<String>> expected = List.of(
                List.of("user", "0:50", "What is é 你好 😀?", "assistant", "A picture."),
                List.of(
                        "user",
                        "Before\n",
                        "2:5000",
                        "between",
                        "1:50",
                        "assistant",
                        "",
                        "user",
                        "And?",
                        "assistant",
                        "x".repeat(3000)),
                List.of("user", "No picture.", "assistant", "None."),
                List.of("user", "None either.", "assistant", "None."),
                List.of("system", " sys ", "user", "3:1", "4:0", "5:50", "assistant", "Three."));
        List<String> shown = new ArrayList<>();
        List<ImageSource> images = new ArrayList<>();
        for (Message message : found.messages()) {
            shown.add(message.role());
            for (Content part : message.content()) {
                shown.add(part instanceof Content.Text text ? text.text() : picture(((Content.Image) part).source()));
                if (part instanceof Content.Image image) {
                    images.add(image.source());
                }
            }
        }
        assertEquals(expected.get(row), shown);
        assertEquals(images, found.images());
        assertEquals(row == 4 ? List.of("messages[1].content[4] of type \"other\"") : List.of(), found.lost());
    }

    /** Number and size of the script's picture: byte j of picture k is (31 k + 7 j) mod 251. */
    private static String picture(ImageSource source) throws IOException {
        byte[] bytes = source.bytes();
        int k = bytes.length == 0 ? 4 : (bytes[0] & 0xff) / 31;
        for (int j = 0; j < bytes.length; j++) {
            assertEquals((31 * k + 7 * j) % 251, bytes[j] & 0xff);
        }
        return k + ":" + bytes.length;
    }

    @Test
    void picturesAreNamedByRowAndPath() {
        try (Dataset data = Datasets.open(golden("llava-snappy"), "train")) {
            assertEquals(
                    golden("llava-snappy") + " row 0 images[0] (a.png)",
                    data.get(0).images().get(0).name());
        }
    }

    @Test
    void picturesOfLaterRowsAreNamedByThem() {
        for (String variant : List.of("llava-snappy", "llava-groups")) {
            try (Dataset data = Datasets.open(golden(variant), "train")) {
                assertEquals(
                        golden(variant) + " row 4 images[2] (c.png)",
                        data.get(4).images().get(2).name());
                assertEquals(
                        golden(variant) + " row 1 images[1]",
                        data.get(1).images().get(0).name());
            }
        }
    }

    @Test
    void readsOtherShapes() throws IOException {
        try (Dataset data = Datasets.open(golden("rows-chat"), "train")) {
            assertEquals(7, data.size());
            data.forEach(each -> {});
            for (int i = 0; i < 7; i++) {
                assertEquals(
                        List.of(Message.of("user", "question " + i), Message.of("assistant", "answer " + i)),
                        data.get(i).messages());
            }
        }
        for (String one : List.of("rows-image", "rows-imagebytes")) {
            try (Dataset data = Datasets.open(golden(one), "train")) {
                data.forEach(each -> {});
                assertEquals(List.of(), data.get(0).images());
                assertEquals("1:50", picture(data.get(1).images().get(0)));
                assertEquals("2:50", picture(data.get(2).images().get(0)));
                assertTrue(data.get(2).messages().get(0).content().get(0) instanceof Content.Image); // before the text
            }
        }
        try (Dataset data = Datasets.open(golden("rows-inline"), "train")) {
            data.forEach(each -> {});
            assertEquals("1:50", picture(data.get(0).images().get(0)));
        }
        try (Dataset data =
                Datasets.open(golden("rows-floatindex"), "train")) { // pandas makes floats of ints with gaps
            assertEquals("2:5000", picture(data.get(0).images().get(0)));
            assertEquals("1:50", picture(data.get(0).images().get(1)));
            assertComplaint("row 1: messages[0].content[0].index is 0.5", () -> data.get(1));
        }
        Files.copy(GOLDEN.resolve("rows-paths.parquet"), dir.resolve("rows-paths.parquet"));
        Files.write(dir.resolve("picture.bin"), new byte[] {9});
        try (Dataset data = Datasets.open(dir.resolve("rows-paths.parquet").toString(), "train")) {
            data.forEach(each -> {});
            assertArrayEquals(new byte[] {9}, data.get(0).images().get(0).bytes());
        }
    }

    @Test
    void placeholdersAmongTheWordsArePlacesForPictures() throws IOException {
        try (Dataset data = Datasets.open(golden("rows-placeholders"), "train")) {
            for (int round = 0; round < 2; round++) {
                Conversation two = data.get(0);
                assertEquals(
                        Message.of("user", "see <start_of_image> and<start_of_image>"),
                        two.messages().get(0));
                assertEquals(2, two.images().size());
                assertEquals("1:50", picture(two.images().get(0)));
                assertEquals("2:50", picture(two.images().get(1)));
                assertEquals("3:50", picture(data.get(1).images().get(0)));
                assertComplaint("row 2: has 2 pictures but 1 places for them", () -> data.get(2));
                assertEquals(0, data.get(3).images().size()); // the collator refuses it by name
            }
            assertComplaint("row 2: has 2 pictures but 1 places for them", () -> data.forEach(each -> {}));
        }
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            textBlock =
                    """
            0 | messages is null
            1 | messages is empty
            2 | messages[0] is null
            3 | messages[0].role is null
            4 | messages[0].content is null
            5 | messages[0].content[0].text is null
            6 | asks for picture 0 (counted from 0), but the record has 0
            7 | has 1 pictures but image parts for 0
            8 | has 2 pictures but image parts for 1
            9 | asks for picture -1
            10 | images[0] is null
            11 | images[0] has neither bytes nor a path
            12 | no such picture
            """)
    void namesFileAndRowOfAMistake(int row, String why) {
        try (Dataset data = Datasets.open(golden("rows-wrong"), "train")) {
            for (int round = 0; round < 2; round++) {
                assertComplaint(golden("rows-wrong") + " row " + row + ": ", () -> data.get(row));
                assertComplaint(why, () -> data.get(row));
            }
            assertEquals(2, data.get(13).messages().size()); // one bad row does not spoil its neighbours
            assertComplaint("row 0: messages is null", () -> data.forEach(each -> {}));
        }
    }

    /** What {@code get} says is said when all rows are looked at too, and the row before is no matter. */
    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            textBlock =
                    """
            gone | images[0].path: no such picture
            none | images[0] has neither bytes nor a path
            null | images[0] is null or missing
            url | images[0].path is a URL
            """)
    void aLookAtAllRowsFindsPicturesThatAreNotThere(String name, String why) {
        try (Dataset data = Datasets.open(golden("picture-" + name), "train")) {
            List<String> right = new ArrayList<>();
            assertComplaint(
                    golden("picture-" + name) + " row 1: " + why, () -> data.forEach(each -> right.add(each.id())));
            assertEquals(List.of(golden("picture-" + name) + " row 0"), right);
            assertComplaint(golden("picture-" + name) + " row 1: " + why, () -> data.get(1));
        }
    }

    @Test
    void picturesHaveALengthBeforeTheyAreRead() throws IOException {
        try (Dataset data = Datasets.open(golden("llava-snappy"), "train")) {
            List<Long> lengths = new ArrayList<>();
            List<ImageSource> pictures = new ArrayList<>();
            data.forEach(each -> pictures.addAll(each.images()));
            for (int row = 0; row < data.size(); row++) {
                pictures.addAll(data.get(row).images());
            }
            for (ImageSource picture : pictures) {
                lengths.add(picture.length());
            }
            List<Long> once = List.of(50L, 5000L, 50L, 1L, 0L, 50L);
            assertEquals(once, lengths.subList(0, 6));
            assertEquals(once, lengths.subList(6, 12));
        }
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            textBlock =
                    """
            rows-empty | has no rows
            rows-nomessages | has no "messages" (nor "prompt" and "completion", nor "question", "input_image_path" and "output"), only [text, images]
            rows-ambiguous | could be read in several ways; choose one with --dataset_format [messages, prompt_completion]
            """)
    void refusesFiles(String name, String why) {
        assertComplaint(why, () -> Datasets.open(golden(name), "train"));
        assertComplaint(golden(name), () -> Datasets.open(golden(name), "train"));
    }

    /** The pictures of these files stand in one page of 96 MB. */
    @ParameterizedTest
    @ValueSource(strings = {"big-dict", "big-plain"})
    void aPageMayBeLargerThanTheHeap(String name) throws Exception {
        Path cache = Files.createDirectories(dir.resolve("cache"));
        ProcessBuilder builder = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "-Xmx24m",
                        "-cp",
                        System.getProperty("java.class.path"),
                        PictureReader.class.getName(),
                        golden(name))
                .redirectErrorStream(true);
        builder.environment().put("XDG_CACHE_HOME", cache.toString());
        Process reader = builder.start();
        try {
            String said = new String(reader.getInputStream().readAllBytes(), java.nio.charset.StandardCharsets.UTF_8);
            assertTrue(reader.waitFor(60, java.util.concurrent.TimeUnit.SECONDS));
            assertTrue(said.endsWith("24 pictures are right\n"), said);
        } finally {
            reader.destroyForcibly();
        }
    }

    /** Reads pictures each of which repeats its number. */
    static final class PictureReader {
        public static void main(String[] arguments) throws IOException {
            int right = 0;
            try (Dataset data = Datasets.open(arguments[0], "train")) {
                data.forEach(conversation -> {});
                for (int row : TorchRandom.randperm(data.size(), 3)) {
                    byte[] bytes = data.get(row).images().get(0).bytes();
                    byte[] expected = new byte[4 << 20];
                    Arrays.fill(expected, (byte) row);
                    right += Arrays.equals(expected, bytes) ? 1 : 0;
                }
            }
            System.out.println(right + " pictures are right");
        }
    }

    @ParameterizedTest
    @CsvSource({"rows-numbers,messages[0].content is 3", "rows-binarytext,messages[0].content is 1 bytes of binary"})
    void textMustBeText(String name, String why) {
        try (Dataset data = Datasets.open(golden(name), "train")) {
            assertComplaint(why, () -> data.get(0));
            assertComplaint(why, () -> data.forEach(each -> {}));
        }
    }

    @Test
    void refusesWhatIsNoParquet() throws IOException {
        Path file = dir.resolve("a.parquet");
        for (String text : List.of("", "PAR1", "{\"messages\": []}\n", "PAR1" + "\0".repeat(100) + "PAR1")) {
            Files.writeString(file, text);
            assertComplaint("a.parquet", () -> Datasets.open(file.toString(), "train"));
        }
    }

    /** Cut or with one bit turned, a file gives rows or our own complaint; never another error, never a wait without end. */
    @ParameterizedTest
    @ValueSource(
            strings = {"llava-snappy", "llava-page2-plain", "llava-index", "llava-delta", "llava-lz4", "llava-brotli"})
    void survivesDamage(String name) throws Exception {
        byte[] good = Files.readAllBytes(GOLDEN.resolve(name + ".parquet"));
        Random random = new Random(7);
        Set<String> outcomes = new TreeSet<>();
        Path file = dir.resolve("damaged.parquet");
        ExecutorService one = Executors.newSingleThreadExecutor();
        try {
            for (int k = 0; k < 100; k++) {
                byte[] bad = good.clone();
                if (k % 4 == 0) {
                    bad = Arrays.copyOf(bad, random.nextInt(bad.length));
                } else { // mostly in the footer: pictures are 5 of 10 kB
                    int at = k % 4 == 1 ? random.nextInt(bad.length) : bad.length - 1 - random.nextInt(4000);
                    bad[at] ^= (byte) (1 << random.nextInt(8));
                }
                Files.write(file, bad);
                Future<String> outcome = one.submit(() -> readAll(file));
                outcomes.add(outcome.get(60, java.util.concurrent.TimeUnit.SECONDS));
            }
        } finally {
            one.shutdownNow();
        }
        assertEquals(Set.of("read", "refused"), outcomes);
    }

    @Test
    void aWrongChecksumIsTold() throws IOException {
        byte[] good = Files.readAllBytes(GOLDEN.resolve("llava-index.parquet"));
        Path file = dir.resolve("damaged.parquet");
        for (int at = 140; at < 380; at += 9) { // in the page of the words' dictionary
            byte[] bad = good.clone();
            bad[at] ^= 4;
            Files.write(file, bad);
            try (Dataset data = Datasets.open(file.toString(), "train")) {
                assertComplaint("checksum of the page at byte 100 is wrong", () -> data.get(0));
            }
        }
    }

    /** Sizes in the footer that disagree with the pages made the library wait for ever: byte 8400 is among them. */
    @Test
    void sizesThatDisagreeAreTold() throws Exception {
        byte[] good = Files.readAllBytes(GOLDEN.resolve("llava-snappy.parquet"));
        Path file = dir.resolve("damaged.parquet");
        ExecutorService one = Executors.newSingleThreadExecutor();
        try {
            for (int bit = 8 * 8396; bit < 8 * 8404; bit++) {
                byte[] bad = good.clone();
                bad[bit / 8] ^= (byte) (1 << bit % 8);
                Files.write(file, bad);
                one.submit(() -> readAll(file)).get(60, java.util.concurrent.TimeUnit.SECONDS);
            }
        } finally {
            one.shutdownNow();
        }
    }

    private static String readAll(Path file) throws IOException {
        try (Dataset data = Datasets.open(file.toString(), "train")) {
            for (int row = 0; row < Math.min(20, data.size()); row++) {
                for (ImageSource source : data.get(row).images()) {
                    source.bytes();
                }
            }
            return "read";
        } catch (FormatException e) {
            assertTrue(e.getMessage().contains("damaged.parquet"), e.getMessage());
            assertFalse(e.getMessage().contains("\n"), e.getMessage());
            return "refused";
        }
    }

    @Test
    void severalThreadsReadAtOnce() throws Exception {
        try (Dataset data = Datasets.open(golden("llava-groups"), "train");
                Prefetch<Integer, Conversation> ahead =
                        new Prefetch<>(new Random(3).ints(300, 0, 5).boxed().iterator(), data::get, 6, 20)) {
            int[] order = new Random(3).ints(300, 0, 5).toArray();
            for (int row : order) {
                assertRow(row, ahead.next());
            }
        }
    }

    @Test
    void leavesNothingBehind() throws IOException {
        Path folder = dir.resolve("spill");
        try (Spill spill = Spill.open(folder)) {
            long first = spill.append(new byte[] {1, 2, 3}, 1, 2);
            long second = spill.append(new byte[] {4}, 0, 1);
            assertArrayEquals(new byte[] {4}, spill.read(second, 1));
            assertArrayEquals(new byte[] {2, 3}, spill.read(first, 2));
            assertThrows(IOException.class, () -> spill.read(second, 2));
        }
        try (var files = Files.list(folder)) {
            assertEquals(0, files.count());
        }
        Files.writeString(dir.resolve("plain"), "x");
        assertComplaint("XDG_CACHE_HOME", () -> Spill.open(dir.resolve("plain/under")));
    }

    private static String golden(String name) {
        return GOLDEN.resolve(name + ".parquet").toString();
    }

    private static void assertComplaint(String part, org.junit.jupiter.api.function.Executable run) {
        FormatException e = assertThrows(FormatException.class, run);
        assertTrue(e.getMessage().contains(part), () -> "\"" + part + "\" not in: " + e.getMessage());
        assertFalse(e.getMessage().contains("\n"), e.getMessage());
    }
}
