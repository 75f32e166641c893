package lapidary.hub;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpConnectTimeoutException;
import java.net.http.HttpHeaders;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;

/**
 * Requests to the Hub and to where it sends us: redirects are followed by hand and checked, the token goes to the Hub's own
 * server alone, answers have a longest size, and a connection without a byte for a while is given up. Safe for use by
 * several threads.
 */
final class Http implements AutoCloseable {
    private static final Set<Integer> RETRIED = Set.of(408, 429, 500, 502, 503, 504);
    private static final Set<Integer> REDIRECTS = Set.of(301, 302, 303, 307, 308);
    private static final int MAX_REDIRECTS = 10;
    private static final int LONGEST_ANSWER = 64 << 20; // bytes of JSON held in memory
    private static final int SLOW = 5; // commits of many files take minutes
    private static final int WHOLE = 10; // silences that an answer held in memory may take in all
    private static final Duration TICK = Duration.ofMillis(100);
    private static final Pattern RATE_LIMIT = Pattern.compile(";\\s*r\\s*=\\s*(\\d+)\\s*;\\s*t\\s*=\\s*(\\d{1,6})");

    private final HubSettings settings;
    private final HubListener listener;
    private final Destinations destinations;
    private final HttpClient client;
    private volatile boolean answered; // by any server, or known to answer

    Http(HubSettings settings, HubListener listener) {
        this.settings = settings;
        this.listener = listener;
        this.destinations = new Destinations(settings.endpoint());
        this.client = HttpClient.newBuilder()
                .version(HttpClient.Version.HTTP_1_1) // a connection a file: HTTP/2 would share one among all
                .followRedirects(HttpClient.Redirect.NEVER)
                .proxy(settings.proxies())
                .connectTimeout(settings.patience().connect())
                .build();
    }

    /** What is sent; a retry asks for it again. */
    @FunctionalInterface
    interface Body {
        /** @param alive to be told of bytes that were handed over */
        HttpRequest.BodyPublisher publisher(Runnable alive);

        static Body of(byte[] bytes) {
            return alive -> HttpRequest.BodyPublishers.ofByteArray(bytes);
        }
    }

    /** Receives the content of an answer with a status of 200 or 206; an exception ends the transfer. */
    interface Sink {
        void begin(int status, HttpHeaders headers) throws IOException;

        void write(ByteBuffer bytes) throws IOException;
    }

    /**
     * A request. {@code home}: redirects away from the Hub's own server are answers, not followed. {@code slow}: the server
     * may think for long.
     */
    record Call(String method, URI uri, Map<String, String> headers, Body body, boolean home, boolean slow) {
        static Call get(URI uri) {
            return new Call("GET", uri, Map.of(), null, false, false);
        }

        static Call head(URI uri) {
            return new Call("HEAD", uri, Map.of(), null, true, false);
        }

        static Call post(URI uri, String contentType, byte[] content) {
            return new Call("POST", uri, Map.of("content-type", contentType), Body.of(content), false, true);
        }

        static Call put(URI uri, Body content) {
            return new Call("PUT", uri, Map.of(), content, false, true);
        }

        Call with(String header, String value) {
            Map<String, String> more = new LinkedHashMap<>(headers);
            more.put(header, value);
            return new Call(method, uri, Map.copyOf(more), body, home, slow);
        }
    }

    /** An answer. {@code content} is empty where a sink took it. */
    record Reply(int status, URI uri, HttpHeaders headers, byte[] content) {
        boolean isOk() {
            return status >= 200 && status < 300;
        }

        boolean isRedirect() {
            return REDIRECTS.contains(status);
        }

        String header(String name) {
            return headers.firstValue(name).orElse("");
        }

        String text() {
            return new String(content, StandardCharsets.UTF_8);
        }
    }

    Destinations destinations() {
        return destinations;
    }

    /**
     * The answer to {@code call}, whatever its status; failures of the network and statuses that say "later" are tried
     * again first.
     *
     * @throws HubException no answer came
     */
    Reply send(Call call) {
        for (int failures = 1; ; failures++) {
            try {
                Reply reply = once(call, null);
                if (!isLater(reply) || failures > settings.patience().retries()) {
                    return reply;
                }
                pause(failures, reply);
            } catch (IOException e) {
                if (failures > retries(e)) {
                    throw unreachable(call.uri(), e);
                }
                pause(failures, call.uri(), e);
            }
        }
    }

    /** A server that was never there, as without a network or with a name that is wrong, will not soon be. */
    private int retries(IOException e) {
        boolean noConnection = e instanceof ConnectException || e instanceof HttpConnectTimeoutException;
        return Math.min(settings.patience().retries(), answered || !noConnection ? Integer.MAX_VALUE : 1);
    }

    /** The server has answered this program before: where it cannot be reached now, that will pass. */
    void expectAnswer() {
        answered = true;
    }

    /** Whether the server says that the same request may succeed later. */
    static boolean isLater(Reply reply) {
        return RETRIED.contains(reply.status());
    }

    /** One attempt. */
    Reply once(Call call, Sink sink) throws IOException {
        URI uri = call.uri();
        String method = call.method();
        for (int i = 0; i <= MAX_REDIRECTS; i++) {
            Reply reply = exchange(call, method, uri, sink);
            String location = reply.header("location");
            if (!reply.isRedirect() || location.isEmpty()) {
                return reply;
            }
            URI target = destinations.follow(uri, location);
            if (call.home() && !destinations.isHome(target)) {
                return reply;
            }
            if (reply.status() == 303) {
                method = "GET";
            } else if (call.body() != null && reply.status() != 307 && reply.status() != 308) {
                return reply; // a browser would drop the content here; that is never meant
            }
            uri = target;
        }
        throw new HubException(
                Text.shown(call.uri()) + " redirects more than " + MAX_REDIRECTS + " times; is HF_ENDPOINT right?");
    }

    private Reply exchange(Call call, String method, URI uri, Sink sink) throws IOException {
        AtomicLong lastByte = new AtomicLong(System.nanoTime());
        Runnable alive = () -> lastByte.set(System.nanoTime());
        HttpRequest.Builder request = HttpRequest.newBuilder(uri)
                .header("user-agent", userAgent())
                .header("accept-encoding", "identity"); // sizes and checksums are those of the file itself
        if (destinations.isHome(uri) && settings.token().isPresent()) {
            request.header("authorization", settings.token().bearer());
        }
        call.headers().forEach(request::header);
        if (method.equals("GET")) {
            request.GET();
        } else if (method.equals("HEAD")) {
            request.HEAD();
        } else {
            request.method(method, call.body().publisher(alive));
        }

        CompletableFuture<HttpResponse<byte[]>> future = client.sendAsync(request.build(), info -> {
            boolean taken = sink != null && (info.statusCode() == 200 || info.statusCode() == 206);
            return new Receiver(taken ? sink : new Memory(), info, alive);
        });
        Duration stall = settings.patience().stall().multipliedBy(call.slow() ? SLOW : 1);
        Duration whole = sink == null && call.body() == null ? stall.multipliedBy(WHOLE) : Duration.ofDays(365);
        HttpResponse<byte[]> response = await(future, uri, lastByte, stall, whole);
        answered = true;
        String encoding = response.headers().firstValue("content-encoding").orElse("");
        byte[] content = encoding.equalsIgnoreCase("gzip") && response.body().length > 0
                ? unzipped(response.body())
                : response.body();
        return new Reply(response.statusCode(), uri, response.headers(), content);
    }

    /** Of an answer that is held in memory: proxies zip it, whatever is asked for. */
    static byte[] unzipped(byte[] zipped) throws IOException {
        try (InputStream in = new GZIPInputStream(new ByteArrayInputStream(zipped))) {
            byte[] content = in.readNBytes(LONGEST_ANSWER + 1);
            if (content.length > LONGEST_ANSWER) {
                throw tooLong();
            }
            return content;
        }
    }

    private static HubException tooLong() {
        return new HubException(
                "an answer of the Hub is longer than " + LONGEST_ANSWER + " bytes; is HF_ENDPOINT right?");
    }

    private static String userAgent() {
        String version = Http.class.getPackage().getImplementationVersion();
        return "lapidary/" + (version == null ? "dev" : version) + "; java/"
                + Runtime.version().feature();
    }

    private static <T> T await(
            CompletableFuture<T> future, URI uri, AtomicLong lastByte, Duration stall, Duration whole)
            throws IOException {
        long end = System.nanoTime() + whole.toNanos();
        while (true) {
            try {
                return future.get(TICK.toMillis(), TimeUnit.MILLISECONDS);
            } catch (TimeoutException e) {
                Duration silence = Duration.ofNanos(System.nanoTime() - lastByte.get());
                if (System.nanoTime() > end) { // a short answer that drips in forever
                    future.cancel(true);
                    throw new IOException("no whole answer within " + whole.toSeconds() + " s", e);
                }
                if (silence.compareTo(stall) > 0) {
                    future.cancel(true);
                    throw new IOException("no byte for " + stall.toMillis() / 1000.0 + " s", e);
                }
            } catch (InterruptedException e) {
                future.cancel(true);
                Thread.currentThread().interrupt();
                throw new HubException("stopped while talking to " + Text.shown(uri), e);
            } catch (ExecutionException e) {
                throw failure(e.getCause());
            }
        }
    }

    private static IOException failure(Throwable cause) {
        if (cause instanceof HubException h) {
            throw h;
        }
        if (cause instanceof IOException && cause.getCause() instanceof HubException h) {
            throw h;
        }
        if (cause instanceof Error e) {
            throw e;
        }
        return cause instanceof IOException io ? io : new IOException(cause);
    }

    /** Waits before the next attempt, as long as the answer asks for. */
    void pause(int failures, Reply reply) {
        Duration asked = asked(reply);
        if (asked.compareTo(settings.patience().longestAsked()) > 0) {
            throw new HubException(Text.shown(reply.uri()) + " answers " + reply.status() + " and asks to wait "
                    + asked.toSeconds() + " s, longer than this program waits; try again then");
        }
        pause(settings.patience().before(failures, asked), Text.shown(reply.uri()) + " answers " + reply.status());
    }

    /** Waits before the next attempt. */
    void pause(int failures, URI uri, IOException e) {
        pause(settings.patience().before(failures, Duration.ZERO), Text.shown(uri) + ": " + why(e));
    }

    private void pause(Duration wait, String why) {
        synchronized (listener) {
            listener.onRetry(why, wait);
        }
        try {
            Thread.sleep(wait);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new HubException("stopped while waiting to try again: " + why, e);
        }
    }

    /** Seconds or a date in Retry-After; on the Hub also {@code ratelimit: "api";r=0;t=55}. */
    private static Duration asked(Reply reply) {
        Matcher limit = RATE_LIMIT.matcher(reply.header("ratelimit"));
        if (reply.status() == 429 && limit.find() && limit.group(1).matches("0+")) {
            return Duration.ofSeconds(Long.parseLong(limit.group(2)) + 1);
        }
        String after = reply.header("retry-after").strip();
        if (after.matches("\\d{1,9}")) {
            return Duration.ofSeconds(Long.parseLong(after));
        }
        try {
            Duration wait =
                    Duration.between(Instant.now(), ZonedDateTime.parse(after, DateTimeFormatter.RFC_1123_DATE_TIME));
            return wait.isNegative() ? Duration.ZERO : wait;
        } catch (DateTimeException e) {
            return Duration.ZERO;
        }
    }

    /** The network does not let us through. */
    static final class UnreachableCause extends IOException {
        private static final long serialVersionUID = 1;

        UnreachableCause(String message, Throwable cause) {
            super(message, cause);
        }
    }

    static HubException unreachable(URI uri, IOException e) {
        String message = Text.shown(uri) + " cannot be reached: " + why(e)
                + "; check the network (HTTPS_PROXY?) and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use what was downloaded";
        return new HubException(message, new UnreachableCause(message, e));
    }

    /** What an error of the network says, in words. */
    static String why(IOException e) {
        String text = e.getMessage();
        for (Throwable at = e; at != null && (text == null || text.isBlank()); at = at.getCause()) {
            text = at.getMessage();
        }
        if (hasCause(e, java.nio.channels.UnresolvedAddressException.class)) {
            return "the name of the host is unknown";
        }
        if (hasCause(e, java.net.ConnectException.class) && (text == null || text.isBlank())) {
            return "connection refused";
        }
        return text == null || text.isBlank() ? e.getClass().getSimpleName() : Text.oneLine(text);
    }

    private static boolean hasCause(Throwable e, Class<? extends Throwable> type) {
        for (Throwable at = e; at != null; at = at.getCause()) {
            if (type.isInstance(at)) {
                return true;
            }
        }
        return false;
    }

    @Override
    public void close() {
        client.shutdownNow();
    }

    /** Hands an answer's bytes to a sink as they come, never more than one buffer list ahead of it. */
    private static final class Receiver implements HttpResponse.BodySubscriber<byte[]> {
        private final Sink sink;
        private final HttpResponse.ResponseInfo info;
        private final Runnable alive;
        private final CompletableFuture<byte[]> result = new CompletableFuture<>();
        private Flow.Subscription subscription;

        Receiver(Sink sink, HttpResponse.ResponseInfo info, Runnable alive) {
            this.sink = sink;
            this.info = info;
            this.alive = alive;
        }

        @Override
        public CompletionStage<byte[]> getBody() {
            return result;
        }

        @Override
        public void onSubscribe(Flow.Subscription s) {
            subscription = s;
            alive.run();
            try {
                sink.begin(info.statusCode(), info.headers());
                s.request(1);
            } catch (IOException | RuntimeException e) {
                stop(e);
            }
        }

        @Override
        public void onNext(List<ByteBuffer> buffers) {
            alive.run();
            if (result.isDone()) {
                return;
            }
            try {
                for (ByteBuffer buffer : buffers) {
                    sink.write(buffer);
                }
                subscription.request(1);
            } catch (IOException | RuntimeException e) {
                stop(e);
            }
        }

        private void stop(Exception e) {
            subscription.cancel();
            result.completeExceptionally(e);
        }

        @Override
        public void onError(Throwable error) {
            result.completeExceptionally(error);
        }

        @Override
        public void onComplete() {
            result.complete(sink instanceof Memory memory ? memory.bytes.toByteArray() : new byte[0]);
        }
    }

    /** Keeps a short answer. */
    private static final class Memory implements Sink {
        private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

        @Override
        public void begin(int status, HttpHeaders headers) {
            // nothing to prepare
        }

        @Override
        public void write(ByteBuffer part) throws IOException {
            if (bytes.size() + part.remaining() > LONGEST_ANSWER) {
                throw tooLong();
            }
            byte[] copy = new byte[part.remaining()];
            part.get(copy);
            bytes.write(copy);
        }
    }
}
