package lapidary.gemma3;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import lapidary.image.ImageSource;

/** What bench/reference/make_text_golden.py wrote, and the small model folder it read. */
public final class TextGolden {
    /** Tokenizer and processor files of a multimodal checkpoint, 16 soft tokens an image. */
    public static final Path MODEL = Path.of("src/test/resources/lapidary/gemma3/tiny");

    private static final JsonNode GOLDEN = read();

    private TextGolden() {}

    /** A conversation and what the reference makes of it; {@code types} is empty for a text-only model. */
    public record Row(
            String name, List<Message> messages, int images, String text, int[] ids, int[] types, int[] labels) {
        @Override
        public String toString() {
            return name;
        }
    }

    public static List<Row> rows(String key) {
        List<Row> rows = new ArrayList<>();
        for (JsonNode row : GOLDEN.get(key)) {
            rows.add(new Row(
                    key + "[" + rows.size() + "]",
                    messages(row.get("messages")),
                    row.path("images").asInt(),
                    row.get("text").textValue(),
                    ints(row.path("ids")),
                    ints(row.path("types")),
                    ints(row.path("labels"))));
        }
        return rows;
    }

    /** Conversations that the reference refuses, but those whose content has no Java form. */
    public static List<List<Message>> refused() {
        List<List<Message>> all = new ArrayList<>();
        for (JsonNode row : GOLDEN.get("errors")) {
            if (!row.get("says").textValue().equals("Invalid content type")) {
                all.add(messages(row.get("messages")));
            }
        }
        return all;
    }

    /** So many images; each may be read by whoever wants to fail. */
    public static List<ImageSource> images(int n) {
        return IntStream.range(0, n)
                .mapToObj(i -> ImageSource.of("image " + i, new byte[0]))
                .toList();
    }

    /** Copies the model folder, for a test to change. */
    public static Path copyTo(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(MODEL)) {
            for (Path file : files.toList()) {
                Files.copy(file, folder.resolve(file.getFileName()));
            }
        }
        return folder;
    }

    /** The same folder as a text-only model has it. */
    public static Path copyTextOnlyTo(Path folder) throws IOException {
        copyTo(folder);
        Files.delete(folder.resolve("processor_config.json"));
        Files.delete(folder.resolve("preprocessor_config.json"));
        Files.writeString(folder.resolve("config.json"), "{\"model_type\": \"gemma3_text\"}");
        return folder;
    }

    private static List<Message> messages(JsonNode list) {
        List<Message> messages = new ArrayList<>();
        for (JsonNode message : list) {
            List<Content> parts = new ArrayList<>();
            JsonNode content = message.get("content");
            if (content.isTextual()) {
                parts.add(new Content.Text(content.textValue()));
            } else {
                for (JsonNode part : content) {
                    parts.add(
                            part.get("type").textValue().equals("image")
                                    ? new Content.Image(ImageSource.of("image", new byte[0]))
                                    : new Content.Text(part.get("text").textValue()));
                }
            }
            messages.add(new Message(message.get("role").textValue(), parts));
        }
        return messages;
    }

    private static int[] ints(JsonNode list) {
        int[] ints = new int[list.size()];
        for (int i = 0; i < ints.length; i++) {
            ints[i] = list.get(i).intValue();
        }
        return ints;
    }

    private static JsonNode read() {
        try {
            return new ObjectMapper()
                    .readTree(Path.of("src/test/resources/lapidary/gemma3/text_golden.json")
                            .toFile());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
