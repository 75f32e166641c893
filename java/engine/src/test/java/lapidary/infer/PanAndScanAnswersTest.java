package lapidary.infer;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
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
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Greedy answers about long pictures in float32, token for token those of Transformers and PEFT with a processor that is called
 * with {@code do_pan_and_scan=True} and one that is not; which it is follows the adapter. See
 * bench/reference/pan_and_scan_golden.py.
 */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class PanAndScanAnswersTest extends DeviceTest {
    private static final String FILE = "preprocessor_config.json";
    private static final LoadOptions LOAD = LoadOptions.DEFAULT.withDtype(DType.F32);
    private static final List<Json> CASES =
            Json.read(DemoModel.GOLDEN.resolve("pan_and_scan.json")).elements();

    @TempDir
    private Path scratch;

    private Path base;

    PanAndScanAnswersTest(Device device) {
        super(device);
    }

    @BeforeEach
    void copyBase() {
        base = DemoModel.endless(scratch.resolve("base"));
    }

    /** The adapter with an image processor's file beside it. */
    private Path adapter(String name, String doPanAndScan) throws IOException {
        Path folder = scratch.resolve(name);
        DemoModel.copy(DemoModel.ADAPTER, folder);
        Files.copy(base.resolve(FILE), folder.resolve(FILE));
        say(folder, doPanAndScan);
        return folder;
    }

    private static void say(Path folder, String doPanAndScan) {
        DemoModel.edit(folder.resolve(FILE), "\"do_pan_and_scan\": null", "\"do_pan_and_scan\": " + doPanAndScan);
    }

    private static void assertAnswers(LanguageModel model, String adapter, boolean cut) {
        boolean trained = !adapter.equals(LanguageModel.BASE);
        model.use(adapter);
        int asked = 0;
        for (Json c : CASES) {
            if (c.bool("adapter") != trained || c.bool("pan_and_scan") != cut) {
                continue;
            }
            List<Message> messages = messages(c.get("messages").node());
            Answer answer = model.generate(messages, GenerationOptions.GREEDY.withMaxNewTokens(32))
                    .answer();
            List<Integer> expected = new ArrayList<>();
            c.get("ids").elements().forEach(id -> expected.add((int) id.integer()));
            String what = c.string("name") + ", adapter \"" + adapter + "\"";
            assertEquals(c.integer("prompt"), answer.usage().promptTokens(), what);
            assertEquals(c.integer("prompt"), model.countTokens(messages), what);
            assertEquals(expected, answer.tokenIds(), what);
            asked++;
        }
        assertEquals(2, asked);
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

    @Test
    void eachAdapterIsAskedAsItWasTrained() throws IOException {
        try (LanguageModel model = LanguageModel.load(base, LOAD, device)) {
            model.attach("whole", adapter("a", "false"));
            model.attach("cut", adapter("b", "true"));
            model.attach("silent", DemoModel.ADAPTER);
            assertAnswers(model, LanguageModel.BASE, false);
            assertAnswers(model, "cut", true);
            assertAnswers(model, "whole", false);
            assertAnswers(model, "silent", false);
            assertAnswers(model, "cut", true);
            model.attach("whole", scratch.resolve("b")); // swapped
            assertAnswers(model, "whole", true);
        }
    }

    /** An adapter without a file of its own is asked as the model says. */
    @Test
    void theModelsFileCountsWhereTheAdapterHasNone() throws IOException {
        say(base, "true");
        try (LanguageModel model = LanguageModel.load(base, LOAD, device)) {
            model.attach("silent", DemoModel.ADAPTER);
            assertAnswers(model, LanguageModel.BASE, true);
            assertAnswers(model, "silent", true);
        }
    }

    @Test
    void theOptionCountsBeforeFiles() throws IOException {
        try (LanguageModel model = LanguageModel.load(base, LOAD.withPanAndScan(true), device)) {
            model.attach("whole", adapter("a", "false"));
            assertAnswers(model, LanguageModel.BASE, true);
            assertAnswers(model, "whole", true);
        }
        try (LanguageModel model = LanguageModel.load(base, LOAD.withPanAndScan(false), device)) {
            model.attach("cut", adapter("b", "true"));
            assertAnswers(model, "cut", false);
        }
    }

    /** The prompt of a loss is shown as the prompt of an answer is: its picture's parts are not the answer's tokens. */
    @Test
    void aLossCountsTheAnswersTokensAlone() throws IOException {
        Json c = CASES.get(0);
        List<Message> messages = new ArrayList<>(messages(c.get("messages").node()));
        messages.add(Message.of("assistant", "Four."));
        try (LanguageModel model = LanguageModel.load(base, LOAD, device)) {
            model.attach("cut", adapter("b", "true"));
            TokenLoss whole = model.loss(messages);
            model.use("cut");
            TokenLoss cut = model.loss(messages);
            assertEquals(whole.tokens(), cut.tokens());
        }
    }
}
