package lapidary.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import lapidary.data.LengthLimit.Overlong;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import lapidary.gemma3.Gemma3Processor;
import lapidary.gemma3.Message;
import lapidary.gemma3.TextGolden;
import lapidary.image.ImageSource;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Targets against TRL's masks, and lengths. Golden file: bench/reference/loss_golden.py. */
class LossOnTest {
    private static final ImageSource IMAGE = ImageSource.of("i", new byte[] {1});

    private final Gemma3Processor processor = Gemma3Processor.load(TextGolden.MODEL);

    static List<JsonNode> golden(String key) {
        try {
            List<JsonNode> rows = new ArrayList<>();
            new ObjectMapper()
                    .readTree(Files.readAllBytes(Path.of("src/test/resources/lapidary/data/loss_golden.json")))
                    .get(key)
                    .forEach(rows::add);
            return rows;
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    static List<JsonNode> assistant() {
        return golden("assistant");
    }

    static List<JsonNode> completion() {
        return golden("completion");
    }

    static List<JsonNode> texts() {
        return golden("texts");
    }

    private static Conversation conversation(JsonNode row, int prompt) {
        List<Message> messages = new ArrayList<>();
        row.get("messages")
                .forEach(m -> messages.add(
                        Message.of(m.get("role").textValue(), m.get("content").textValue())));
        return new Conversation("row 1", messages, List.of(), List.of(), prompt);
    }

    private static int[] ints(JsonNode list) {
        return IntStream.range(0, list.size()).map(i -> list.get(i).intValue()).toArray();
    }

    private Sample collate(Conversation conversation, LossOn lossOn, Profile profile) {
        return new Collator(processor, profile, lossOn).collate(conversation);
    }

    /** TRL's template ends with a newline, which the guide's collator strips and so do we. */
    @ParameterizedTest
    @MethodSource("assistant")
    void assistantOnlyIsTrlsMask(JsonNode row) {
        Sample sample = collate(conversation(row, 0), LossOn.ASSISTANT, Profile.DEFAULT);
        int[] ids = ints(row.get("ids"));
        int[] mask = ints(row.get("mask"));
        assertArrayEquals(Arrays.copyOf(ids, ids.length - 1), sample.inputIds());
        for (int t = 0; t < ids.length - 1; t++) {
            assertEquals(mask[t] == 1 ? ids[t] : Sample.MASKED, sample.labels()[t], "token " + t);
        }
        Sample doubled = collate(conversation(row, 0), LossOn.ASSISTANT, Profile.TRL);
        assertArrayEquals(sample.labels(), Arrays.copyOfRange(doubled.labels(), 1, doubled.labels().length));
    }

    @ParameterizedTest
    @MethodSource("completion")
    void completionOnlyIsWhatFollowsThePrompt(JsonNode row) {
        int[] ids = ints(row.get("ids"));
        int prompt = row.get("prompt_ids").size();
        Conversation parted = conversation(row, row.get("prompt").intValue());
        for (LossOn lossOn : List.of(LossOn.DEFAULT, LossOn.COMPLETION, LossOn.ASSISTANT)) {
            Sample sample = collate(parted, lossOn, Profile.DEFAULT);
            for (int t = 0; t < ids.length - 1; t++) {
                assertEquals(t < prompt ? Sample.MASKED : ids[t], sample.labels()[t], lossOn + " token " + t);
            }
        }
        assertArrayEquals(
                collate(conversation(row, 0), LossOn.DEFAULT, Profile.DEFAULT).labels(),
                collate(parted, LossOn.ALL, Profile.DEFAULT).labels());
    }

    /** The guide's collator has no such rows; TRL makes their tokens itself. */
    @ParameterizedTest
    @MethodSource("completion")
    void promptAndCompletionAreTrlsTokensUnderItsProfile(JsonNode row) {
        int[] ids = ints(row.get("ids"));
        Sample sample = collate(conversation(row, row.get("prompt").intValue()), LossOn.DEFAULT, Profile.TRL);
        assertArrayEquals(ids, sample.inputIds());
        assertMasked(sample, row.get("prompt_ids").size());
    }

    @ParameterizedTest
    @MethodSource("texts")
    void promptAndCompletionThatAreTextsHaveNoTemplateUnderTrlsProfile(JsonNode row) {
        Conversation texts = new Conversation(
                "row 1",
                List.of(
                        Message.of("user", row.get("prompt").textValue()),
                        Message.of("assistant", row.get("completion").textValue())),
                List.of(),
                List.of(),
                1,
                true);
        Sample sample = collate(texts, LossOn.DEFAULT, Profile.TRL);
        assertArrayEquals(ints(row.get("ids")), sample.inputIds());
        assertMasked(sample, row.get("prompt_ids").size());
        assertArrayEquals(
                sample.inputIds(), collate(texts, LossOn.ALL, Profile.TRL).labels());
        assertTrue(assertThrows(FormatException.class, () -> collate(texts, LossOn.ASSISTANT, Profile.TRL))
                .getMessage()
                .contains("lists of messages"));
    }

    private static void assertMasked(Sample sample, int prompt) {
        for (int t = 0; t < sample.labels().length; t++) {
            assertEquals(t < prompt ? Sample.MASKED : sample.inputIds()[t], sample.labels()[t], "token " + t);
        }
    }

    @Test
    void imagesMoveTheSpansAndAreNoTargets() {
        Conversation row = new Conversation(
                "row 1",
                List.of(
                        new Message("user", List.of(new Content.Image(IMAGE), new Content.Text("q"))),
                        Message.of("assistant", "one"),
                        new Message("user", List.of(new Content.Text("r"), new Content.Image(IMAGE))),
                        new Message("assistant", List.of(new Content.Image(IMAGE), new Content.Text("two")))));
        Sample sample = collate(row, LossOn.ASSISTANT, Profile.DEFAULT);
        StringBuilder trained = new StringBuilder();
        for (SampleText.Run run : SampleText.of(sample, processor.tokenizer()).runs()) {
            trained.append(run.kind() == SampleText.Kind.TRAINED ? run.text() + "|" : "");
        }
        // the newlines before a picture belong to the template's last one: they are one token with it
        assertEquals("one<end_of_turn>\n|<end_of_image>\n\ntwo<end_of_turn>|", trained.toString());
    }

    @Test
    void panAndScanShowsAnImageInParts() {
        Conversation row = new Conversation(
                "row 1",
                List.of(
                        new Message("user", List.of(new Content.Image(IMAGE), new Content.Image(IMAGE))),
                        Message.of("assistant", "one <end_of_turn>")));
        Sample sample = new Collator(processor, Profile.DEFAULT, LossOn.ASSISTANT).collate(row, new int[] {2, 0});
        assertEquals(
                4 * processor.imageSeqLength(),
                Arrays.stream(sample.tokenTypeIds()).sum());
        String text = processor.tokenizer().decode(sample.inputIds(), false).replace("<image_soft_token>", "");
        String view = "\n\n<start_of_image><end_of_image>\n\n";
        assertEquals(
                "<bos><start_of_turn>user\nHere is the original image " + view
                        + " and here are some crops to help you see better " + view + " " + view + view
                        + "<end_of_turn>\n<start_of_turn>model\none <end_of_turn><end_of_turn>",
                text);
        assertEquals("one <end_of_turn><end_of_turn>", trained(sample));
        assertEquals(
                1,
                IntStream.of(sample.labels())
                        .filter(id -> id == processor.tokenizer().tokenId("<end_of_turn>"))
                        .count());
    }

    private String trained(Sample sample) {
        int[] ids =
                IntStream.of(sample.labels()).filter(id -> id != Sample.MASKED).toArray();
        return processor.tokenizer().decode(ids, false);
    }

    @Test
    void whatCannotBeTrainedOnIsRefused() {
        refused(
                LossOn.COMPLETION,
                List.of(Message.of("user", "a"), Message.of("assistant", "b")),
                "prompt and completion");
        refused(LossOn.ASSISTANT, List.of(Message.of("user", "a")), "give it an answer");
    }

    private void refused(LossOn lossOn, List<Message> messages, String why) {
        String message = assertThrows(
                        FormatException.class,
                        () -> collate(new Conversation("row 1", messages), lossOn, Profile.DEFAULT))
                .getMessage();
        assertTrue(message.startsWith("row 1: "), message);
        assertTrue(message.contains(why), message);
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "plain words", " two  spaces\n\n\n", "é 你好 😀\ud800 \u0001<0x41>", "<start_of_turn>x"})
    void tokensBeginWhereTheyStandInTheText(String text) {
        int[] ids = processor.tokenizer().encode(text);
        int[] starts = processor.tokenizer().starts(text, ids);
        for (int t = 0; t < ids.length; t++) {
            int end = t + 1 < ids.length ? starts[t + 1] : text.length();
            assertTrue(starts[t] <= end);
            String piece = processor.tokenizer().token(ids[t]).replace('\u2581', ' ');
            assertTrue(piece.startsWith("<0x") || piece.equals(text.substring(starts[t], end)), piece);
        }
        assertThrows(IllegalArgumentException.class, () -> processor.tokenizer().starts(text + "q", ids));
        assertThrows(IllegalArgumentException.class, () -> processor.tokenizer().starts("", new int[] {5}));
    }

    private Sample sample(Content... user) {
        List<Message> messages = List.of(new Message("user", List.of(user)), Message.of("assistant", "yes"));
        return collate(new Conversation("row 7", messages), LossOn.DEFAULT, Profile.DEFAULT);
    }

    @Test
    void lengthsKeepSamplesWhole() {
        Sample words = sample(new Content.Text("many words and words and more words"));
        int n = words.inputIds().length;
        for (Overlong policy : Overlong.values()) {
            assertEquals(words, new LengthLimit(n, policy, 100).fit(words).sample());
            assertEquals(words, new LengthLimit(0, policy, n).fit(words).sample());
        }
        LengthLimit.Fitted dropped = new LengthLimit(n - 1, Overlong.DROP, 100).fit(words);
        assertTrue(dropped.isDropped());
        assertEquals(n, dropped.tokens());
        LengthLimit.Fitted cut = new LengthLimit(n - 2, Overlong.TRUNCATE_TEXT, 100).fit(words);
        assertEquals(n, cut.tokens());
        assertArrayEquals(Arrays.copyOf(words.inputIds(), n - 2), cut.sample().inputIds());
        assertArrayEquals(Arrays.copyOf(words.labels(), n - 2), cut.sample().labels());
        assertArrayEquals(
                Arrays.copyOf(words.tokenTypeIds(), n - 2), cut.sample().tokenTypeIds());
        assertTooLong(
                new LengthLimit(n - 1, Overlong.ERROR, 100), words, "has " + n + " tokens, more than --max_length");
        assertTooLong(new LengthLimit(0, Overlong.ERROR, n - 1), words, "the model's max_position_embeddings");
        for (int wrong : new int[] {1, -1, 101}) {
            assertThrows(IllegalArgumentException.class, () -> new LengthLimit(wrong, Overlong.ERROR, 100));
        }
    }

    @Test
    void noCutGoesIntoOrBeforeAnImage() {
        Sample last = sample(new Content.Text("words"), new Content.Image(IMAGE));
        int image = 0;
        for (int t = 0; t < last.tokenTypeIds().length; t++) {
            image = last.tokenTypeIds()[t] == 1 ? t + 1 : image; // behind the last soft token
        }
        LengthLimit just = new LengthLimit(image + 1, Overlong.TRUNCATE_TEXT, 1000); // with its end mark
        assertEquals(image + 1, just.fit(last).sample().inputIds().length);
        assertTooLong(new LengthLimit(image, Overlong.TRUNCATE_TEXT, 1000), last, "where only text may be cut");
        assertTooLong(new LengthLimit(image - 1, Overlong.TRUNCATE_TEXT, 1000), last, "where only text may be cut");
        assertTooLong(new LengthLimit(4, Overlong.TRUNCATE_TEXT, 1000), last, "an image lies at token");
    }

    @Test
    void aCutThatLeavesNoTargetIsRefused() {
        Conversation row =
                new Conversation("row 7", List.of(Message.of("user", "q q q q q q"), Message.of("assistant", "a")));
        Sample sample = collate(row, LossOn.ASSISTANT, Profile.DEFAULT);
        assertTooLong(new LengthLimit(6, Overlong.TRUNCATE_TEXT, 100), sample, "no token before that is a target");
    }

    private static void assertTooLong(LengthLimit limit, Sample sample, String why) {
        String message =
                assertThrows(FormatException.class, () -> limit.fit(sample)).getMessage();
        assertTrue(message.startsWith("row 7: has "), message);
        assertTrue(message.contains(why), message);
    }
}
