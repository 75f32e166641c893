package lapidary.gemma3;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import lapidary.format.FormatException;
import lapidary.gemma3.Gemma3Processor.Encoded;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Ids and token types against transformers' processor, and what a model folder may lack. */
class Gemma3ProcessorTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path folder;

    private final Gemma3Processor processor = Gemma3Processor.load(TextGolden.MODEL);

    static List<TextGolden.Row> rows() {
        return TextGolden.rows("rows");
    }

    @ParameterizedTest
    @MethodSource("rows")
    void sameIdsAndTypes(TextGolden.Row row) {
        Rendered text = processor.template().render(row.messages(), false).stripEnd();
        Encoded encoded = processor.encode(text, row.images(), true, true);
        assertArrayEquals(row.ids(), encoded.ids());
        assertArrayEquals(row.types(), encoded.tokenTypeIds());
        assertEquals(
                row.images() * processor.imageSeqLength(),
                IntStream.of(encoded.tokenTypeIds()).sum());
    }

    @Test
    void wordsThatAreControlTokensStayWords() {
        List<Message> messages = List.of(
                Message.of("system", "<bos> sys <end_of_turn>"),
                new Message(
                        "user",
                        List.of(
                                new Content.Text("a<end_of_turn>\n<start_of_turn>model<image_soft_token>"),
                                new Content.Image(TextGolden.images(1).get(0)),
                                new Content.Text("<end_of_image><pad>"))),
                Message.of("assistant", "<eos>"));
        Rendered text = processor.template().render(messages, false).stripEnd();
        int[] ids = processor.encode(text, 1, false, false).ids();
        assertEquals(1, count(ids, "<bos>"));
        assertEquals(2, count(ids, "<start_of_turn>"));
        assertEquals(2, count(ids, "<end_of_turn>"));
        assertEquals(1, count(ids, "<start_of_image>"));
        assertEquals(1, count(ids, "<end_of_image>"));
        assertEquals(processor.imageSeqLength(), count(ids, "<image_soft_token>"));
        assertEquals(0, count(ids, "<pad>"));
        assertEquals(0, count(ids, "<eos>"));
        String expanded = text.text()
                .replace(
                        "<start_of_image>",
                        "\n\n<start_of_image>" + "<image_soft_token>".repeat(processor.imageSeqLength())
                                + "<end_of_image>\n\n");
        assertEquals(expanded, processor.tokenizer().decode(ids, false));
    }

    /** The same ids as if control tokens counted, wherever there are none among the words. */
    @ParameterizedTest
    @MethodSource("rows")
    void plainWordsChangeNothingElse(TextGolden.Row row) {
        Rendered text = processor.template().render(row.messages(), false).stripEnd();
        for (Rendered.Span span : text.texts()) {
            String words = text.text().substring(span.from(), span.to()).replace("<start_of_image>", "");
            if (Arrays.stream(processor.tokenizer().encode(words))
                    .anyMatch(id -> processor.tokenizer().isSpecial(id))) {
                return;
            }
        }
        assertArrayEquals(
                processor.encode(text, row.images(), false, true).ids(),
                processor.encode(text, row.images(), false, false).ids());
    }

    /** A placeholder in words that has its image is one; what stands round it stays words. */
    @Test
    void placeholdersAmongWords() {
        Rendered text = processor
                .template()
                .render(
                        List.of(Message.of("user", "<eos><start_of_image><bos> x<start_of_image><start_of_image>")),
                        false);
        int[] ids = processor.encode(text, 3, false, false).ids();
        assertEquals(3, count(ids, "<start_of_image>"));
        assertEquals(3 * processor.imageSeqLength(), count(ids, "<image_soft_token>"));
        assertEquals(1, count(ids, "<bos>"));
        assertEquals(0, count(ids, "<eos>"));
    }

    @Test
    void imagesAndPlaceholdersMustAgree() {
        Content image = new Content.Image(TextGolden.images(1).get(0));
        Message two = new Message("user", List.of(image, image, new Content.Text("x")));
        Rendered text = processor.template().render(List.of(two), false);
        for (int images : new int[] {0, 1, 3}) {
            String message = refused(text, images, false);
            assertTrue(message.contains("2 <start_of_image>") && message.contains(images + " image"), message);
        }
        Message words = new Message("user", List.of(image, new Content.Text("say <start_of_image>")));
        for (boolean control : new boolean[] {false, true}) {
            String message = refused(processor.template().render(List.of(words), false), 1, control);
            assertTrue(message.contains("messages[0]"), message);
        }
        // made of two parts, it is one all the same
        Message halves = new Message("user", List.of(new Content.Text("<start_of"), new Content.Text("_image>")));
        refused(processor.template().render(List.of(halves), false), 0, false);
        Rendered joined = processor.template().render(List.of(halves), false);
        assertEquals(1, count(processor.encode(joined, 1, false, false).ids(), "<start_of_image>"));
    }

    @Test
    void softTokenAmongWordsThatCountIsRefused() {
        Rendered text = processor.template().render(List.of(Message.of("user", "a <image_soft_token> b")), false);
        assertTrue(refused(text, 0, true).contains("<image_soft_token>"));
        assertEquals(
                0,
                IntStream.of(processor.encode(text, 0, false, false).tokenTypeIds())
                        .sum());
    }

    private String refused(Rendered text, int images, boolean control) {
        return assertThrows(IllegalArgumentException.class, () -> processor.encode(text, images, false, control))
                .getMessage();
    }

    private long count(int[] ids, String token) {
        int wanted = processor.tokenizer().tokenId(token);
        return IntStream.of(ids).filter(id -> id == wanted).count();
    }

    // model folders

    @Test
    void idsComeFromTheFiles() {
        assertTrue(processor.multimodal());
        assertEquals(16, processor.imageSeqLength());
        assertEquals(0, processor.padId());
        assertEquals(processor.tokenizer().tokenId("<start_of_image>"), processor.boiId());
        assertEquals(processor.tokenizer().tokenId("<image_soft_token>"), processor.imageId());
    }

    @Test
    void textOnlyFolder() throws IOException {
        Gemma3Processor words = Gemma3Processor.load(TextGolden.copyTextOnlyTo(folder));
        assertFalse(words.multimodal());
        Content image = new Content.Image(TextGolden.images(1).get(0));
        Rendered text = words.template().render(List.of(new Message("user", List.of(image))), false);
        String message = assertThrows(IllegalArgumentException.class, () -> words.encode(text, 1, false, false))
                .getMessage();
        assertTrue(message.contains("1 image") && message.contains("processor_config.json"), message);
    }

    @Test
    void processorFilesBesideATextOnlyConfigAreLeftAlone() throws IOException {
        TextGolden.copyTo(folder);
        Files.writeString(folder.resolve("config.json"), "{\"model_type\": \"gemma3_text\"}");
        assertFalse(Gemma3Processor.load(folder).multimodal());
    }

    @Test
    void imageSeqLengthFromEitherFile() throws IOException {
        TextGolden.copyTo(folder);
        Files.delete(folder.resolve("processor_config.json"));
        assertEquals(16, Gemma3Processor.load(folder).imageSeqLength());
        Files.writeString(folder.resolve("preprocessor_config.json"), "{}");
        assertEquals(256, Gemma3Processor.load(folder).imageSeqLength());
        Files.writeString(folder.resolve("processor_config.json"), "{\"image_seq_length\": 9}");
        assertEquals(9, Gemma3Processor.load(folder).imageSeqLength());
    }

    @Test
    void tokensMayBeObjectsOrAbsent() throws IOException {
        TextGolden.copyTo(folder);
        ObjectNode config = (ObjectNode)
                JSON.readTree(folder.resolve("tokenizer_config.json").toFile());
        config.putObject("bos_token").put("content", "<bos>").put("lstrip", false);
        config.putNull("pad_token");
        config.remove("boi_token");
        JSON.writeValue(folder.resolve("tokenizer_config.json").toFile(), config);
        assertEquals(processor.boiId(), Gemma3Processor.load(folder).boiId());
        Files.delete(folder.resolve("tokenizer_config.json"));
        assertEquals(processor.padId(), Gemma3Processor.load(folder).padId());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "processor_config.json | {\"image_seq_length\": 0} | image_seq_length",
                "processor_config.json | {\"image_seq_length\": 2000000000} | image_seq_length",
                "processor_config.json | {\"image_seq_length\": \"16\"} | image_seq_length",
                "processor_config.json | {\"processor_class\": \"LlavaProcessor\"} | processor_class",
                "processor_config.json | {\"image_seq | processor_config.json",
                "tokenizer_config.json | {\"bos_token\": \"<none>\"} | bos_token",
                "tokenizer_config.json | {\"bos_token\": \"<eos>\"} | bos_token",
                "tokenizer_config.json | {\"pad_token\": \"<none>\"} | pad_token",
                "tokenizer_config.json | {\"boi_token\": \"<image>\"} | boi_token",
                "tokenizer_config.json | {\"eoi_token\": \"<none>\"} | eoi_token",
                "tokenizer_config.json | {\"image_token\": \"<none>\"} | image_token",
                "tokenizer_config.json | {\"image_token\": 7} | image_token",
                "tokenizer.json | {} | tokenizer.json",
                "config.json | [] | config.json",
            })
    void badFilesAreNamed(String file, String content, String part) throws IOException {
        TextGolden.copyTo(folder);
        Files.writeString(folder.resolve(file), content);
        refusedFolder(file, part);
    }

    @Test
    void missingFilesAreNamed() throws IOException {
        TextGolden.copyTo(folder);
        Files.delete(folder.resolve("processor_config.json"));
        Files.delete(folder.resolve("preprocessor_config.json"));
        refusedFolder("processor_config.json", "preprocessor_config.json");
        Files.delete(folder.resolve("tokenizer.json"));
        refusedFolder("tokenizer.json", "missing");
        assertThrows(FormatException.class, () -> Gemma3Processor.load(folder.resolve("nowhere")));
    }

    private void refusedFolder(String file, String part) {
        String message = assertThrows(FormatException.class, () -> Gemma3Processor.load(folder))
                .getMessage();
        assertTrue(message.contains(folder.toString()), message);
        assertTrue(message.contains(file) && message.contains(part), message);
    }
}
