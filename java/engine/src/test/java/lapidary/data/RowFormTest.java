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
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The forms of rows beside {@code messages}, and pictures in zip files. Golden files: bench/reference/make_data_golden.py. */
class RowFormTest {
    private static final Path GOLDEN = Path.of("src/test/resources/lapidary/data");

    private static final String MMIU = "{\"task\": \"t\", \"options\": \"A: one\\nB: two\", \"question\": \"Which?\","
            + " \"context\": \"You are given two.\", \"output\": \"B\","
            + " \"input_image_path\": [\"./Low-level/odd/0.png\", \"picture.bin\"]}";

    @TempDir
    Path dir;

    private static void zip(Path file, String... entries) throws IOException {
        try (ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(file))) {
            for (String entry : entries) {
                out.putNextEntry(new ZipEntry(entry));
                out.write(entry.getBytes(java.nio.charset.StandardCharsets.UTF_8));
            }
        }
    }

    private Conversation only(String row) throws IOException {
        Path file = Files.writeString(dir.resolve("rows.jsonl"), row + "\n");
        try (Dataset data = Datasets.open(file.toString(), "train")) {
            return data.get(0);
        }
    }

    private static List<String> shown(Conversation conversation) throws IOException {
        List<String> out = new ArrayList<>();
        for (Message message : conversation.messages()) {
            out.add(message.role() + ":");
            for (Content part : message.content()) {
                out.add(
                        part instanceof Content.Text text
                                ? text.text()
                                : ((Content.Image) part).source().name());
            }
        }
        return out;
    }

    @ParameterizedTest
    @ValueSource(strings = {"rows-mmiu.parquet", "list.json", "lines.json", "rows.jsonl"})
    void readsRowsOfMmiu(String name) throws IOException {
        zip(dir.resolve("Low-level.zip"), "odd/0.png");
        Files.write(dir.resolve("picture.bin"), new byte[] {7});
        Path file = dir.resolve(name);
        String bare = MMIU.replace("\"You are given two.\"", "null").replaceAll("\\[.*]", "[]");
        switch (name) {
            case "rows-mmiu.parquet" -> Files.copy(GOLDEN.resolve(name), file);
            case "list.json" -> Files.writeString(file, "\n [\n" + MMIU + ",\n\n" + bare + "]\n");
            default -> Files.writeString(file, MMIU + "\n" + bare + "\n");
        }
        try (Dataset data = Datasets.open(file.toString(), "train")) {
            assertEquals(2, data.size());
            for (int round = 0; round < 2; round++) {
                Conversation row = data.get(0);
                assertEquals(
                        List.of(
                                "system:",
                                "You are given two.",
                                "user:",
                                dir.resolve("Low-level.zip") + ": odd/0.png",
                                dir.resolve("picture.bin").toString(),
                                "Which?",
                                "assistant:",
                                "B"),
                        shown(row));
                assertEquals(9, row.images().get(0).length());
                assertArrayEquals("odd/0.png".getBytes(), row.images().get(0).bytes());
                assertArrayEquals(new byte[] {7}, row.images().get(1).bytes());
                assertEquals(0, row.prompt());
                assertEquals(List.of("user:", "Which?", "assistant:", "B"), shown(data.get(1)));
            }
            List<Conversation> all = new ArrayList<>();
            data.forEach(all::add);
            assertEquals(2, all.size());
        }
    }

    @Test
    void pathsLeadIntoZipFilesByNameAndByContent() throws IOException {
        Files.createDirectories(dir.resolve("in"));
        zip(dir.resolve("A.zip"), "1.png", "x/2.png");
        zip(dir.resolve("B.zip"), "B/3.png", "other/4.png", "5.png");
        zip(dir.resolve("in/C.zip"), "6.png");
        zip(dir.resolve("Z.zip"), "5.png");
        Files.writeString(dir.resolve("A-file.png"), "on disk");
        assertEquals("1.png", entry("A/1.png"));
        assertEquals("1.png", entry("./A//1.png"));
        assertEquals("x/2.png", entry("A/x/2.png"));
        assertEquals("B/3.png", entry("B/3.png")); // the archive holds its own folder
        assertEquals("other/4.png", entry("other/4.png"));
        assertEquals("6.png", entry("in/C/6.png"));
        assertTrue(refused("5.png").contains("picture 5.png is in 2 zip files"));
        assertTrue(refused("A/gone.png").contains("no such picture: " + dir.resolve("A/gone.png") + ", nor in 3 zip"));
        assertTrue(refused("../A/1.png").contains("no such picture"));
        assertTrue(refused("\\\\\\\\host\\\\share\\\\1.png").contains("another machine"));
        assertTrue(refused("A/X/2.png").contains("no such picture"), "names differ in case");
        Files.createDirectory(dir.resolve("A")); // what is on disk goes first
        Files.writeString(dir.resolve("A/1.png"), "on disk");
        Conversation row = only(MMIU.replaceAll("\\[.*]", "[\"A/1.png\"]"));
        assertEquals(dir.resolve("A/1.png").toString(), row.images().get(0).name());
    }

    private String entry(String path) throws IOException {
        Path file = Files.writeString(dir.resolve("rows.jsonl"), withPath(path));
        try (Dataset data = Datasets.open(file.toString(), "train")) {
            return new String(data.get(0).images().get(0).bytes(), java.nio.charset.StandardCharsets.UTF_8);
        }
    }

    private static String withPath(String path) {
        return MMIU.replaceAll("\\[.*]", "")
                .replace("\"input_image_path\": ", "\"input_image_path\": [\"" + path + "\"]");
    }

    private String refused(String path) {
        String message =
                assertThrows(FormatException.class, () -> only(withPath(path))).getMessage();
        assertTrue(message.startsWith(dir.resolve("rows.jsonl") + ":1: input_image_path[0]: "), message);
        assertFalse(message.contains("\n"), message);
        return message;
    }

    @Test
    void aDamagedZipFileIsNamedBesideTheRow() throws IOException {
        Files.writeString(dir.resolve("A.zip"), "no zip");
        assertTrue(refused("A/1.png").contains("cannot read " + dir.resolve("A.zip")));
        String message = refused("gone/1.png"); // which may be anywhere
        assertTrue(message.contains("no such picture: " + dir.resolve("gone/1.png") + ", nor in A.zip; "), message);
        assertTrue(message.contains("A.zip: it has no list of entries"), message);
        zip(dir.resolve("B.zip"), "other/4.png");
        assertEquals("other/4.png", entry("other/4.png"));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            textBlock =
                    """
            {"question": 3, "input_image_path": [], "output": "a"} | question is 3, expected a string
            {"question": "q", "input_image_path": null, "output": "a"} | input_image_path is null
            {"question": "q", "input_image_path": [5], "output": "a"} | input_image_path[0] is 5
            {"question": "q", "input_image_path": [], "output": null} | output is null
            {"question": "q", "input_image_path": [], "output": "a", "context": 1} | context is 1
            {"question": "q", "output": "a"} | has no "messages"
            {"prompt": [], "completion": []} | prompt is empty
            {"prompt": "q", "completion": []} | completion is empty
            {"prompt": "q", "completion": 3} | completion is 3, expected a list
            {"prompt": [{"role": "user", "content": 1}], "completion": "a"} | prompt[0].content is 1
            {"prompt": "q", "completion": [{"role": "assistant"}]} | completion[0].content is null
            {"prompt": "q", "completion": "a", "messages": []} | --dataset_format [messages, prompt_completion]
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]} | image_url is null or missing, expected a string
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/a.png"}}]}]} | content[0].image_url.url is a URL
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "file:///etc/passwd"}]}]} | content[0].image_url is a URL
            """)
    void namesWhatIsWrong(String row, String why) {
        String message = assertThrows(FormatException.class, () -> only(row)).getMessage();
        assertTrue(message.contains(why), message);
        assertTrue(message.startsWith(dir.resolve("rows.jsonl") + ":1: "), message);
    }

    @Test
    void promptAndCompletionAreMessages() throws IOException {
        Conversation texts = only("{\"prompt\": \"q\", \"completion\": \"a\", \"chosen\": 3}");
        assertEquals(List.of("user:", "q", "assistant:", "a"), shown(texts));
        assertEquals(1, texts.prompt());
        Files.write(dir.resolve("p.png"), new byte[] {7});
        Conversation lists = only("{\"prompt\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\","
                + " \"content\": \"q\"}], \"completion\": [{\"role\": \"assistant\", \"content\": \"a\"}],"
                + " \"images\": [\"p.png\"]}");
        assertEquals(
                List.of("system:", "s", "user:", dir.resolve("p.png").toString(), "q", "assistant:", "a"),
                shown(lists));
        assertEquals(2, lists.prompt());
        for (String name : List.of("rows-prompt", "rows-prompttext")) {
            try (Dataset data = Datasets.open(GOLDEN.resolve(name + ".parquet").toString(), "train")) {
                assertEquals(List.of("user:", "q", "assistant:", "a"), shown(data.get(0)));
                assertEquals(1, data.get(0).prompt());
            }
        }
    }

    @Test
    void aToldFormDecides() throws IOException {
        String both =
                "{\"prompt\": \"q\", \"completion\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"m\"}]}";
        Path file = Files.writeString(dir.resolve("rows.jsonl"), both);
        try (Dataset data = Datasets.open(file.toString(), "train", EnumSet.of(RowForm.MESSAGES))) {
            assertEquals(List.of("user:", "m"), shown(data.get(0)));
        }
        try (Dataset data = Datasets.open(file.toString(), "train", Set.of(RowForm.PROMPT_COMPLETION))) {
            assertEquals(List.of("user:", "q", "assistant:", "a"), shown(data.get(0)));
        }
        try (Dataset data = Datasets.open(file.toString(), "train", Set.of(RowForm.MMIU))) {
            String message =
                    assertThrows(FormatException.class, () -> data.get(0)).getMessage();
            assertTrue(message.contains("has no \"input_image_path\", which the form mmiu needs"), message);
        }
        String ambiguous = GOLDEN.resolve("rows-ambiguous.parquet").toString();
        try (Dataset data = Datasets.open(ambiguous, "train", Set.of(RowForm.PROMPT_COMPLETION))) {
            assertEquals(List.of("user:", "q", "assistant:", "a"), shown(data.get(0)));
        }
    }

    @Test
    void aPromptAloneIsToBeAnsweredAndNotTrainedOn() throws IOException {
        Path file = Files.writeString(dir.resolve("rows.jsonl"), "{\"prompt\": \"q\"}");
        try (Dataset data = Datasets.open(file.toString(), "train", RowForm.ASKED)) {
            assertEquals(List.of("user:", "q"), shown(data.get(0)));
        }
        try (Dataset data = Datasets.open(file.toString(), "train")) {
            String message =
                    assertThrows(FormatException.class, () -> data.get(0)).getMessage();
            assertTrue(message.contains("has no \"messages\" (nor \"prompt\" and \"completion\""), message);
        }
    }

    @Test
    void openAisPartsBringTheirPicture() throws IOException {
        for (String url :
                List.of("{\"url\": \"data:image/png;base64,AQID\", \"detail\": \"low\"}", "\"DATA:;base64,AQID\"")) {
            Conversation row = only("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\","
                    + " \"image_url\": " + url + "}, {\"type\": \"text\", \"text\": \"q\"}]}]}");
            assertArrayEquals(new byte[] {1, 2, 3}, row.images().get(0).bytes());
            assertEquals(2, row.messages().get(0).content().size());
        }
        try (Dataset data =
                Datasets.open(GOLDEN.resolve("rows-imageurl.parquet").toString(), "train")) {
            assertArrayEquals(new byte[] {1, 2, 3}, data.get(0).images().get(0).bytes());
        }
    }

    @ParameterizedTest
    @CsvSource({"image,a.png", "path,a.png", "url,a.png", "url,'data:image/png;base64,AQID'", "base64,AQID"})
    void transformersPartsBringTheirPicture(String key, String value) throws IOException {
        Files.write(dir.resolve("a.png"), new byte[] {1, 2, 3});
        Conversation row = only("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"" + key
                + "\": \"" + value + "\"}, {\"type\": \"text\", \"text\": \"q\"}]}]}");
        assertArrayEquals(new byte[] {1, 2, 3}, row.images().get(0).bytes());
    }

    @Test
    void aPartsAddressIsNotFetched() {
        FormatException e = assertThrows(
                FormatException.class,
                () -> only("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"url\":"
                        + " \"http://127.0.0.1:1/a.png\"}]}]}"));
        assertTrue(e.getMessage().contains(".content[0].url"), e.getMessage());
    }

    @Test
    void aListIsReadElementByElement() throws IOException {
        String one = "{\"prompt\": \"a ] } \\\" , \\\\\", \"completion\": \"1\"}";
        Path file = Files.writeString(
                dir.resolve("rows.json"),
                "\uFEFF\n[ " + one + " ,\r\n\t"
                        + one.replace("\"1\"", "[{\"role\":\n\"assistant\", \"content\": \"2\"}]") + "\n]\n\n");
        try (Dataset data = Datasets.open(file.toString(), "train")) {
            assertEquals(2, data.size());
            assertEquals(List.of("user:", "a ] } \" , \\", "assistant:", "1"), shown(data.get(0)));
            assertEquals(file + ":2", data.get(0).id());
            assertEquals(List.of("user:", "a ] } \" , \\", "assistant:", "2"), shown(data.get(1)));
            assertEquals(file + ":3", data.get(1).id());
        }
        for (String wrong : List.of(
                "[" + one, "[" + one + ",", "[" + one + "] x", "[" + one + ",]", "[,]", "[" + one + ",," + one + "]")) {
            Files.writeString(file, wrong);
            String message = assertThrows(FormatException.class, () -> Datasets.open(file.toString(), "train"), wrong)
                    .getMessage();
            assertTrue(message.startsWith(file + ":1: "), message);
        }
        Files.writeString(file, "[" + one + ", 5, " + one.replace("\"completion\"", "completion") + "]");
        try (Dataset data = Datasets.open(file.toString(), "train")) {
            assertEquals(3, data.size());
            data.get(0);
            assertThrows(FormatException.class, () -> data.get(1));
            assertThrows(FormatException.class, () -> data.get(2));
        }
        Files.writeString(file, "[]");
        assertThrows(FormatException.class, () -> Datasets.open(file.toString(), "train"));
    }
}
