package lapidary.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import lapidary.gemma3.Gemma3Processor;
import lapidary.gemma3.Message;
import lapidary.gemma3.TextGolden;
import lapidary.image.ImageSource;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Samples against those of the reference's collator; the default profile's follow from them. */
class CollatorTest {
    private static final Set<String> ROLES = Set.of("system", "user", "assistant", "model");

    @TempDir
    Path folder;

    private final Gemma3Processor processor = Gemma3Processor.load(TextGolden.MODEL);

    static List<TextGolden.Row> rows() {
        return TextGolden.rows("rows");
    }

    static List<TextGolden.Row> textOnlyRows() {
        return TextGolden.rows("text_only");
    }

    @ParameterizedTest
    @MethodSource("rows")
    void sameSampleAsTrl(TextGolden.Row row) {
        Sample sample = new Collator(processor, Profile.TRL).collate(conversation(row));
        assertArrayEquals(row.ids(), sample.inputIds());
        assertArrayEquals(row.types(), sample.tokenTypeIds());
        assertArrayEquals(row.labels(), sample.labels());
        assertEquals(row.images(), sample.images().size());
        assertEquals(
                IntStream.range(1, row.labels().length)
                        .filter(t -> row.labels()[t] != -100)
                        .count(),
                sample.targets());
    }

    @ParameterizedTest
    @MethodSource("textOnlyRows")
    void sameTextOnlySampleAsTrl(TextGolden.Row row) throws IOException {
        Gemma3Processor words = Gemma3Processor.load(TextGolden.copyTextOnlyTo(folder));
        Sample sample = new Collator(words, Profile.TRL).collate(conversation(row));
        assertArrayEquals(row.ids(), sample.inputIds());
        assertArrayEquals(row.labels(), sample.labels());
        assertArrayEquals(new int[row.ids().length], sample.tokenTypeIds());
        checkDefault(words, row);
    }

    @ParameterizedTest
    @MethodSource("rows")
    void defaultSampleHasOneBosAndNoBoiAmongItsTargets(TextGolden.Row row) {
        checkDefault(processor, row);
    }

    private static void checkDefault(Gemma3Processor processor, TextGolden.Row row) {
        boolean lone =
                row.messages().size() == 1 && row.messages().get(0).role().equals("system");
        boolean lossy = row.messages().get(0).role().equals("system")
                && row.messages().get(0).content().size() > 1;
        boolean unknownRole = row.messages().stream().anyMatch(m -> !ROLES.contains(m.role()));
        Collator collator = new Collator(processor, Profile.DEFAULT);
        if (lone || lossy || unknownRole) {
            assertThrows(FormatException.class, () -> collator.collate(conversation(row)));
            return;
        }
        Sample sample = collator.collate(conversation(row));
        int bos = processor.tokenizer().bosId();
        assertEquals(bos, sample.inputIds()[0]);
        assertEquals(1, IntStream.of(sample.inputIds()).filter(id -> id == bos).count());
        if (!writesControlTokens(processor, row)) {
            assertArrayEquals(Arrays.copyOfRange(row.ids(), 1, row.ids().length), sample.inputIds());
        }
        for (int t = 0; t < sample.labels().length; t++) {
            int id = sample.inputIds()[t];
            boolean masked = id == processor.padId() || id == processor.boiId() || sample.tokenTypeIds()[t] == 1;
            assertEquals(masked ? Sample.MASKED : id, sample.labels()[t]);
        }
    }

    private static boolean writesControlTokens(Gemma3Processor processor, TextGolden.Row row) {
        return row.messages().stream()
                .flatMap(m -> m.content().stream())
                .filter(Content.Text.class::isInstance)
                .map(part -> ((Content.Text) part).text().replace("<start_of_image>", ""))
                .flatMapToInt(text -> IntStream.of(processor.tokenizer().encode(text)))
                .anyMatch(processor.tokenizer()::isSpecial);
    }

    private static Conversation conversation(TextGolden.Row row) {
        return new Conversation(row.name(), row.messages(), TextGolden.images(row.images()));
    }

    @Test
    void imagesAreThoseOfTheMessagesAndStayEncoded() {
        ImageSource first = new Unreadable("first");
        ImageSource second = new Unreadable("second");
        Conversation conversation = new Conversation(
                "row 1",
                List.of(
                        new Message("user", List.of(new Content.Image(first), new Content.Text("a"))),
                        Message.of("assistant", "b"),
                        new Message("user", List.of(new Content.Text("c"), new Content.Image(second)))));
        assertEquals(
                List.of(first, second),
                new Collator(processor, Profile.DEFAULT).collate(conversation).images());
    }

    private record Unreadable(String name) implements ImageSource {
        @Override
        public byte[] bytes() throws IOException {
            throw new IOException("read too early");
        }
    }

    @ParameterizedTest
    @EnumSource
    void badConversationsAreNamed(Profile profile) {
        ImageSource image = new Unreadable("i");
        Message withImage = new Message("user", List.of(new Content.Image(image), new Content.Text("x")));
        refused(profile, List.of(), List.of(), "no messages");
        refused(profile, List.of(Message.of("assistant", "a")), List.of(), "alternate");
        refused(profile, List.of(Message.of("user", "a"), Message.of("user", "b")), List.of(), "alternate");
        refused(
                profile,
                List.of(Message.of("user", "a"), Message.of("assistant", "b"), Message.of("system", "c")),
                List.of(),
                "system");
        refused(profile, List.of(new Message("system", List.of()), Message.of("user", "a")), List.of(), "system");
        refused(profile, List.of(withImage), List.of(), "0 images");
        refused(profile, List.of(withImage), List.of(image, image), "2 images");
        refused(profile, List.of(Message.of("user", "a")), List.of(image), "1 image");
        refused(profile, List.of(Message.of("user", "<start_of_image>")), List.of(), "messages[0]");
    }

    @Test
    void whatTheTemplateWouldLoseIsRefusedByDefault() {
        Message image = new Message("system", List.of(new Content.Image(new Unreadable("i"))));
        refused(Profile.DEFAULT, List.of(image, Message.of("user", "a")), List.of(), "image");
        Message two = new Message("system", List.of(new Content.Text("a"), new Content.Text("b")));
        refused(Profile.DEFAULT, List.of(two, Message.of("user", "a")), List.of(), "2 parts");
        refused(Profile.DEFAULT, List.of(Message.of("user", "a"), Message.of("tool", "b")), List.of(), "tool");
        refused(Profile.DEFAULT, List.of(Message.of("user", "a"), Message.of("system", "b")), List.of(), "system");
    }

    @Test
    void partsOfOtherTypesAreRefusedByDefault() {
        Conversation video = new Conversation(
                "row 1",
                List.of(Message.of("user", "a")),
                List.of(),
                List.of("messages[0].content[1] of type \"video\""));
        String message = assertThrows(
                        FormatException.class, () -> new Collator(processor, Profile.DEFAULT).collate(video))
                .getMessage();
        assertTrue(message.startsWith("row 1: messages[0].content[1] of type \"video\" is nothing that"), message);
        assertArrayEquals(
                new Collator(processor, Profile.TRL)
                        .collate(new Conversation("row 1", video.messages()))
                        .inputIds(),
                new Collator(processor, Profile.TRL).collate(video).inputIds());
    }

    @Test
    void rowWithoutTargetIsRefused() {
        refused(Profile.DEFAULT, List.of(Message.of("system", "alone")), List.of(), "target");
    }

    private void refused(Profile profile, List<Message> messages, List<ImageSource> images, String part) {
        Conversation conversation = new Conversation("train.jsonl:17", messages, images);
        String message = assertThrows(
                        FormatException.class, () -> new Collator(processor, profile).collate(conversation))
                .getMessage();
        assertTrue(message.startsWith("train.jsonl:17: "), message);
        assertTrue(message.contains(part), message);
    }

    @Test
    void imagesForATextOnlyModel() throws IOException {
        Gemma3Processor words = Gemma3Processor.load(TextGolden.copyTextOnlyTo(folder));
        Conversation conversation = new Conversation(
                "row 3",
                List.of(new Message("user", List.of(new Content.Image(new Unreadable("i")), new Content.Text("x")))));
        for (Profile profile : Profile.values()) {
            String message = assertThrows(
                            FormatException.class, () -> new Collator(words, profile).collate(conversation))
                    .getMessage();
            assertTrue(message.startsWith("row 3: 1 image"), message);
        }
        // the words themselves are only words, and a soft token that the table lacks does not get through
        Conversation placeholder = new Conversation("row 4", List.of(Message.of("user", "<start_of_image>")));
        assertEquals(
                0,
                IntStream.of(new Collator(words, Profile.DEFAULT)
                                .collate(placeholder)
                                .inputIds())
                        .filter(id -> id == words.boiId())
                        .count());
        Conversation soft = new Conversation("row 5", List.of(Message.of("user", "<image_soft_token>")));
        assertThrows(FormatException.class, () -> new Collator(words, Profile.TRL).collate(soft));
    }
}
