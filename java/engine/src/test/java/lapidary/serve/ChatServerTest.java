package lapidary.serve;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.ConnectException;
import java.net.Socket;
import java.net.http.HttpRequest;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import lapidary.DeviceTest;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Json;
import lapidary.format.JsonWriter;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** The HTTP interface with a real client and the tiny model: answers, streams, refusals, and clients that leave. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
@Timeout(value = 120, unit = TimeUnit.SECONDS) // until something counts as hanging
final class ChatServerTest extends DeviceTest {
    private static final String HOW_MANY = "How many shapes are there?";
    private static final ServerOptions OPTIONS =
            ServerOptions.DEFAULT.withAddress("127.0.0.1", 0).withModelName("tiny");
    private static final LoadOptions LOAD = LoadOptions.DEFAULT.withDtype(DType.F32);

    @TempDir
    private Path folder;

    private final LinkedBlockingQueue<String> log = new LinkedBlockingQueue<>();
    private LanguageModel model;
    private ChatServer server;
    private Client client;

    ChatServerTest(Device device) {
        super(device);
    }

    private void serve() {
        serve(Demo.BASE, LOAD, OPTIONS);
    }

    private void serve(Path base, LoadOptions load, ServerOptions options) {
        model = LanguageModel.load(base, load, device);
        server = ChatServer.start(model, options, log::add);
        client = new Client(server);
    }

    private void serveEndless(ServerOptions options) throws IOException {
        serve(Demo.endless(folder.resolve("endless")), LOAD, options);
    }

    @AfterEach
    void end() {
        if (client != null) {
            client.close();
        }
        if (server != null) {
            server.close();
        }
        if (model != null) {
            model.close();
        }
    }

    // ---- answers -------------------------------------------------------------------------------------------------

    @Test
    void anAnswerIsOpenAis() throws IOException, InterruptedException {
        serve();
        model.attach("counts", Demo.ADAPTER);
        Client.Reply reply = client.ask(Client.chat("counts", Client.withPicture(HOW_MANY, 0)));
        assertEquals(200, reply.status(), reply.body());
        assertEquals("Four.", reply.content());
        assertEquals("stop", reply.finishReason());
        assertEquals("application/json", reply.header("content-type"));
        Json json = reply.json();
        assertTrue(json.string("id").startsWith("chatcmpl-"));
        assertEquals("chat.completion", json.string("object"));
        assertEquals("counts", json.string("model"));
        Json usage = json.get("usage");
        assertEquals(
                usage.integer("total_tokens"), usage.integer("prompt_tokens") + usage.integer("completion_tokens"));
        assertTrue(usage.integer("prompt_tokens") > 16);
        String line = log.take();
        assertTrue(line.startsWith("POST /v1/chat/completions 200 ") && line.contains("model=counts"), line);
    }

    @Test
    void aStreamIsTheAnswerInPieces() throws IOException, InterruptedException {
        serve();
        Object question = Client.withPicture("What is it?", 1);
        String whole = client.ask(Client.chat("tiny", question)).content();
        Client.Reply reply = client.ask(
                Client.chat("tiny", question, "stream", true, "stream_options", Map.of("include_usage", true)));
        assertEquals(200, reply.status());
        assertTrue(reply.header("content-type").startsWith("text/event-stream"));
        assertEquals(whole, reply.streamed());
        List<String> events = reply.events();
        assertTrue(events.size() > 5, events.toString());
        assertEquals("[DONE]", events.get(events.size() - 1));
        Json first = Json.parse("first", events.get(0));
        assertEquals("chat.completion.chunk", first.string("object"));
        assertEquals(
                "assistant", first.get("choices").elements().get(0).get("delta").string("role"));
        Json finish = Json.parse("finish", events.get(events.size() - 3))
                .get("choices")
                .elements()
                .get(0);
        assertTrue(finish.get("delta").keys().isEmpty());
        assertEquals("stop", finish.string("finish_reason"));
        Json usage = Json.parse("usage", events.get(events.size() - 2));
        assertEquals(0, usage.get("choices").elements().size());
        assertTrue(usage.get("usage").integer("completion_tokens") > 4);
        Client.Reply without = client.ask(Client.chat("tiny", question, "stream", true));
        assertEquals(events.size() - 1, without.events().size());
        assertFalse(without.body().contains("usage"));
    }

    @Test
    void optionsAreHeeded() throws IOException, InterruptedException {
        serveEndless(OPTIONS);
        Client.Reply reply = client.ask(Client.chat("tiny", "Go on", "max_tokens", 100, "max_completion_tokens", 5));
        assertEquals(5, reply.json().get("usage").integer("completion_tokens"));
        assertEquals("length", reply.finishReason());
        String whole = client.ask(Client.chat("tiny", "Go on")).content();
        String stop = whole.substring(8, 11);
        String before = whole.substring(0, whole.indexOf(stop));
        for (Object stops : List.of(stop, List.of("never", stop))) {
            Client.Reply stopped = client.ask(Client.chat("tiny", "Go on", "stop", stops));
            assertEquals(before, stopped.content());
            assertEquals("stop", stopped.finishReason());
        }
        Object[] drawn = {"temperature", 2, "top_p", 0.9, "top_k", -1, "seed", 3};
        String once = client.ask(Client.chat("tiny", "Go on", drawn)).content();
        assertEquals(once, client.ask(Client.chat("tiny", "Go on", drawn)).content());
        drawn[7] = 4;
        assertNotEquals(once, client.ask(Client.chat("tiny", "Go on", drawn)).content());
        Object[] harmless = {
            "n", 1, "tools", List.of(), "user", "me", "frequency_penalty", 0, "response_format", Map.of("type", "text")
        };
        assertEquals(whole, client.ask(Client.chat("tiny", "Go on", harmless)).content());
    }

    @Test
    void rolesAndPartsMakeTheConversation() throws IOException, InterruptedException {
        serve();
        Map<String, Object> body = Client.chat("tiny", "");
        body.put(
                "messages",
                List.of(
                        Map.of("role", "developer", "content", "Be brief."),
                        Map.of("role", "user", "content", Client.withPicture("What is it?", 0)),
                        Map.of("role", "assistant", "content", "A star."),
                        Map.of("role", "user", "content", List.of(Map.of("type", "text", "text", "And now?")))));
        Client.Reply developer = client.ask(body);
        assertEquals(200, developer.status(), developer.body());
        Client.Reply system = client.post(JsonWriter.compact(body).replace("developer", "system"));
        assertEquals(system.content(), developer.content());
        assertEquals(
                system.json().get("usage").integer("prompt_tokens"),
                developer.json().get("usage").integer("prompt_tokens"));
    }

    @Test
    void adaptersAreModels() throws IOException, InterruptedException {
        serve();
        model.attach("counts", Demo.ADAPTER);
        model.attach("opposite", Demo.opposite(folder.resolve("opposite")));
        Set<String> answers = new HashSet<>();
        for (String name : List.of("tiny", "counts", "opposite")) {
            answers.add(client.ask(Client.chat(name, Client.withPicture(HOW_MANY, 0)))
                    .content());
            assertEquals(name, client.get("/v1/models/" + name).json().string("id"));
        }
        assertEquals(3, answers.size(), answers.toString());
        List<Json> models = client.get("/v1/models").json().get("data").elements();
        assertEquals(
                List.of("tiny", "counts", "opposite"),
                models.stream().map(entry -> entry.string("id")).toList());
        model.detach("opposite");
        assertEquals(404, client.get("/v1/models/opposite").status());
        assertEquals(404, client.ask(Client.chat("opposite", "Hi")).status());
    }

    @Test
    void manyAtOnceGetTheirOwnAnswers() throws Exception {
        serve();
        model.attach("counts", Demo.ADAPTER);
        List<Map<String, Object>> bodies = new ArrayList<>();
        for (int i = 0; i < 32; i++) {
            Object content = i % 4 == 3 ? "Tell me of " + i : Client.withPicture(HOW_MANY, i % 3);
            bodies.add(Client.chat(i % 2 == 0 ? "tiny" : "counts", content, "stream", i % 8 > 3));
        }
        List<String> alone = new ArrayList<>();
        for (Map<String, Object> body : bodies) {
            body.put("stream", false);
            alone.add(client.ask(body).content());
        }
        List<Future<String>> together = new ArrayList<>();
        try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
            for (int i = 0; i < 32; i++) {
                boolean stream = i % 8 > 3;
                Map<String, Object> body = bodies.get(i);
                body.put("stream", stream);
                together.add(threads.submit(() -> {
                    Client.Reply reply = client.ask(body);
                    assertEquals(200, reply.status(), reply.body());
                    return stream ? reply.streamed() : reply.content();
                }));
            }
        }
        for (int i = 0; i < 32; i++) {
            assertEquals(alone.get(i), together.get(i).get(), "request " + i);
        }
        assertEquals(64, client.metric("lapidary_chat_responses_total{status=\"200\"}"));
        assertEquals(64, client.metric("lapidary_chat_seconds_count"));
        client.await("lapidary_chats", 0);
    }

    @Test
    void healthAndMetricsAreTold() throws IOException, InterruptedException {
        serve();
        assertEquals("{\"status\":\"ok\"}", client.get("/health").body());
        long prompt = client.ask(Client.chat("tiny", "Hi")).json().get("usage").integer("prompt_tokens");
        assertEquals(prompt, client.metric("lapidary_prompt_tokens_total"));
        String text = client.get("/metrics").body();
        for (String line : text.split("\n")) {
            assertTrue(
                    line.matches("# (HELP|TYPE) lapidary_\\w+ .+|lapidary_\\w+(\\{status=\"\\d+\"})? [0-9.Ee-]+"),
                    line);
        }
        Client.Reply head = client.send(client.request("/health").method("HEAD", HttpRequest.BodyPublishers.noBody()));
        assertEquals(200, head.status());
    }

    // ---- what is refused -----------------------------------------------------------------------------------------

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '~',
            value = {
                "400|{|not valid JSON",
                "400|[]|expected an object",
                "400|{} {}|something follows",
                "400|{'model': 'tiny'}|no \"messages\"",
                "400|{'messages': [{'role': 'user', 'content': 'Hi'}]}|no \"model\"",
                "404|{'model': 'cats', 'messages': [{'role': 'user', 'content': 'Hi'}]}|there is no model cats; this server has tiny",
                "404|{'model': '', 'messages': [{'role': 'user', 'content': 'Hi'}]}|there is no model",
                "400|{'model': 'tiny', 'model': 'tiny', 'messages': []}|Duplicate field",
                "400|{'model': 'tiny', 'messages': []}|is empty",
                "400|{'model': 'tiny', 'messages': 'Hi'}|messages: expected a list",
                "400|{'model': 'tiny', 'messages': ['Hi']}|messages[0]: expected an object",
                "400|{'model': 'tiny', 'messages': [{'role': 'tool', 'content': 'Hi'}]}|does not call tools",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': null}]}|messages[0].content: expected a string",
                "400|{'model': 'tiny', 'messages': [{'role': 'assistant', 'content': 'Hi'}]}|ends with the model's turn",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': [{'type': 'input_audio'}]}]}|text and image_url",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': 'http://127.0.0.1:1/x.png'}}]}]}|does not fetch",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': 'file:///etc/passwd'}}]}]}|does not fetch",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': '/etc/passwd'}]}]}|does not fetch",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,!!!!'}}]}]}|not valid base64",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,AAA%3D'}}]}]}|not valid base64",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,'}}]}]}|no bytes",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': 'data:text/html;base64,AAAA'}}]}]}|no picture in base64",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,AAAA'}}]}]}|messages[0].content[0].image_url.url",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'n': 2}|n is not supported",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'tools': [{}]}|tools is not supported",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'response_format': {'type': 'json_object'}}|plain text",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'frequency_penalty': 0.5}|frequency_penalty is not supported",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'temperature': 3}|temperature",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'temperature': NaN}|temperature",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'top_p': 0}|top_p",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'max_tokens': 0}|max_tokens",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'max_tokens': 'x'}|max_tokens",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'seed': 1e30}|seed",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'stop': ['']}|stop[0]: is empty",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'stop': 5}|stop",
                "400|{'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Hi'}], 'stream_options': {}}|stream_options goes with",
            })
    void mistakesAreNamed(int status, String body, String said) throws IOException, InterruptedException {
        serve();
        Client.Reply reply = client.post(body.replace('\'', '"'));
        assertEquals(status, reply.status(), reply.body());
        assertTrue(reply.error().contains(said), reply.error());
        assertEquals("invalid_request_error", reply.json().get("error").string("type"));
        assertEquals(
                status == 404 ? "model_not_found" : "",
                status == 404 ? reply.json().get("error").string("code") : "");
        assertEquals(200, client.ask(Client.chat("tiny", "Hi")).status());
    }

    @Test
    void whatIsTooMuchIsRefused() throws IOException, InterruptedException {
        serve(Demo.BASE, LOAD.withContextLength(200), OPTIONS.withLimits(4, 1 << 20, 2));
        String tooLong = "a".repeat(1 << 20);
        assertEquals(413, client.ask(Client.chat("tiny", tooLong)).status());
        byte[] chunked = JsonWriter.compact(Client.chat("tiny", tooLong)).getBytes(StandardCharsets.UTF_8);
        Client.Reply reply = client.send(client.request("/v1/chat/completions")
                .POST(HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(chunked))));
        assertEquals(413, reply.status());
        assertTrue(reply.error().contains("1048576 bytes"), reply.error());
        Client.Reply prompt = client.ask(Client.chat("tiny", "word ".repeat(300)));
        assertEquals(400, prompt.status());
        assertTrue(prompt.error().contains("in a context of 200"), prompt.error());
        List<Object> crowd = new ArrayList<>();
        for (int i = 0; i < 10_000; i++) {
            crowd.add(Map.of("type", "image_url", "image_url", Map.of("url", "data:image/png;base64,AAAA")));
        }
        Client.Reply pictures = client.ask(Client.chat("tiny", crowd));
        assertEquals(400, pictures.status());
        assertTrue(pictures.error().contains("more than 2 pictures"), pictures.error());
        assertEquals(415, client.post("{}", "Content-Encoding", "gzip").status());
    }

    @Test
    void unknownPlacesAndMethodsAreRefused() throws IOException, InterruptedException {
        serve();
        for (String path :
                List.of("/", "/v1", "/v1/completions", "/v1/chat/completions/x", "/%00", "/v1/models/none")) {
            Client.Reply reply = client.get(path);
            assertEquals(404, reply.status(), path);
            assertFalse(reply.error().isEmpty());
        }
        Client.Reply get = client.get("/v1/chat/completions");
        assertEquals(405, get.status());
        assertEquals("POST", get.header("allow"));
        assertEquals(405, client.send(client.request("/health").DELETE()).status());
        String metrics = client.get("/metrics").body();
        assertTrue(
                metrics.contains("lapidary_chat_responses_total{status=\"405\"} 1\n"), metrics); // of the chat's path
        assertFalse(metrics.contains("lapidary_chat_responses_total{status=\"404\"}"), metrics);
    }

    @Test
    void withoutTheKeyNothingIsTold() throws IOException, InterruptedException {
        serve(Demo.BASE, LOAD, OPTIONS.withApiKey(ApiKey.of("s3cret")));
        String body = JsonWriter.compact(Client.chat("tiny", "Hi"));
        assertEquals(200, client.post(body, "Authorization", "Bearer s3cret").status());
        assertEquals(200, client.post(body, "Authorization", "bearer s3cret").status());
        for (String wrong : List.of("Bearer s3cre", "Bearer s3crets", "Bearer ", "s3cret", "Basic s3cret")) {
            Client.Reply reply = client.post(body, "Authorization", wrong);
            assertEquals(401, reply.status(), wrong);
            assertEquals("invalid_api_key", reply.json().get("error").string("code"));
            assertFalse(reply.body().contains("s3cre"), reply.body());
        }
        for (String path : List.of("/v1/models", "/metrics", "/nothing")) {
            assertEquals(401, client.get(path).status(), path);
        }
        assertEquals(401, client.post("x".repeat(100_000)).status());
        assertEquals(200, client.get("/health").status());
        assertFalse(log.toString().contains("s3cre"));
        assertEquals("***", ApiKey.of("s3cret").toString());
        assertFalse(OPTIONS.withApiKey(ApiKey.of("s3cret")).toString().contains("s3cret"));
        for (String bad : List.of("", "a b", "ü", "a\n")) {
            assertThrows(IllegalArgumentException.class, () -> ApiKey.of(bad));
        }
    }

    @Test
    void pagesOfTheWebMayNotAsk() throws IOException, InterruptedException {
        serve(Demo.BASE, LOAD, OPTIONS.withOrigins(Set.of("http://localhost:3000")));
        String body = JsonWriter.compact(Client.chat("tiny", "Hi"));
        for (String host : List.of("evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example")) {
            try (Socket socket = client.open(body, "Host: " + host)) {
                assertTrue(Client.readUntil(socket, "\r\n").contains(" 403 "), host);
            }
        }
        for (String host : List.of("localhost:8000", "127.0.0.1", "[::1]:9")) {
            try (Socket socket = client.open(body, "Host: " + host)) {
                assertTrue(Client.readUntil(socket, "\r\n").contains(" 200 "), host);
            }
        }
        assertEquals(403, client.post(body, "Origin", "http://evil.example").status());
        Client.Reply allowed = client.post(body, "Origin", "http://localhost:3000");
        assertEquals("http://localhost:3000", allowed.header("access-control-allow-origin"));
        Client.Reply preflight = client.send(client.request(
                        "/v1/chat/completions",
                        "Origin",
                        "http://localhost:3000",
                        "Access-Control-Request-Headers",
                        "authorization")
                .method("OPTIONS", HttpRequest.BodyPublishers.noBody()));
        assertEquals(204, preflight.status());
        assertEquals("authorization", preflight.header("access-control-allow-headers"));
    }

    // ---- clients that leave, and crowds ----------------------------------------------------------------------------

    private static String endlessChat(boolean stream) {
        return endlessChat("tiny", stream);
    }

    private static String endlessChat(String name, boolean stream) {
        return JsonWriter.compact(Client.chat(name, "Go on", "max_tokens", 30_000, "temperature", 2, "stream", stream));
    }

    @Test
    void aStreamsClientThatLeavesEndsItsChat() throws IOException, InterruptedException {
        serveEndless(OPTIONS);
        try (Socket socket = client.open(endlessChat(true))) {
            Client.readUntil(socket, "\"content\":\"");
            assertEquals(1, client.metric("lapidary_chats"));
        }
        client.await("lapidary_chats", 0);
        assertEquals(1, client.metric("lapidary_clients_gone_total"));
        assertEquals(200, client.ask(Client.chat("tiny", "Hi")).status());
    }

    @Test
    void aWaitingClientThatLeavesEndsItsChat() throws IOException, InterruptedException {
        serveEndless(OPTIONS.withTimes(Duration.ofMillis(50), Duration.ofSeconds(30), Duration.ZERO));
        try (Socket socket = client.open(endlessChat(false))) {
            client.await("lapidary_chats", 1);
            assertTrue(socket.isConnected());
        }
        client.await("lapidary_chats", 0);
        assertEquals(1, client.metric("lapidary_clients_gone_total"));
    }

    /** Long names fill what the system keeps for a connection soon. */
    @Test
    void aClientThatTakesNothingIsGone() throws IOException, InterruptedException {
        String name = "n".repeat(100_000);
        serveEndless(
                OPTIONS.withModelName(name).withTimes(Duration.ofMillis(50), Duration.ofMillis(300), Duration.ZERO));
        try (Socket socket = client.open(endlessChat(name, true))) {
            client.await("lapidary_clients_gone_total", 1);
            client.await("lapidary_chats", 0);
            assertTrue(socket.isConnected());
        }
    }

    @Test
    void aLongWaitIsToldAndChangesNoAnswer() throws IOException, InterruptedException {
        serveEndless(OPTIONS);
        Map<String, Object> body = Client.chat("tiny", "Go on", "max_tokens", 60);
        String whole = client.ask(body).content();
        server.close();
        client.close();
        server = ChatServer.start(
                model, OPTIONS.withTimes(Duration.ofMillis(1), Duration.ofSeconds(30), Duration.ZERO), log::add);
        client = new Client(server);
        Client.Reply waited = client.ask(body);
        assertTrue(waited.body().startsWith(" "), waited.body());
        assertEquals(whole, waited.content());
        body.put("stream", true);
        Client.Reply stream = client.ask(body);
        assertTrue(stream.body().contains(": waiting\n\n"), stream.body());
        assertEquals(whole, stream.streamed());
    }

    @Test
    void aFullServerSaysWhenToComeAgain() throws IOException, InterruptedException {
        serveEndless(OPTIONS.withLimits(2, 1 << 20, 2));
        try (Socket one = client.open(endlessChat(true));
                Socket other = client.open(endlessChat(true))) {
            Client.readUntil(one, "data: ");
            Client.readUntil(other, "data: ");
            Client.Reply reply = client.ask(Client.chat("tiny", "Hi"));
            assertEquals(429, reply.status());
            assertEquals("rate_limit_exceeded", reply.json().get("error").string("code"));
            assertTrue(Integer.parseInt(reply.header("retry-after")) >= 1);
            assertEquals(200, client.get("/health").status());
            assertEquals(200, client.get("/v1/models").status());
        }
        client.await("lapidary_chats", 0);
        assertEquals(200, client.ask(Client.chat("tiny", "Hi")).status());
    }

    @Test
    void memoryOfRequestsIsLimitedAsAWhole() {
        Memory memory = new Memory(1 << 20);
        assertEquals(
                413,
                assertThrows(ApiError.class, () -> memory.take((1 << 20) + 1, "it"))
                        .status());
        Memory.Share first = memory.take(1 << 19, "it");
        Memory.Share second = memory.take((1 << 19) - 1, "it");
        assertEquals(
                429, assertThrows(ApiError.class, () -> memory.take(1, "it")).status());
        first.giveBack();
        second.giveBack();
        assertTrue(memory.isFree());
    }

    @Test
    void closingEndsChatsAndFreesThePort() throws IOException, InterruptedException {
        serveEndless(OPTIONS.withTimes(Duration.ofSeconds(5), Duration.ofSeconds(30), Duration.ofMillis(100)));
        CompletableFuture<Client.Reply> stream = new CompletableFuture<>();
        CompletableFuture<Client.Reply> whole = new CompletableFuture<>();
        Thread.ofVirtual().start(() -> complete(stream, endlessChat(true)));
        Thread.ofVirtual().start(() -> complete(whole, endlessChat(false)));
        client.await("lapidary_chats", 2);
        server.close();
        server.close(); // again, which does nothing
        assertTrue(stream.join().body().contains("\"error\""), stream.join().body());
        assertTrue(stream.join().body().contains("shutting down"));
        assertFalse(stream.join().body().contains("[DONE]"));
        assertEquals(503, whole.join().status());
        assertThrows(ConnectException.class, () -> client.get("/health"));
        ChatServer.start(model, OPTIONS.withAddress("127.0.0.1", server.uri().getPort()), log::add)
                .close();
    }

    private void complete(CompletableFuture<Client.Reply> future, String body) {
        try {
            future.complete(client.post(body));
        } catch (IOException | InterruptedException e) {
            future.completeExceptionally(e);
        }
    }

    @Test
    void anAddressThatIsTakenIsNamed() {
        serve();
        ServerOptions taken = OPTIONS.withAddress("127.0.0.1", server.uri().getPort());
        String message = assertThrows(IllegalArgumentException.class, () -> ChatServer.start(model, taken, log::add))
                .getMessage();
        assertTrue(message.contains("cannot listen on 127.0.0.1:" + taken.port()), message);
        assertThrows(
                IllegalArgumentException.class,
                () -> ChatServer.start(model, OPTIONS.withAddress("no.such.host.invalid", 0), log::add));
    }
}
