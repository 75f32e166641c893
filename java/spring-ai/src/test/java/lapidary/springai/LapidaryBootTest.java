package lapidary.springai;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.stream.Stream;
import lapidary.infer.Answer;
import lapidary.infer.GenerationOptions;
import lapidary.infer.LanguageModel;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.springframework.ai.chat.client.ChatClient;
import org.springframework.ai.chat.messages.AssistantMessage;
import org.springframework.ai.chat.messages.SystemMessage;
import org.springframework.ai.chat.messages.UserMessage;
import org.springframework.ai.chat.model.ChatModel;
import org.springframework.ai.chat.model.ChatResponse;
import org.springframework.ai.chat.prompt.ChatOptions;
import org.springframework.ai.chat.prompt.Prompt;
import org.springframework.ai.content.Media;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.core.io.FileSystemResource;
import org.springframework.util.MimeTypeUtils;

/** A Boot application that has nothing but properties, asked through Spring AI's client. */
class LapidaryBootTest {
    private static final Path BASE = Path.of(System.getProperty("demo.base"));
    private static final Path ADAPTER = Path.of(System.getProperty("engine.tests"), "adapter");
    private static final Path PICTURE = Path.of(System.getProperty("engine.tests"), "pictures", "0.png");
    private static final String QUESTION = "What color is the square?";

    private static ConfigurableApplicationContext application;
    private static ChatClient client;
    private static LanguageModel model;

    @EnableAutoConfiguration
    static class Application {}

    private static ConfigurableApplicationContext start(String... properties) {
        return new SpringApplicationBuilder(Application.class)
                .web(WebApplicationType.NONE)
                .properties("spring.main.banner-mode=off", "logging.level.root=error")
                .properties(properties)
                .run();
    }

    @BeforeAll
    static void open() {
        application = start(
                "spring.ai.lapidary.model=" + BASE,
                "spring.ai.lapidary.name=demo",
                "spring.ai.lapidary.dtype=float32",
                "spring.ai.lapidary.adapters.trained=" + ADAPTER,
                "spring.ai.lapidary.chat.max-tokens=12",
                "spring.ai.lapidary.chat.temperature=0");
        client = application.getBean(ChatClient.Builder.class).build();
        model = application.getBean(LanguageModel.class);
    }

    @AfterAll
    static void close() {
        application.close();
        assertThrows(IllegalStateException.class, () -> model.generate(QUESTION, GenerationOptions.GREEDY));
    }

    private static Answer expected(String adapter, Path... pictures) {
        return model.generate(
                        QUESTION, GenerationOptions.GREEDY.withMaxNewTokens(12).withAdapter(adapter), pictures)
                .answer();
    }

    @Test
    void answersTexts() {
        ChatResponse response = client.prompt(QUESTION).call().chatResponse();
        Answer expected = expected(LanguageModel.BASE);
        assertEquals(expected.text(), response.getResult().getOutput().getText());
        assertEquals(
                expected.finishReason().name(),
                response.getResult().getMetadata().getFinishReason());
        assertEquals("demo", response.getMetadata().getModel());
        assertEquals(
                expected.usage().promptTokens(),
                response.getMetadata().getUsage().getPromptTokens());
        assertEquals(
                expected.usage().completionTokens(),
                response.getMetadata().getUsage().getCompletionTokens());
        assertTrue(response.getMetadata().getId().startsWith("lapidary-"));
    }

    @Test
    void anAdapterIsAModelName() {
        ChatResponse response = client.prompt(QUESTION)
                .options(ChatOptions.builder().model("trained"))
                .call()
                .chatResponse();
        assertEquals(
                expected("trained").text(), response.getResult().getOutput().getText());
        assertEquals("trained", response.getMetadata().getModel());
        assertNotEquals(expected("trained").text(), expected(LanguageModel.BASE).text());
    }

    @Test
    void readsPicturesInEveryForm() throws IOException {
        String expected = expected(LanguageModel.BASE, PICTURE).text();
        String base64 = Base64.getEncoder().encodeToString(Files.readAllBytes(PICTURE));
        List<Media> forms = List.of(
                new Media(MimeTypeUtils.IMAGE_PNG, new FileSystemResource(PICTURE)),
                new Media(MimeTypeUtils.IMAGE_PNG, PICTURE.toUri()),
                new Media(MimeTypeUtils.IMAGE_PNG, URI.create("data:image/png;base64," + base64)),
                Media.builder().mimeType(MimeTypeUtils.IMAGE_PNG).data(base64).build());
        for (Media form : forms) {
            assertEquals(
                    expected,
                    client.prompt()
                            .user(user -> user.text(QUESTION).media(form))
                            .call()
                            .content());
        }
        assertNotEquals(expected, expected(LanguageModel.BASE).text());
    }

    @Test
    void streamsWhatItAnswers() {
        List<ChatResponse> responses = client
                .prompt()
                .user(user ->
                        user.text(QUESTION).media(new Media(MimeTypeUtils.IMAGE_PNG, new FileSystemResource(PICTURE))))
                .stream()
                .chatResponse()
                .collectList()
                .block(Duration.ofMinutes(1));
        StringBuilder text = new StringBuilder();
        responses.forEach(r -> text.append(r.getResult().getOutput().getText()));
        Answer expected = expected(LanguageModel.BASE, PICTURE);
        assertEquals(expected.text(), text.toString());
        assertTrue(responses.size() > 3, "pieces: " + responses.size());
        ChatResponse last = responses.get(responses.size() - 1);
        assertEquals(
                expected.finishReason().name(), last.getResult().getMetadata().getFinishReason());
        assertEquals(
                expected.usage().totalTokens(), last.getMetadata().getUsage().getTotalTokens());
    }

    /** The model has room for one request, and nothing would end the first: only its cancellation lets the second in. */
    @Test
    void cancelledStreamsEndTheirAnswers(@TempDir Path folder) throws IOException {
        Path endless = endless(folder.resolve("endless"));
        try (ConfigurableApplicationContext one = start(
                "spring.ai.lapidary.model=" + endless,
                "spring.ai.lapidary.batch-size=1",
                "spring.ai.lapidary.chat.max-tokens=100000",
                "spring.ai.lapidary.chat.temperature=0")) {
            ChatModel chat = one.getBean(ChatModel.class);
            for (int i = 0; i < 2; i++) {
                assertEquals(
                        3,
                        chat.stream(new Prompt(QUESTION))
                                .take(3)
                                .collectList()
                                .block(Duration.ofMinutes(1))
                                .size());
            }
        }
    }

    private static Path endless(Path folder) throws IOException {
        Files.createDirectories(folder);
        try (Stream<Path> files = Files.list(BASE)) {
            for (Path file : files.toList()) {
                Files.copy(file, folder.resolve(file.getFileName()));
            }
        }
        for (String name : List.of("config.json", "generation_config.json")) {
            Path file = folder.resolve(name);
            String text = Files.readString(file);
            String other = text.replaceFirst("\"eos_token_id\": \\[[^]]*]", "\"eos_token_id\": 767");
            assertNotEquals(text, other);
            Files.writeString(file, other);
        }
        return folder;
    }

    @Test
    void promptsWithoutClientHaveTheDefaultsToo() {
        ChatModel chat = application.getBean(ChatModel.class);
        String twelve = chat.call(QUESTION);
        assertEquals(expected(LanguageModel.BASE).text(), twelve);
        ChatResponse one = chat.call(
                new Prompt(QUESTION, ChatOptions.builder().maxTokens(1).build()));
        assertEquals("LENGTH", one.getResult().getMetadata().getFinishReason());
        assertEquals(1, one.getMetadata().getUsage().getCompletionTokens());
    }

    @Test
    void whatCannotBeAnsweredIsSaid() {
        ChatModel chat = application.getBean(ChatModel.class);
        Media web = new Media(MimeTypeUtils.IMAGE_PNG, URI.create("https://example.org/x.png"));
        Media sound = Media.builder()
                .mimeType(MimeTypeUtils.parseMimeType("audio/wav"))
                .data(new byte[4])
                .build();
        Media broken =
                Media.builder().mimeType(MimeTypeUtils.IMAGE_PNG).data("????").build();
        Media noPicture = Media.builder()
                .mimeType(MimeTypeUtils.IMAGE_PNG)
                .data(new byte[4])
                .build();
        for (Media media : List.of(web, sound, broken, noPicture)) {
            assertRefused(
                    "media 1 of message 1",
                    () -> chat.call(
                            UserMessage.builder().text(QUESTION).media(media).build()));
        }
        assertRefused("ends with the model's turn", () -> chat.call(new UserMessage("a"), new AssistantMessage("b")));
        assertRefused("", () -> chat.call(new UserMessage("a"), new SystemMessage("b")));
        assertRefused(
                "[trained]",
                () -> chat.call(new Prompt(QUESTION, options().model("gpt").build())));
        assertRefused(
                "frequencyPenalty is 0.5",
                () -> chat.call(
                        new Prompt(QUESTION, options().frequencyPenalty(0.5).build())));
        assertRefused(
                "temperature is -1",
                () -> chat.call(new Prompt(QUESTION, options().temperature(-1.0).build())));
        IllegalArgumentException streamed = assertThrows(IllegalArgumentException.class, () -> chat.stream(
                        new Prompt(QUESTION, options().model("gpt").build()))
                .blockLast(Duration.ofMinutes(1)));
        assertFalse(streamed.getMessage().isEmpty());
    }

    private static LapidaryChatOptions.Builder options() {
        return LapidaryChatOptions.builder();
    }

    private static void assertRefused(String part, Runnable call) {
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, call::run);
        assertTrue(e.getMessage().contains(part), e.getMessage());
    }

    @Test
    void anotherProvidersApplicationIsLeftAlone() {
        try (ConfigurableApplicationContext other = start("spring.ai.model.chat=ollama")) {
            assertEquals(0, other.getBeanNamesForType(ChatModel.class).length);
        }
        Exception e = assertThrows(Exception.class, () -> start("spring.ai.lapidary.model="));
        Throwable cause = e;
        while (cause.getCause() != null) {
            cause = cause.getCause();
        }
        assertTrue(cause.getMessage().contains("spring.ai.lapidary.model"), cause.getMessage());
    }
}
