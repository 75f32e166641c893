package lapidary.serve;

import com.sun.net.httpserver.HttpExchange;
import java.io.IOException;
import java.io.InputStream;
import java.util.Locale;
import java.util.Set;
import lapidary.infer.Usage;

/** One request and what is noted about it; for its thread alone. */
final class Call {
    /** Methods that a log line may name; a client can invent others. */
    private static final Set<String> METHODS = Set.of("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH");

    /** How much more than the limit is read, and thrown away, of a body that is too long, so that its sender hears why. */
    private static final int PATIENCE = 4;

    private final HttpExchange http;
    private final long begun; // System.nanoTime()
    private String what = "unknown";
    private String notes = "";
    private boolean spoken;
    private boolean bodyRead;

    Call(HttpExchange http, long begun) {
        this.http = http;
        this.begun = begun;
    }

    HttpExchange http() {
        return http;
    }

    String method() {
        return http.getRequestMethod();
    }

    long nanos() {
        return System.nanoTime() - begun;
    }

    void requireGet() {
        if (!method().equals("GET") && !method().equals("HEAD")) {
            throw notAllowed("GET, HEAD");
        }
    }

    void requirePost() {
        if (!method().equals("POST")) {
            throw notAllowed("POST");
        }
    }

    private ApiError notAllowed(String methods) {
        http.getResponseHeaders().set("Allow", methods);
        return ApiError.invalid(405, "method_not_allowed", "the method is not one of " + methods);
    }

    // ---- its body ------------------------------------------------------------------------------------------------

    /**
     * Bytes that the body may have: those that the client tells, or the limit where it does not.
     *
     * @throws ApiError 413 or 415
     */
    long bodyLength(long limit) {
        String encoding = http.getRequestHeaders().getFirst("Content-Encoding");
        if (encoding != null && !encoding.equalsIgnoreCase("identity")) {
            throw ApiError.invalid(415, "unsupported_encoding", "the body is packed; send it as it is");
        }
        String length = http.getRequestHeaders().getFirst("Content-Length");
        long bytes = length == null ? limit : Long.parseLong(length); // which the HTTP server has checked
        if (bytes > limit) {
            throw bodyTooLong(limit);
        }
        return bytes;
    }

    byte[] body(long limit) throws IOException {
        byte[] bytes = http.getRequestBody().readNBytes((int) limit + 1);
        if (bytes.length > limit) {
            throw bodyTooLong(limit);
        }
        bodyRead = true;
        return bytes;
    }

    private static ApiError bodyTooLong(long limit) {
        return ApiError.tooLarge("the body has more than " + limit + " bytes, which is this server's limit");
    }

    /** Reads what is left of a body that is not wanted: a client that is still sending would not see the response. */
    void discardBody(long limit) throws IOException {
        if (bodyRead) {
            return;
        }
        InputStream body = http.getRequestBody();
        byte[] buffer = new byte[8192];
        long left = PATIENCE * limit;
        int n = body.read(buffer);
        while (n >= 0 && left > 0) {
            left -= n;
            n = body.read(buffer);
        }
        if (n >= 0) {
            http.getResponseHeaders().set("Connection", "close");
        }
    }

    // ---- what is noted ---------------------------------------------------------------------------------------------

    /** @param path one of this server's, never one that a client made up */
    void asksFor(String path) {
        what = path;
    }

    /** @param name one of this server's models */
    void asks(String name) {
        notes += " model=" + name;
    }

    void spoke(Metrics metrics) {
        if (!spoken) {
            spoken = true;
            metrics.firstWord(nanos());
        }
    }

    void took(Usage usage) {
        notes += " prompt=" + usage.promptTokens() + " cached=" + usage.cachedTokens() + " completion="
                + usage.completionTokens();
    }

    /** Without anything that the client could choose freely. */
    String line(String outcome) {
        return String.format(
                Locale.ROOT,
                "%s %s %s %d ms%s",
                METHODS.contains(method()) ? method() : "?",
                what,
                outcome,
                nanos() / 1_000_000,
                notes);
    }
}
