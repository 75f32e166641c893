package lapidary.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.http.StreamResponse;
import com.openai.errors.BadRequestException;
import com.openai.errors.NotFoundException;
import com.openai.errors.OpenAIException;
import com.openai.errors.OpenAIServiceException;
import com.openai.errors.UnauthorizedException;
import com.openai.errors.UnexpectedStatusCodeException;
import com.openai.models.chat.completions.ChatCompletion;
import com.openai.models.chat.completions.ChatCompletionChunk;
import com.openai.models.chat.completions.ChatCompletionContentPart;
import com.openai.models.chat.completions.ChatCompletionContentPartImage;
import com.openai.models.chat.completions.ChatCompletionContentPartText;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.chat.completions.ChatCompletionStreamOptions;
import com.openai.models.models.Model;
import java.io.IOException;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import okhttp3.OkHttpClient;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * OpenAI's own Java client against {@code engine serve} in a process of its own. The model is the demo's, in which no token
 * ends an answer, so that a stream that is left would go on; what is asked ends at a full stop instead.
 */
@Timeout(value = 120, unit = TimeUnit.SECONDS) // until something counts as hanging
final class OpenAiClientTest {
    private static final Path TESTS = Path.of(System.getProperty("engine.tests"));
    private static final String KEY = "key-of-the-test";
    private static final String QUESTION = "How many shapes are there?";
    private static final String ENDS = "\"eos_token_id\": [\n    1,\n    11\n  ]";
    private static final Pattern ADDRESS = Pattern.compile("at (http://\\S+)/v1\\R");
    /** Tokens: minutes, while a client that is gone is found after two beats of the server, which says nothing for most of them. */
    private static final long ENDLESS = 120_000;

    @TempDir
    private static Path folder;

    private static Process server;
    private static String address;
    private static OpenAIClient client;

    @BeforeAll
    static void serve() throws IOException, InterruptedException {
        Path out = folder.resolve("stdout.txt");
        ProcessBuilder builder = new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")),
                "lapidary.Launcher",
                "serve",
                "--model_name_or_path",
                endlessModel().toString(),
                "--served_model_name",
                "tiny",
                "--dtype",
                "float32",
                "--adapter",
                "counts=" + TESTS.resolve("adapter"),
                "--adapter",
                "also_counts=" + TESTS.resolve("adapter"),
                "--port",
                "0");
        builder.environment().put("LAPIDARY_API_KEY", KEY);
        server = builder.redirectErrorStream(true).redirectOutput(out.toFile()).start();
        Matcher said = ADDRESS.matcher("");
        while (!said.find()) {
            assertTrue(server.isAlive(), Files.readString(out));
            Thread.sleep(50);
            said = ADDRESS.matcher(Files.readString(out));
        }
        address = said.group(1);
        client = client(KEY);
    }

    private static Path endlessModel() throws IOException {
        Path model = Files.createDirectory(folder.resolve("model"));
        try (Stream<Path> files = Files.list(Path.of(System.getProperty("demo.base")))) {
            for (Path file : files.toList()) {
                Files.copy(file, model.resolve(file.getFileName()));
            }
        }
        for (String name : List.of("config.json", "generation_config.json")) {
            String text = Files.readString(model.resolve(name));
            assertTrue(text.contains(ENDS), text);
            Files.writeString(model.resolve(name), text.replace(ENDS, "\"eos_token_id\": 767"));
        }
        return model;
    }

    private static OpenAIClient client(String key) {
        return client(key, new OkHttpClient());
    }

    private static OpenAIClient client(String key, OkHttpClient http) {
        return OpenAIOkHttpClient.builder()
                .okHttpClient(http)
                .baseUrl(address + "/v1")
                .apiKey(key)
                .maxRetries(0)
                .build();
    }

    /** Nothing is left of what a test began, whoever left it. */
    @AfterEach
    void nothingIsAtWork() throws IOException, InterruptedException {
        await("lapidary_chats", 0);
    }

    @AfterAll
    static void closes() throws InterruptedException {
        client.close();
        server.destroy(); // SIGTERM
        try {
            assertTrue(server.waitFor(60, TimeUnit.SECONDS), "the server still runs");
            assertEquals(0, server.exitValue());
        } finally {
            server.destroyForcibly();
        }
    }

    // ---- questions -----------------------------------------------------------------------------------------------

    private static ChatCompletionCreateParams.Builder asking(String model) {
        return ChatCompletionCreateParams.builder().model(model).temperature(0).maxCompletionTokens(24);
    }

    private static ChatCompletionCreateParams.Builder aboutPicture(String model) throws IOException {
        byte[] picture = Files.readAllBytes(TESTS.resolve("pictures/0.png"));
        return aboutPicture(
                model, "data:image/png;base64," + Base64.getEncoder().encodeToString(picture));
    }

    private static ChatCompletionCreateParams.Builder aboutPicture(String model, String url) {
        ChatCompletionContentPartImage image = ChatCompletionContentPartImage.builder()
                .imageUrl(ChatCompletionContentPartImage.ImageUrl.builder()
                        .url(url)
                        .build())
                .build();
        ChatCompletionContentPartText text =
                ChatCompletionContentPartText.builder().text(QUESTION).build();
        return asking(model)
                .addUserMessageOfArrayOfContentParts(
                        List.of(ChatCompletionContentPart.ofImageUrl(image), ChatCompletionContentPart.ofText(text)));
    }

    /** The beginning of a stream that would go on for minutes, closed by whoever asked. */
    private static ChatCompletionCreateParams endless() {
        return ChatCompletionCreateParams.builder()
                .model("tiny")
                .addUserMessage("Go on")
                .maxCompletionTokens(ENDLESS)
                .build();
    }

    private static ChatCompletion ask(ChatCompletionCreateParams params) {
        return client.chat().completions().create(params);
    }

    private static String content(ChatCompletion answer) {
        return answer.choices().get(0).message().content().orElseThrow();
    }

    private static long metric(String name) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(address + "/metrics"))
                .header("Authorization", "Bearer " + KEY)
                .build();
        try (HttpClient http = HttpClient.newHttpClient()) {
            return http.send(request, HttpResponse.BodyHandlers.ofLines())
                    .body()
                    .filter(line -> line.startsWith(name + " "))
                    .mapToLong(line -> Long.parseLong(line.substring(name.length() + 1)))
                    .findFirst()
                    .orElseThrow();
        }
    }

    /** Waits until a value of /metrics is this; the test's own time limit ends it otherwise. */
    private static void await(String name, long value) throws IOException, InterruptedException {
        while (metric(name) != value) {
            Thread.sleep(10);
        }
    }

    // ---- answers -------------------------------------------------------------------------------------------------

    @Test
    void eachModelAnswersAsItself() throws IOException {
        assertEquals(
                List.of("tiny", "counts", "also_counts"),
                client.models().list().data().stream().map(Model::id).toList());
        assertEquals("counts", client.models().retrieve("counts").id());
        ChatCompletion counted = ask(aboutPicture("counts").stop(".").build());
        assertEquals("Four", content(counted));
        assertEquals("counts", counted.model());
        assertEquals(
                ChatCompletion.Choice.FinishReason.STOP,
                counted.choices().get(0).finishReason());
        assertEquals(
                counted.usage().orElseThrow().totalTokens(),
                counted.usage().orElseThrow().promptTokens()
                        + counted.usage().orElseThrow().completionTokens());
        assertEquals("Four", content(ask(aboutPicture("also_counts").stop(".").build())));
        ChatCompletion base = ask(aboutPicture("tiny").build());
        assertFalse(content(base).startsWith("Four"), content(base));
        assertEquals(
                ChatCompletion.Choice.FinishReason.LENGTH, base.choices().get(0).finishReason());
        assertEquals(24, base.usage().orElseThrow().completionTokens());
        base.validate(); // has each field that the client knows to be required
    }

    @Test
    @SuppressWarnings("deprecation") // OpenAI's own servers leave seed; this one has it
    void aConversationAndItsOptionsAreHeeded() {
        ChatCompletionCreateParams.Builder drawn = asking("tiny")
                .addSystemMessage("Be brief.")
                .addUserMessage("Who are you?")
                .addAssistantMessage("A model.")
                .addUserMessage("Go on")
                .temperature(1.5)
                .topP(0.9);
        String once = content(ask(drawn.seed(7).build()));
        assertEquals(once, content(ask(drawn.seed(7).build())));
        assertNotEquals(once, content(ask(drawn.seed(8).build())));
    }

    @Test
    void aStreamIsTheAnswerInPieces() throws IOException {
        ChatCompletionCreateParams params = aboutPicture("tiny")
                .streamOptions(
                        ChatCompletionStreamOptions.builder().includeUsage(true).build())
                .build();
        List<ChatCompletionChunk> chunks = new ArrayList<>();
        try (StreamResponse<ChatCompletionChunk> stream =
                client.chat().completions().createStreaming(params)) {
            stream.stream().forEach(chunks::add);
        }
        chunks.forEach(ChatCompletionChunk::validate);
        StringBuilder words = new StringBuilder();
        chunks.stream()
                .flatMap(chunk -> chunk.choices().stream())
                .forEach(choice -> choice.delta().content().ifPresent(words::append));
        assertEquals(content(ask(aboutPicture("tiny").build())), words.toString());
        assertTrue(chunks.size() > 5, chunks.toString());
        assertEquals(24, chunks.get(chunks.size() - 1).usage().orElseThrow().completionTokens());
    }

    @Test
    void manyAtOnceGetTheirOwnAnswers() throws IOException {
        List<ChatCompletionCreateParams> asked = List.of(
                aboutPicture("tiny").build(),
                aboutPicture("counts").stop(".").build(),
                asking("also_counts").addUserMessage("Go on").build());
        List<String> alone = asked.stream()
                .map(OpenAiClientTest::ask)
                .map(OpenAiClientTest::content)
                .toList();
        List<CompletableFuture<ChatCompletion>> together = new ArrayList<>();
        for (int i = 0; i < 32; i++) {
            together.add(client.async().chat().completions().create(asked.get(i % asked.size())));
        }
        for (int i = 0; i < together.size(); i++) {
            assertEquals(alone.get(i % asked.size()), content(together.get(i).join()), "request " + i);
        }
    }

    // ---- clients that leave --------------------------------------------------------------------------------------

    @Test
    void aStreamThatIsClosedEndsItsChat() throws IOException, InterruptedException {
        long gone = metric("lapidary_clients_gone_total");
        try (StreamResponse<ChatCompletionChunk> stream =
                client.chat().completions().createStreaming(endless())) {
            Iterator<ChatCompletionChunk> chunks = stream.stream().iterator();
            assertTrue(chunks.hasNext());
            chunks.next();
            assertEquals(1, metric("lapidary_chats"));
        }
        await("lapidary_clients_gone_total", gone + 1);
    }

    /** Cancelled in the HTTP client below: the future that OpenAI's client returns does not hand a cancel on. */
    @Test
    void aRequestThatIsCancelledEndsItsChat() throws IOException, InterruptedException {
        long gone = metric("lapidary_clients_gone_total");
        OkHttpClient http = new OkHttpClient();
        CompletableFuture<ChatCompletion> answer =
                client(KEY, http).async().chat().completions().create(endless());
        await("lapidary_chats", 1);
        http.dispatcher().cancelAll();
        assertThrows(CompletionException.class, answer::join);
        await("lapidary_clients_gone_total", gone + 1);
    }

    /** Its connection breaks while words still come; the others are answered. */
    @Test
    void aClientThatIsGoneEndsItsChat() throws IOException, InterruptedException {
        long gone = metric("lapidary_clients_gone_total");
        AtomicReference<Socket> socket = new AtomicReference<>();
        OkHttpClient http = new OkHttpClient.Builder()
                .addNetworkInterceptor(chain -> {
                    socket.set(chain.connection().socket());
                    return chain.proceed(chain.request());
                })
                .build();
        try (StreamResponse<ChatCompletionChunk> stream =
                client(KEY, http).chat().completions().createStreaming(endless())) {
            Iterator<ChatCompletionChunk> chunks = stream.stream().iterator();
            chunks.next();
            socket.get().close();
            assertThrows(OpenAIException.class, () -> chunks.forEachRemaining(chunk -> {}));
        }
        await("lapidary_clients_gone_total", gone + 1);
        assertEquals("Four", content(ask(aboutPicture("counts").stop(".").build())));
    }

    // ---- what is refused -----------------------------------------------------------------------------------------

    private static String refused(
            Class<? extends OpenAIServiceException> type, int status, ChatCompletionCreateParams params) {
        OpenAIServiceException error = assertThrows(type, () -> ask(params));
        assertEquals(status, error.statusCode());
        assertThrows(type, () -> client.chat().completions().createStreaming(params));
        return error.getMessage();
    }

    @Test
    void mistakesAreRefusedInWords() {
        String unknown = refused(
                NotFoundException.class,
                404,
                asking("dogs").addUserMessage("Hi").build());
        assertTrue(unknown.contains("there is no model dogs"), unknown);
        String base64 = refused(
                BadRequestException.class,
                400,
                aboutPicture("tiny", "data:image/png;base64,@@@").build());
        assertTrue(base64.contains("not valid base64"), base64);
        String elsewhere = refused(
                BadRequestException.class,
                400,
                aboutPicture("tiny", "https://example.com/x.png").build());
        assertTrue(elsewhere.contains("does not fetch"), elsewhere);
        refused(
                BadRequestException.class,
                400,
                asking("tiny").addUserMessage("Hi").n(2).build());
        OpenAIClient wrong = client("wrong");
        assertThrows(UnauthorizedException.class, () -> wrong.models().list());
        wrong.close();
    }

    @Test
    void aBodyOverTheLimitIsRefused() throws IOException {
        ChatCompletionCreateParams params =
                asking("tiny").addUserMessage("a".repeat(40_000_000)).build();
        UnexpectedStatusCodeException error = assertThrows(UnexpectedStatusCodeException.class, () -> ask(params));
        assertEquals(413, error.statusCode());
        assertEquals("Four", content(ask(aboutPicture("counts").stop(".").build())));
    }
}
