package lapidary.serve;

import java.time.Duration;
import java.util.Objects;
import java.util.Set;

/**
 * Where a {@link ChatServer} listens, who may ask, and how much.
 *
 * @param host name or address to listen on
 * @param port 0 for any that is free
 * @param modelName what clients call the base; adapters have the names under which they are attached
 * @param apiKey what clients must present
 * @param origins of web pages that may ask from a browser, as {@code http://localhost:3000}; {@code *} for all
 * @param maxRequests chats that are answered or wait for their turn at once; further ones are sent away with 429
 * @param maxBodyBytes of one request
 * @param maxImages of one request
 * @param heartbeat after how long without a word a client that waits is sent something harmless, to find whether it is there
 * @param stall after how long without taking a byte a client counts as gone
 * @param grace how long chats may go on when the server closes, before they are cut off
 */
public record ServerOptions(
        String host,
        int port,
        String modelName,
        ApiKey apiKey,
        Set<String> origins,
        int maxRequests,
        long maxBodyBytes,
        int maxImages,
        Duration heartbeat,
        Duration stall,
        Duration grace) {
    /** This machine alone may ask; 64 chats at once, 32 MiB and 16 pictures each. */
    public static final ServerOptions DEFAULT = new ServerOptions(
            "127.0.0.1",
            8000,
            "gemma-3",
            ApiKey.NONE,
            Set.of(),
            64,
            32 << 20,
            16,
            Duration.ofSeconds(5),
            Duration.ofSeconds(30),
            Duration.ofSeconds(5));

    /** @throws IllegalArgumentException naming the value that is out of range */
    public ServerOptions {
        Objects.requireNonNull(host, "host");
        Objects.requireNonNull(apiKey, "apiKey");
        origins = Set.copyOf(origins);
        require(port >= 0 && port <= 65_535, "port", port, "0 to 65535");
        require(!modelName.isBlank(), "modelName", "blank", "a name");
        require(maxRequests >= 1, "maxRequests", maxRequests, "at least 1");
        require(maxBodyBytes >= 1 && maxBodyBytes <= 1 << 30, "maxBodyBytes", maxBodyBytes, "1 to 1073741824");
        require(maxImages >= 0, "maxImages", maxImages, "0 or more");
        require(heartbeat.toMillis() >= 1, "heartbeat", heartbeat, "a time");
        require(stall.toMillis() >= 1, "stall", stall, "a time");
        require(!grace.isNegative(), "grace", grace, "0 or more");
    }

    private static void require(boolean good, String name, Object value, String expected) {
        if (!good) {
            throw new IllegalArgumentException(name + " is " + value + ", expected " + expected);
        }
    }

    public ServerOptions withAddress(String otherHost, int otherPort) {
        return new ServerOptions(
                otherHost,
                otherPort,
                modelName,
                apiKey,
                origins,
                maxRequests,
                maxBodyBytes,
                maxImages,
                heartbeat,
                stall,
                grace);
    }

    public ServerOptions withModelName(String name) {
        return new ServerOptions(
                host, port, name, apiKey, origins, maxRequests, maxBodyBytes, maxImages, heartbeat, stall, grace);
    }

    public ServerOptions withApiKey(ApiKey key) {
        return new ServerOptions(
                host, port, modelName, key, origins, maxRequests, maxBodyBytes, maxImages, heartbeat, stall, grace);
    }

    public ServerOptions withOrigins(Set<String> others) {
        return new ServerOptions(
                host, port, modelName, apiKey, others, maxRequests, maxBodyBytes, maxImages, heartbeat, stall, grace);
    }

    public ServerOptions withLimits(int requests, long bodyBytes, int images) {
        return new ServerOptions(
                host, port, modelName, apiKey, origins, requests, bodyBytes, images, heartbeat, stall, grace);
    }

    public ServerOptions withTimes(Duration otherHeartbeat, Duration otherStall, Duration otherGrace) {
        return new ServerOptions(
                host,
                port,
                modelName,
                apiKey,
                origins,
                maxRequests,
                maxBodyBytes,
                maxImages,
                otherHeartbeat,
                otherStall,
                otherGrace);
    }
}
