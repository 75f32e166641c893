package lapidary.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import lapidary.gemma3.Gemma3Processor;
import lapidary.gemma3.Message;
import lapidary.gemma3.TextGolden;
import lapidary.image.ImageSource;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class JsonlDatasetTest {
    @TempDir
    Path dir;

    private static final String CHAT =
            "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}]}";

    @BeforeEach
    void pictures() throws IOException {
        Files.createDirectories(dir.resolve("pictures"));
        Files.write(dir.resolve("pictures/a.png"), new byte[] {1, 2, 3});
        Files.write(dir.resolve("pictures/b c.png"), new byte[] {4, 5});
    }

    @Test
    void readsChats() throws IOException {
        Path file = write(
                "{\"id\":7,\"messages\":[{\"content\":\" é 你好 😀 \\ud800 \",\"role\":\"user\",\"name\":null},"
                        + "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"text\":\"b\",\"type\":\"text\"}]}]}\n");
        try (Dataset data = open(file)) {
            assertEquals(1, data.size());
            assertEquals(
                    new Conversation(
                            file + ":1",
                            List.of(
                                    Message.of("user", " é 你好 😀 \ud800 "),
                                    new Message("assistant", List.of(new Content.Text("a"), new Content.Text("b"))))),
                    data.get(0));
            data.forEach(each -> {});
            assertTrue(data.description().contains("1 rows"), data.description());
        }
    }

    static List<String> endings() {
        return List.of(
                CHAT + "\n" + CHAT,
                "\uFEFF" + CHAT + "\r\n" + CHAT + "\r\n",
                "\n\n" + CHAT + "\n \t\r\n" + CHAT + "\n\n\n",
                "\uFEFF\n" + CHAT + "\n" + CHAT + "   ",
                "  " + CHAT + "\n\n" + CHAT);
    }

    @ParameterizedTest
    @MethodSource("endings")
    void takesEveryLineEnding(String text) throws IOException {
        Path file = write(text);
        try (Dataset data = open(file)) {
            assertEquals(2, data.size());
            data.forEach(each -> {});
            String lines = text.replace("\r", "");
            int second = lines.substring(0, lines.lastIndexOf("{\"messages")).split("\n", -1).length;
            assertEquals(file + ":" + second, data.get(1).id());
        }
    }

    @Test
    void readsManyLinesInAnyOrder() throws IOException {
        StringBuilder text = new StringBuilder();
        int n = 3000;
        for (int i = 0; i < n; i++) { // beyond one buffer of a megabyte
            text.append(CHAT.replace("\"a\"", "\"" + i + "x".repeat(i % 1000) + "\""))
                    .append('\n');
        }
        try (Dataset data = open(write(text.toString()))) {
            assertEquals(n, data.size());
            for (int row : TorchRandom.randperm(n, 1)) {
                Content.Text answer =
                        (Content.Text) data.get(row).messages().get(1).content().get(0);
                assertEquals(row + "x".repeat(row % 1000), answer.text());
            }
        }
    }

    static Stream<Arguments> pictureForms() {
        String q = "{\"type\":\"text\",\"text\":\"q\"}";
        String column = "\"messages\":[{\"role\":\"user\",\"content\":[%s]}],\"images\":[%s]";
        return Stream.of(
                Arguments.of(String.format(column, "{\"type\":\"image\"}," + q, "\"pictures/a.png\""), "iq", "A"),
                Arguments.of(
                        String.format(
                                column,
                                "{\"type\":\"image\"}," + q + ",{\"type\":\"image\"}",
                                "\"pictures/a.png\",{\"path\":\"pictures/b c.png\"}"),
                        "iqi",
                        "AB"),
                Arguments.of(
                        String.format(
                                column,
                                "{\"type\":\"image\",\"index\":1},{\"type\":\"image\",\"index\":0}",
                                "\"pictures/a.png\",\"./pictures/../pictures/b c.png\""),
                        "ii",
                        "BA"),
                Arguments.of(
                        String.format(
                                column,
                                "{\"type\":\"image\",\"index\":0},{\"type\":\"image\",\"index\":0}",
                                "{\"bytes\":\"AQID\",\"path\":\"any.png\"}"),
                        "ii",
                        "AA"),
                Arguments.of(String.format(column, "{\"type\":\"image\"}", "\"data:image/png;base64,BAU=\""), "i", "B"),
                Arguments.of(
                        "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"image\":\"pictures/a.png\"},"
                                + "{\"type\":\"text\",\"text\":\"q\",\"image\":null},"
                                + "{\"type\":\"image\",\"text\":null,\"image\":{\"bytes\":\"BAU=\",\"path\":null}}]}]",
                        "iqi",
                        "AB"),
                Arguments.of(
                        "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"path\":\"pictures/a.png\"}]}]",
                        "i",
                        "A"),
                Arguments.of(
                        "\"messages\":[{\"role\":\"system\",\"content\":\"q\"},{\"role\":\"user\",\"content\":\"q\"}],"
                                + "\"images\":[\"pictures/a.png\",\"pictures/b c.png\"]",
                        "q|iiq",
                        "AB"),
                Arguments.of(
                        "\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"image\":\"pictures/a.png\"", "iq", "A"),
                Arguments.of("\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"images\":null", "q", ""),
                Arguments.of("\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"images\":[]", "q", ""),
                Arguments.of(
                        "\"messages\":[{\"role\":\"user\",\"content\":[null,{\"type\":\"video\"}," + q + "]}]",
                        "q",
                        ""),
                Arguments.of("\"messages\":[{\"role\":\"user\",\"content\":[]}]", "", ""));
    }

    /** {@code shape}: messages by |, i an image part, q a text; {@code which}: the pictures in order. */
    @ParameterizedTest
    @MethodSource("pictureForms")
    void findsPictures(String row, String shape, String which) throws IOException {
        try (Dataset data = open(write("{" + row + "}"))) {
            Conversation conversation = data.get(0);
            StringBuilder found = new StringBuilder();
            List<ImageSource> sources = new ArrayList<>();
            for (Message message : conversation.messages()) {
                found.append(found.isEmpty() ? "" : "|");
                for (Content part : message.content()) {
                    found.append(part instanceof Content.Image ? 'i' : 'q');
                    if (part instanceof Content.Image image) {
                        sources.add(image.source());
                    }
                }
            }
            assertEquals(shape, found.toString());
            assertEquals(sources, conversation.images());
            assertEquals(
                    row.contains("video") ? List.of("messages[0].content[1] of type \"video\"") : List.of(),
                    conversation.lost());
            StringBuilder pictures = new StringBuilder();
            for (ImageSource source : sources) {
                assertTrue(source.bytes().length == 3 || source.bytes().length == 2);
                pictures.append(source.bytes()[0] == 1 ? 'A' : 'B');
            }
            assertEquals(which, pictures.toString());
        }
    }

    static Stream<Arguments> placeholders() {
        String a = "\"pictures/a.png\"";
        String b = "\"pictures/b c.png\"";
        String in = "\"see <start_of_image> this\"";
        String part = "{\"type\":\"image\"}";
        return Stream.of(
                Arguments.of(in, "\"ok\"", a, "A"),
                Arguments.of("\"<start_of_image><start_of_image>\"", "\"ok\"", b + "," + a, "BA"),
                Arguments.of(in, in, a + "," + b, "AB"), // in whichever turn: the template writes both alike
                Arguments.of("\"draw\"", "\"<start_of_image> here\"", b, "B"),
                Arguments.of("[{\"type\":\"text\",\"text\":" + in + "}]", "\"ok\"", b, "B"),
                Arguments.of("[{\"type\":\"text\",\"text\":" + in + "}," + part + "]", "\"ok\"", a + "," + b, "AB"),
                Arguments.of(
                        "[" + part + ",{\"type\":\"text\",\"text\":" + in + "}]", in, a + "," + b + "," + a, "ABA"),
                Arguments.of(
                        "[{\"type\":\"image\",\"image\":" + b + "},{\"type\":\"text\",\"text\":" + in + "}]",
                        "\"ok\"",
                        a,
                        "BA"),
                Arguments.of("\"<start_of_imag<start_of_image>e>\"", "\"ok\"", a, "A"));
    }

    /** What the collator makes of it is what the reference does: an image's soft tokens for each placeholder, in order. */
    @ParameterizedTest
    @MethodSource("placeholders")
    void placeholdersAmongTheWordsArePlacesForPictures(String user, String assistant, String images, String which)
            throws IOException {
        Gemma3Processor processor = Gemma3Processor.load(TextGolden.MODEL);
        try (Dataset data = open(write("{\"messages\":[{\"role\":\"user\",\"content\":" + user
                + "},{\"role\":\"assistant\",\"content\":" + assistant + "}],\"images\":[" + images + "]}"))) {
            data.forEach(each -> {});
            for (Profile profile : Profile.values()) {
                Sample sample = new Collator(processor, profile).collate(data.get(0));
                StringBuilder pictures = new StringBuilder();
                for (ImageSource source : sample.images()) {
                    pictures.append(source.bytes()[0] == 1 ? 'A' : 'B');
                }
                assertEquals(which, pictures.toString());
                assertEquals(
                        which.length() * processor.imageSeqLength(),
                        IntStream.of(sample.tokenTypeIds()).sum());
            }
        }
    }

    @Test
    void absolutePathsAreTheUsersOwn() throws IOException {
        Path picture = dir.resolve("pictures/a.png").toAbsolutePath();
        Files.createDirectories(dir.resolve("deep"));
        Path file = dir.resolve("deep/train.jsonl");
        Files.writeString(
                file,
                "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"images\":[\"" + picture
                        + "\",\"../pictures/a.png\"]}");
        try (Dataset data = open(file)) {
            assertArrayEquals(new byte[] {1, 2, 3}, data.get(0).images().get(0).bytes());
            assertArrayEquals(new byte[] {1, 2, 3}, data.get(0).images().get(1).bytes());
        }
    }

    static Stream<Arguments> wrong() {
        String user = "\"messages\":[{\"role\":\"user\",\"content\":%s}]";
        return Stream.of(
                Arguments.of("{\"messages\"", "not valid JSON"),
                Arguments.of("{\"messages\":[],\"messages\":[]}", "uplicate"),
                Arguments.of("[1]", "a list"),
                Arguments.of("3", "expected an object"),
                Arguments.of("{} {}", "something follows"),
                Arguments.of("{}", "no \"messages\""),
                Arguments.of("{\"text\":\"x\"}", "[text]"),
                Arguments.of("{\"messages\":null}", "messages is null"),
                Arguments.of("{\"messages\":[]}", "messages is empty"),
                Arguments.of("{\"messages\":{}}", "expected a list"),
                Arguments.of("{\"messages\":[null]}", "messages[0] is null"),
                Arguments.of("{\"messages\":[\"x\"]}", "messages[0] is \"x\", expected an object"),
                Arguments.of("{\"messages\":[{\"content\":\"x\"}]}", "messages[0].role is null or missing"),
                Arguments.of("{\"messages\":[{\"role\":3,\"content\":\"x\"}]}", "messages[0].role is 3"),
                Arguments.of("{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content is null or missing"),
                Arguments.of("{" + String.format(user, "3") + "}", "messages[0].content is 3"),
                Arguments.of("{" + String.format(user, "{\"type\":\"text\"}") + "}", "messages[0].content"),
                Arguments.of("{" + String.format(user, "[\"x\"]") + "}", "content[0] is \"x\", expected an object"),
                Arguments.of("{" + String.format(user, "[{\"text\":\"x\"}]") + "}", "content[0].type"),
                Arguments.of("{" + String.format(user, "[{\"type\":\"text\"}]") + "}", "content[0].text is null"),
                Arguments.of(
                        "{" + String.format(user, "[{\"type\":\"text\",\"text\":1}]") + "}", "content[0].text is 1"),
                Arguments.of("{" + String.format(user, "[{\"type\":\"image_url\"}]") + "}", "image_url"),
                Arguments.of("{" + String.format(user, "[{\"type\":\"image\"}]") + "}", "asks for picture 0"),
                Arguments.of(
                        "{" + String.format(user, "[{\"type\":\"image\",\"index\":\"0\"}]")
                                + ",\"images\":[\"pictures/a.png\"]}",
                        "index is \"0\""),
                Arguments.of(
                        "{" + String.format(user, "[{\"type\":\"image\"}]")
                                + ",\"images\":[\"pictures/a.png\",\"pictures/a.png\"]}",
                        "has 2 pictures but image parts for 1"),
                Arguments.of(
                        "{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}],\"images\":[\"pictures/a.png\"]}",
                        "has 1 pictures but image parts for 0"),
                Arguments.of(
                        "{" + String.format(user, "\"x <start_of_image>\"")
                                + ",\"images\":[\"pictures/a.png\",\"pictures/a.png\"]}",
                        "has 2 pictures but 1 places for them: 1 <start_of_image> among its words;"),
                Arguments.of(
                        "{" + String.format(user, "\"<start_of_image> or <start_of_image>\"")
                                + ",\"images\":[\"pictures/a.png\"]}",
                        "has 1 pictures but 2 places for them"),
                Arguments.of(
                        "{"
                                + String.format(
                                        user,
                                        "[{\"type\":\"image\",\"index\":0},{\"type\":\"text\",\"text\":\"<start_of_image>\"}]")
                                + ",\"images\":[\"pictures/a.png\"]}",
                        "2 places for them: 1 <start_of_image> among its words and 1 image parts"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":\"pictures/a.png\"}", "images is"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[\"gone.png\"]}", "no such picture"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[\"\"]}", "no such picture"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[\"pictures\"]}", "is not a file"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[\"a\\u0000b\"]}", "not a path"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[\"http://127.0.0.1/x.png\"]}", "URL"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[\"file:///etc/passwd\"]}", "URL"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[\"/dev/zero\"]}", "is not a file"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[null]}", "images[0] is null"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[{}]}", "neither bytes nor a path"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[{\"bytes\":\"!!\"}]}", "not base64"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[\"data:image/png,xx\"]}", "not base64"),
                Arguments.of(
                        "{" + String.format(user, "\"x\"") + ",\"images\":[[{\"a\":[\"b\",null]}]]}",
                        "images[0] is [{a: [\"b\", null]}], expected a picture"),
                Arguments.of("{" + String.format(user, "\"x\"") + ",\"images\":[7]}", "expected a picture"));
    }

    @ParameterizedTest
    @MethodSource("wrong")
    void namesFileAndLineOfAMistake(String line, String why) throws IOException {
        Path file = write(CHAT + "\n\n" + line + "\n" + CHAT);
        try (Dataset data = open(file)) {
            assertEquals(3, data.size());
            data.get(0);
            data.get(2);
            FormatException e = assertThrows(FormatException.class, () -> data.get(1));
            assertTrue(
                    e.getMessage().startsWith(file + ":3: ") || e.getMessage().startsWith(file + ":3:1"),
                    e.getMessage());
            assertTrue(e.getMessage().contains(why), e.getMessage());
            assertFalse(e.getMessage().contains("\n"), e.getMessage());
            assertEquals(
                    e.getMessage(),
                    assertThrows(FormatException.class, () -> data.forEach(each -> {}))
                            .getMessage());
        }
    }

    @Test
    void refusesWhatIsNotUtf8() throws IOException {
        Path file = dir.resolve("train.jsonl");
        Files.write(file, (CHAT + "\n" + CHAT.replace("q", "é")).getBytes(StandardCharsets.ISO_8859_1));
        try (Dataset data = open(file)) {
            data.get(0);
            assertTrue(assertThrows(FormatException.class, () -> data.get(1))
                    .getMessage()
                    .contains("not UTF-8"));
        }
        Files.write(file, CHAT.getBytes(StandardCharsets.UTF_16));
        try (Dataset data = open(file)) {
            assertTrue(assertThrows(FormatException.class, () -> data.forEach(each -> {}))
                    .getMessage()
                    .contains("train.jsonl:1"));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "\n\n", "\uFEFF", " \r\n\t\n"})
    void refusesAnEmptyFile(String text) throws IOException {
        Path file = write(text);
        assertEquals(
                file + " has no rows",
                assertThrows(FormatException.class, () -> open(file)).getMessage());
    }

    @Test
    void noticesThatTheFileBecameShorter() throws IOException {
        Path file = write(CHAT + "\n" + CHAT + "\n");
        try (Dataset data = open(file)) {
            Files.writeString(file, CHAT);
            assertTrue(assertThrows(FormatException.class, () -> data.get(1))
                    .getMessage()
                    .contains("became shorter"));
        }
    }

    private Path write(String text) throws IOException {
        return Files.writeString(dir.resolve("train.jsonl"), text.replace("\\ud800", "\\ud800"));
    }

    private static Dataset open(Path file) {
        return Datasets.open(file.toString(), "train");
    }
}
