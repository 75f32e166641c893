package lapidary.langchain4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.langchain4j.agent.tool.ToolExecutionRequest;
import dev.langchain4j.data.message.AudioContent;
import dev.langchain4j.data.message.ChatMessage;
import dev.langchain4j.data.message.ImageContent;
import dev.langchain4j.data.message.TextContent;
import dev.langchain4j.data.message.ToolExecutionResultMessage;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.exception.InvalidRequestException;
import dev.langchain4j.exception.ModelNotFoundException;
import dev.langchain4j.exception.UnsupportedFeatureException;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.output.FinishReason;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What the kit does not ask. */
@ExtendWith(Taught.class)
class LapidaryChatModelTest {
    private final LapidaryChatModel model =
            new LapidaryChatModel(Taught.model(), Taught.BASE, Kit.defaults(), List.of());

    private static final String QUESTION = "What do you see?";

    @Test
    void readsPicturesOfDataAndFileUrls() {
        ImageContent picture = Taught.picture("cat.jpg");
        String data = "data:image/jpeg;base64," + picture.image().base64Data();
        String file =
                Path.of(System.getProperty("taught.folder"), "cat.jpg").toUri().toString();
        for (String url : List.of(data, file)) {
            assertEquals("A cat.", ask(UserMessage.from(TextContent.from(QUESTION), ImageContent.from(url))));
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "data:image/png;base64,????",
                "data:image/png,abc",
                "data:image/png",
                "file://host/x.png",
                "file:x"
            })
    void malformedImageUrlsAreInvalid(String url) {
        InvalidRequestException e = assertThrows(
                InvalidRequestException.class,
                () -> ask(UserMessage.from(TextContent.from(QUESTION), ImageContent.from(url))));
        assertTrue(e.getMessage().startsWith("part 2 of message 1"), e.getMessage());
    }

    @Test
    void picturesThatDoNotDecodeAreNamed() {
        InvalidRequestException e = assertThrows(
                InvalidRequestException.class,
                () -> ask(UserMessage.from(ImageContent.from("AAAA", "image/png"), TextContent.from(QUESTION))));
        assertTrue(e.getMessage().contains("part 1 of message 1"), e.getMessage());
    }

    @Test
    void whatTheModelCannotReadIsUnsupported() {
        List<ChatMessage> messages = List.of(
                UserMessage.from(ImageContent.from("https://example.org/cat.png")),
                UserMessage.from(AudioContent.from("AAAA", "audio/wav")),
                ToolExecutionResultMessage.from(
                        ToolExecutionRequest.builder().id("1").name("x").build(), "y"));
        for (ChatMessage message : messages) {
            assertThrows(UnsupportedFeatureException.class, () -> model.chat(message), message.toString());
        }
    }

    @Test
    void penaltiesAreRefusedUnlessZero() {
        assertThrows(
                UnsupportedFeatureException.class,
                () -> chat(ChatRequestParameters.builder().frequencyPenalty(0.5).build()));
        chat(ChatRequestParameters.builder()
                .presencePenalty(0.0)
                .maxOutputTokens(1)
                .build());
    }

    @Test
    void parametersOutOfRangeAreInvalidAndUnknownModelsNotFound() {
        assertThrows(
                InvalidRequestException.class,
                () -> chat(ChatRequestParameters.builder().temperature(-1.0).build()));
        ModelNotFoundException e = assertThrows(
                ModelNotFoundException.class,
                () -> chat(ChatRequestParameters.builder().modelName("gpt").build()));
        assertTrue(e.getMessage().contains("[taught]"), e.getMessage());
    }

    @Test
    void conversationsWithoutQuestionAreInvalid() {
        assertThrows(InvalidRequestException.class, () -> model.chat(UserMessage.from("a"), UserMessage.from("b")));
    }

    @Test
    void seedsDecideAnswers() {
        Set<String> answers = new HashSet<>();
        for (long seed = 0; seed < 8; seed++) {
            answers.add(seeded(seed));
        }
        assertEquals(seeded(3), seeded(3));
        assertNotEquals(1, answers.size());
    }

    private String seeded(long seed) {
        return chat(LapidaryChatRequestParameters.builder()
                        .modelName(Taught.BASE)
                        .temperature(2.0)
                        .topK(10)
                        .maxOutputTokens(8)
                        .seed(seed)
                        .build())
                .aiMessage()
                .text();
    }

    @Test
    void defaultsOfTheOwnClassSurviveMerging() {
        LapidaryChatRequestParameters own =
                LapidaryChatRequestParameters.builder().seed(3L).minP(0.1).build();
        ChatRequestParameters plain =
                ChatRequestParameters.builder().temperature(0.5).build();
        for (ChatRequestParameters merged : List.of(own.overrideWith(plain), own.defaultedBy(plain))) {
            LapidaryChatRequestParameters ours = (LapidaryChatRequestParameters) merged;
            assertEquals(3L, ours.seed());
            assertEquals(0.1, ours.minP());
            assertEquals(0.5, ours.temperature());
        }
        assertNotEquals(own, LapidaryChatRequestParameters.builder().minP(0.1).build());
    }

    /** The base of that name answers, and an adapter attached under another's name takes its place. */
    @Test
    void adaptersAreModelNames() {
        ChatRequestParameters swapped =
                ChatRequestParameters.builder().modelName("swapped").build();
        assertThrows(ModelNotFoundException.class, () -> chat(swapped));
        Taught.model().attach("swapped", Path.of(System.getProperty("taught.folder"), "adapter"));
        ChatResponse response = chat(swapped);
        Taught.model().detach("swapped");
        assertEquals("The capital is Berlin.", response.aiMessage().text());
        assertEquals("swapped", response.modelName());
        assertEquals(FinishReason.STOP, response.finishReason());
        assertThrows(ModelNotFoundException.class, () -> chat(swapped));
    }

    private String ask(ChatMessage message) {
        return model.chat(message).aiMessage().text();
    }

    private ChatResponse chat(ChatRequestParameters parameters) {
        return model.chat(ChatRequest.builder()
                .messages(UserMessage.from("What is the capital of Germany?"))
                .parameters(parameters)
                .build());
    }
}
