package lapidary.serve;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import java.net.InetAddress;
import java.util.List;
import java.util.Locale;

/**
 * Who may ask. Without a key, a server for this machine alone answers programs of this machine, not pages of the web that a
 * browser on it happens to show: these come with an {@code Origin}, or under a name that was made to lead here.
 */
final class Gate {
    private final ServerOptions options;
    private final boolean checkHost;

    Gate(ServerOptions options, InetAddress address) {
        this.options = options;
        this.checkHost = address.isLoopbackAddress() && options.apiKey().isNone();
    }

    /** @throws ApiError 403 or 401 */
    void check(HttpExchange http) {
        Headers asked = http.getRequestHeaders();
        String origin = asked.getFirst("Origin");
        if (origin != null) {
            if (!options.origins().contains(origin) && !options.origins().contains("*")) {
                throw ApiError.invalid(
                        403, "origin_not_allowed", "pages of this origin may not ask; allow it when the server starts");
            }
            Headers told = http.getResponseHeaders();
            told.set("Access-Control-Allow-Origin", options.origins().contains("*") ? "*" : origin);
            told.set("Vary", "Origin");
        }
        if (checkHost && !isHere(asked.getFirst("Host"))) {
            throw ApiError.invalid(
                    403,
                    "host_not_allowed",
                    "this server answers on localhost only; for other names give it an API key");
        }
    }

    /** @throws ApiError 401, which does not tell how wrong a key is */
    void checkKey(HttpExchange http) {
        if (options.apiKey().isNone()) {
            return;
        }
        List<String> given = http.getRequestHeaders().getOrDefault("Authorization", List.of());
        if (given.size() != 1 || !options.apiKey().isIn(given.get(0))) {
            http.getResponseHeaders().set("WWW-Authenticate", "Bearer");
            throw ApiError.invalid(
                    401,
                    "invalid_api_key",
                    given.isEmpty()
                            ? "no API key was given, expected Authorization: Bearer KEY"
                            : "the API key is not this server's");
        }
    }

    /** What a browser wants to know before a page's request. */
    void allowPreflight(HttpExchange http) {
        Headers told = http.getResponseHeaders();
        told.set("Access-Control-Allow-Methods", "GET, POST");
        List<String> headers = http.getRequestHeaders().get("Access-Control-Request-Headers");
        if (headers != null) {
            told.set("Access-Control-Allow-Headers", headers.get(0));
        }
        told.set("Access-Control-Max-Age", "600");
    }

    private boolean isHere(String host) {
        if (host == null) {
            return true; // HTTP/1.0; a browser always sends it
        }
        String name = host.replaceFirst(":\\d*$", "").toLowerCase(Locale.ROOT);
        return name.equals("localhost")
                || name.equals("[::1]")
                || name.matches("127\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}")
                || name.equals(options.host().toLowerCase(Locale.ROOT));
    }
}
