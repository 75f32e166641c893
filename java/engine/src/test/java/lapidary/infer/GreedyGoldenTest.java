package lapidary.infer;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import lapidary.DeviceTest;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Json;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.image.ImageSource;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Greedy answers of 64 tokens in float32, token for token those of Transformers and PEFT. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class GreedyGoldenTest extends DeviceTest {
    private static final List<Json> CASES =
            Json.read(DemoModel.GOLDEN.resolve("greedy.json")).elements();

    @TempDir
    private Path folder;

    GreedyGoldenTest(Device device) {
        super(device);
    }

    private static List<Message> messages(JsonNode array) {
        List<Message> messages = new ArrayList<>();
        for (JsonNode message : array) {
            List<Content> parts = new ArrayList<>();
            for (JsonNode part : message.path("content")) {
                parts.add(
                        part.has("image")
                                ? new Content.Image(ImageSource.of(
                                        DemoModel.picture(part.path("image").intValue())))
                                : new Content.Text(part.path("text").textValue()));
            }
            messages.add(new Message(message.path("role").textValue(), parts));
        }
        return messages;
    }

    /** With a batch of one each prompt is alone; with more, all are decoded together. */
    @ParameterizedTest
    @CsvSource({"false,1", "false,6", "true,1", "true,6"})
    void equalsTransformers(boolean nf4, int batchSize) {
        LoadOptions options = LoadOptions.DEFAULT.withDtype(DType.F32).withBatchSize(batchSize);
        int asked = 0;
        try (LanguageModel model =
                LanguageModel.load(DemoModel.endless(folder), nf4 ? options.withNf4() : options, device)) {
            model.attach("trained", DemoModel.ADAPTER);
            List<Generation> generations = new ArrayList<>();
            List<Json> cases = CASES.stream().filter(c -> c.bool("nf4") == nf4).toList();
            for (Json c : cases) {
                GenerationOptions greedy = GenerationOptions.GREEDY
                        .withMaxNewTokens(64)
                        .withAdapter(c.bool("adapter") ? "trained" : LanguageModel.BASE);
                generations.add(model.generate(messages(c.node().path("messages")), greedy));
            }
            for (Json c : cases) {
                Answer answer = generations.get(asked++).answer();
                String what = c.string("name") + (c.bool("adapter") ? " with the adapter" : "");
                List<Integer> expected = new ArrayList<>();
                c.get("ids").elements().forEach(id -> expected.add((int) id.integer()));
                assertEquals(expected, answer.tokenIds(), what);
                assertEquals(c.integer("prompt"), answer.usage().promptTokens(), what);
                assertEquals(FinishReason.LENGTH, answer.finishReason(), what);
            }
        }
        assertEquals(12, asked);
    }
}
