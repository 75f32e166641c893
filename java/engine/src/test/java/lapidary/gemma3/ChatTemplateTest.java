package lapidary.gemma3;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import lapidary.format.FormatException;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The template against Jinja's rendering of it, and the refusal of any other. */
class ChatTemplateTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String OTHER = "{% for m in messages %}{{ m['content'] }}{% endfor %}";

    @TempDir
    Path folder;

    private final ChatTemplate template = new ChatTemplate("<bos>");
    private String known;

    @BeforeEach
    void copy() throws IOException {
        TextGolden.copyTo(folder);
        known = JSON.readTree(folder.resolve("chat_template.json").toFile())
                .get("chat_template")
                .textValue();
    }

    static List<TextGolden.Row> rows() {
        return TextGolden.rows("rows");
    }

    static List<TextGolden.Row> generation() {
        return TextGolden.rows("generation");
    }

    static List<List<Message>> refused() {
        return TextGolden.refused();
    }

    @ParameterizedTest
    @MethodSource("rows")
    void sameText(TextGolden.Row row) {
        Rendered rendered = template.render(row.messages(), false);
        assertEquals(row.text(), rendered.text());
        for (Rendered.Span span : rendered.texts()) {
            String words = rendered.text().substring(span.from(), span.to());
            assertTrue(row.messages().get(span.message()).content().stream()
                    .anyMatch(part ->
                            part instanceof Content.Text text && text.text().contains(words)));
        }
        for (Rendered.Span span : rendered.turns()) {
            assertTrue(rendered.text().startsWith("<end_of_turn>\n", span.to()));
            String role = row.messages().get(span.message()).role();
            String header = "<start_of_turn>" + (role.equals("assistant") ? "model" : role) + "\n";
            assertTrue(rendered.text().substring(0, span.from()).endsWith(header));
        }
    }

    @ParameterizedTest
    @MethodSource("generation")
    void sameTextWithGenerationPrompt(TextGolden.Row row) {
        assertEquals(row.text(), template.render(row.messages(), true).text());
    }

    @ParameterizedTest
    @MethodSource("refused")
    void refusesWhatTheReferenceRefuses(List<Message> messages) {
        assertThrows(IllegalArgumentException.class, () -> template.render(messages, false));
    }

    @Test
    void errorsNameTheMessage() {
        List<Message> twice = List.of(Message.of("user", "a"), Message.of("user", "b"));
        String message = assertThrows(IllegalArgumentException.class, () -> template.render(twice, false))
                .getMessage();
        assertTrue(message.contains("Conversation roles must alternate user/assistant/user/assistant/..."), message);
        assertTrue(message.contains("messages[1]"), message);
        assertTrue(message.contains("\"user\""), message);
    }

    @Test
    void folderWithoutTemplateGetsTheKnownOne() throws IOException {
        Files.delete(folder.resolve("chat_template.json"));
        setTemplate("tokenizer_config.json", null);
        assertEquals("<bos>", Gemma3Processor.load(folder).template().bosToken());
    }

    @Test
    void knownTemplateInAnyForm() throws IOException {
        Files.writeString(folder.resolve("chat_template.jinja"), known.replace("\n", "\r\n") + "\n\n");
        setTemplate("processor_config.json", known.stripTrailing());
        setTemplate(
                "tokenizer_config.json",
                List.of(Map.of("name", "default", "template", known), Map.of("name", "tool_use", "template", OTHER)));
        Gemma3Processor.load(folder);
    }

    @ParameterizedTest
    @ValueSource(strings = {"chat_template.json", "tokenizer_config.json", "processor_config.json"})
    void otherTemplateIsRefusedByName(String file) throws IOException {
        setTemplate(file, known.replace("model", "assistant"));
        refused(file);
        setTemplate(file, OTHER);
        refused(file);
        setTemplate(file, List.of(Map.of("name", "default", "template", OTHER)));
        refused(file);
        setTemplate(file, 5);
        refused(file);
    }

    @Test
    void otherJinjaFileIsRefusedByName() throws IOException {
        Files.writeString(folder.resolve("chat_template.jinja"), OTHER);
        refused("chat_template.jinja");
    }

    private void refused(String file) {
        String message = assertThrows(FormatException.class, () -> Gemma3Processor.load(folder))
                .getMessage();
        assertTrue(message.contains(folder.resolve(file).toString()), message);
        assertTrue(message.contains("template"), message);
    }

    private void setTemplate(String name, Object template) throws IOException {
        Path file = folder.resolve(name);
        ObjectNode root = (ObjectNode) JSON.readTree(file.toFile());
        root.set("chat_template", JSON.valueToTree(template));
        JSON.writeValue(file.toFile(), root);
    }
}
