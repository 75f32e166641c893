package lapidary.serve;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;
import lapidary.infer.Answer;
import lapidary.infer.FinishReason;
import lapidary.infer.Generation;
import lapidary.infer.InferenceException;
import lapidary.infer.LanguageModel;

/**
 * OpenAI's HTTP interface over a {@link LanguageModel}: {@code /v1/chat/completions}, {@code /v1/models}, {@code /health} and
 * {@code /metrics}. Each request has a virtual thread; the model decides what runs when. Adapters that are attached to the
 * model, at any time, are models of this interface under their names.
 *
 * <p>Errors are OpenAI's JSON with a status of 4xx for what the client can mend. Nothing outside of a request is read: URLs
 * are not fetched.
 */
public final class ChatServer implements AutoCloseable {
    private static final System.Logger LOG = System.getLogger(ChatServer.class.getName());

    private static final int BACKLOG = 512; // connections that the kernel holds until they are accepted
    private static final String CHAT = "/v1/chat/completions";
    private static final String MODELS = "/v1/models";

    /** Share of the heap that requests may take; the rest is for pictures at work, answers and whoever embeds the server. */
    private static final double HEAP_SHARE = 0.5;

    private final LanguageModel model;
    private final ServerOptions options;
    private final Consumer<String> log;
    private final HttpServer http;
    private final Gate gate;
    private final ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
    private final Semaphore admitted;
    private final Memory memory = new Memory((long) (Runtime.getRuntime().maxMemory() * HEAP_SHARE));
    private final ReentrantLock decoding =
            new ReentrantLock(true); // a large picture may take most of the heap: one by one
    private final Set<Generation> running = ConcurrentHashMap.newKeySet();
    private final Metrics metrics = new Metrics();
    private final long created = Instant.now().getEpochSecond();
    private volatile boolean closing;

    private ChatServer(LanguageModel model, ServerOptions options, Consumer<String> log, HttpServer http) {
        this.model = model;
        this.options = options;
        this.log = log;
        this.http = http;
        this.gate = new Gate(options, http.getAddress().getAddress());
        this.admitted = new Semaphore(options.maxRequests());
    }

    /**
     * Listens. The model is the caller's, to be closed after the server.
     *
     * @param log takes a line for each request that was answered, without anything of its content; called from many threads
     * @throws IllegalArgumentException where the address cannot be listened on
     */
    public static ChatServer start(LanguageModel model, ServerOptions options, Consumer<String> log) {
        InetSocketAddress address = new InetSocketAddress(options.host(), options.port());
        String named = options.host() + ":" + options.port();
        if (address.isUnresolved()) {
            throw new IllegalArgumentException("cannot listen on " + named + ": no such host");
        }
        HttpServer http;
        try {
            http = HttpServer.create(address, BACKLOG);
        } catch (IOException e) {
            throw new IllegalArgumentException("cannot listen on " + named + ": " + e.getMessage(), e);
        }
        ChatServer server = new ChatServer(model, options, log, http);
        http.setExecutor(server.threads);
        http.createContext("/", server::handle);
        http.start();
        return server;
    }

    /** What clients take as their base URL, as {@code http://127.0.0.1:8000/v1}. */
    public URI uri() {
        String host = options.host().contains(":") ? "[" + options.host() + "]" : options.host();
        return URI.create("http://" + host + ":" + http.getAddress().getPort() + "/v1");
    }

    /** Whether only programs of this machine reach it. */
    public boolean isLocal() {
        return http.getAddress().getAddress().isLoopbackAddress();
    }

    /**
     * Takes no more requests, lets those at work end for {@link ServerOptions#grace}, cuts off the others, and frees the port.
     */
    @Override
    public synchronized void close() {
        if (closing) {
            return; // it has been closed
        }
        closing = true;
        if (!idleWithin(options.grace())) {
            running.forEach(Generation::cancel);
            idleWithin(options.stall());
        }
        http.stop(1); // seconds that last words may take
        threads.shutdownNow();
    }

    /** Whether all chats have ended, so that this server has all places to itself. */
    private boolean idleWithin(Duration time) {
        try {
            return admitted.tryAcquire(options.maxRequests(), time.toNanos(), TimeUnit.NANOSECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return false;
        }
    }

    // ---- requests ------------------------------------------------------------------------------------------------

    /** A throw of an IOException closes the connection before the response is complete, which is how a client learns of it. */
    private void handle(HttpExchange exchange) throws IOException {
        Call call = new Call(exchange, System.nanoTime());
        try {
            try {
                route(call);
            } catch (ApiError e) {
                refuse(call, e);
            } catch (FormatException e) {
                refuse(call, ApiError.badRequest(null, e.getMessage()));
            } catch (OutOfMemoryError e) {
                refuse(call, ApiError.unavailable("the server ran out of memory on this request; send less"));
            } catch (RuntimeException | Error e) {
                if (e instanceof ClientGone || e instanceof CancellationException) {
                    throw e;
                }
                LOG.log(System.Logger.Level.ERROR, "a request failed", e);
                refuse(call, ApiError.internal("the server failed on this request; its log says why"));
            }
        } catch (ClientGone | CancellationException | IOException e) {
            if (isChat(call)) {
                metrics.clientGone();
            }
            log.accept(call.line("gone"));
            throw e instanceof IOException io ? io : new IOException(e);
        }
        exchange.close();
    }

    private void route(Call call) throws IOException {
        gate.check(call.http());
        String path = String.valueOf(call.http().getRequestURI().getPath());
        boolean ofModels = path.equals(MODELS) || path.startsWith(MODELS + "/");
        boolean known = path.equals(CHAT) || ofModels;
        if (path.equals(CHAT) || path.equals("/health") || path.equals("/metrics") || ofModels) {
            call.asksFor(ofModels ? MODELS : path);
        }
        if (call.method().equals("OPTIONS")
                && known
                && call.http().getRequestHeaders().containsKey("Origin")) {
            gate.allowPreflight(call.http());
            call.http().sendResponseHeaders(204, -1);
            return;
        }
        if (path.equals("/health")) {
            call.requireGet();
            reply(
                    call,
                    closing ? 503 : 200,
                    "application/json",
                    closing ? "{\"status\":\"closing\"}" : "{\"status\":\"ok\"}");
            return;
        }
        gate.checkKey(call.http());
        if (path.equals(CHAT)) {
            call.requirePost();
            chat(call);
        } else if (path.equals(MODELS)) {
            call.requireGet();
            List<Object> all = new ArrayList<>();
            names().forEach(name -> all.add(described(name)));
            reply(call, 200, "application/json", JsonWriter.compact(Map.of("object", "list", "data", all)));
        } else if (path.startsWith(MODELS + "/")) {
            call.requireGet();
            String name = path.substring(MODELS.length() + 1);
            requireModel(name);
            reply(call, 200, "application/json", JsonWriter.compact(described(name)));
        } else if (path.equals("/metrics")) {
            call.requireGet();
            String text = metrics.text(options.maxRequests() - admitted.availablePermits());
            reply(call, 200, "text/plain; version=0.0.4; charset=utf-8", text);
        } else {
            throw ApiError.invalid(
                    404,
                    "unknown_url",
                    "there is nothing here; this server has " + CHAT + ", " + MODELS + ", /health and" + " /metrics");
        }
    }

    private List<String> names() {
        List<String> names = new ArrayList<>(List.of(options.modelName()));
        model.adapters().stream()
                .filter(name -> !name.equals(options.modelName()))
                .forEach(names::add);
        return names;
    }

    private void requireModel(String name) {
        List<String> names = names();
        if (!names.contains(name)) {
            String shown = name.length() > 100 ? name.substring(0, 100) + "..." : name;
            throw new ApiError(
                    404,
                    "invalid_request_error",
                    "model",
                    "model_not_found",
                    "there is no model " + shown + "; this server has " + String.join(", ", names));
        }
    }

    private Map<String, Object> described(String name) {
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("id", name);
        out.put("object", "model");
        out.put("created", created);
        out.put("owned_by", "lapidary");
        out.put("parent", name.equals(options.modelName()) ? null : options.modelName());
        out.put("max_model_len", model.contextLength());
        return out;
    }

    // ---- chats ---------------------------------------------------------------------------------------------------

    private void chat(Call call) throws IOException {
        if (closing || !admitted.tryAcquire()) {
            throw closing
                    ? ApiError.unavailable("the server is shutting down")
                    : ApiError.busy("the server has " + options.maxRequests() + " chats at work; try again");
        }
        try {
            answer(call);
        } finally {
            admitted.release();
        }
    }

    private void answer(Call call) throws IOException {
        ChatRequest request = read(call);
        requireModel(request.model());
        call.asks(request.model());
        if (request.images() > 0 && !model.takesImages()) {
            throw ApiError.badImage("messages", "the request has pictures, but the model reads text only");
        }
        Memory.Share pictures = memory.take(Memory.ofPictures(request.images()), "the pictures");
        try {
            answer(call, request, begin(request));
        } finally {
            pictures.giveBack();
        }
    }

    private ChatRequest read(Call call) throws IOException {
        long limit = options.maxBodyBytes();
        Memory.Share body = memory.take(Memory.ofBody(call.bodyLength(limit)), "the request");
        try {
            return ChatRequest.of(Json.parse("the request", call.body(limit)), model.defaults(), options.maxImages());
        } finally {
            body.giveBack();
        }
    }

    private void answer(Call call, ChatRequest request, Generation generation) throws IOException {
        running.add(generation);
        try {
            if (closing) {
                generation.cancel(); // whoever closes may have looked before it was there
            }
            if (request.stream()) {
                stream(call, request, generation);
            } else {
                whole(call, request, generation);
            }
        } finally {
            generation.cancel(); // where anything went wrong; one that is finished does not mind
            running.remove(generation);
        }
    }

    private Generation begin(ChatRequest request) {
        String adapter = request.model().equals(options.modelName()) ? LanguageModel.BASE : request.model();
        boolean pictures = request.images() > 0;
        if (pictures) {
            decoding.lock();
        }
        try {
            return model.generate(request.messages(), request.options().withAdapter(adapter));
        } catch (IllegalArgumentException e) {
            requireModel(request.model()); // it may have been detached in this very moment
            throw ApiError.badRequest("messages", e.getMessage());
        } catch (FormatException e) {
            throw ApiError.badImage("messages", e.getMessage());
        } catch (IllegalStateException e) {
            throw ApiError.unavailable("the server is shutting down");
        } finally {
            if (pictures) {
                decoding.unlock();
            }
        }
    }

    private void whole(Call call, ChatRequest request, Generation generation) throws IOException {
        Wording wording = new Wording(request.model(), false);
        call.http().getResponseHeaders().set("Content-Type", "application/json");
        try (Wire wire = wire(call, " ", generation)) { // JSON may begin with spaces
            try {
                wire.end(wording.whole(finished(call, generation.answer())));
            } catch (ApiError e) {
                if (wire.hasBegun()) {
                    throw new IOException(e); // too late for a status
                }
                throw e;
            } catch (InferenceException e) {
                LOG.log(System.Logger.Level.ERROR, "an answer failed", e);
                if (wire.hasBegun()) {
                    throw new IOException(e);
                }
                throw ApiError.internal(e.getMessage());
            }
        }
        responded(call, 200);
    }

    private void stream(Call call, ChatRequest request, Generation generation) {
        Wording wording = new Wording(request.model(), request.usage());
        call.http().getResponseHeaders().set("Content-Type", "text/event-stream; charset=utf-8");
        call.http().getResponseHeaders().set("Cache-Control", "no-cache");
        call.http().getResponseHeaders().set("X-Accel-Buffering", "no"); // nginx would collect events
        try (Wire wire = wire(call, ": waiting\n\n", generation)) {
            wire.send(wording.first());
            try {
                Answer answer = generation.stream(piece -> {
                    call.spoke(metrics);
                    wire.send(wording.piece(piece));
                });
                wire.end(wording.last(finished(call, answer)));
                responded(call, 200);
            } catch (ApiError e) {
                wire.end(Wording.event(e.json()));
                responded(call, e.status());
            } catch (InferenceException e) {
                LOG.log(System.Logger.Level.ERROR, "an answer failed", e);
                wire.end(Wording.event(ApiError.internal(e.getMessage()).json()));
                responded(call, 500);
            }
        }
    }

    private Wire wire(Call call, String harmless, Generation generation) {
        return new Wire(call.http(), harmless, options.heartbeat(), options.stall(), generation::cancel);
    }

    /** An answer that is one; what was cancelled is none. */
    private Answer finished(Call call, Answer answer) {
        if (answer.finishReason() == FinishReason.CANCELLED) {
            throw closing ? ApiError.unavailable("the server is shutting down") : new ClientGone(null);
        }
        metrics.answered(answer.usage(), call.nanos());
        call.took(answer.usage());
        return answer;
    }

    // ---- responses -----------------------------------------------------------------------------------------------

    private void responded(Call call, int status) {
        if (isChat(call)) {
            metrics.responded(status);
        }
        log.accept(call.line(Integer.toString(status)));
    }

    private static boolean isChat(Call call) {
        return CHAT.equals(call.http().getRequestURI().getPath());
    }

    private void refuse(Call call, ApiError error) throws IOException {
        if (error.status() == 429) {
            call.http().getResponseHeaders().set("Retry-After", Integer.toString(metrics.secondsOfAnAnswer()));
        }
        call.discardBody(options.maxBodyBytes());
        reply(call, error.status(), "application/json", error.json());
        responded(call, error.status());
    }

    private static void reply(Call call, int status, String type, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        call.http().getResponseHeaders().set("Content-Type", type);
        if (call.method().equals("HEAD")) {
            call.http().sendResponseHeaders(status, -1);
            return;
        }
        call.http().sendResponseHeaders(status, body.length);
        call.http().getResponseBody().write(body);
        call.http().getResponseBody().close();
    }
}
