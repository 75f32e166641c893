package lapidary.serve;

import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import lapidary.format.Json;
import lapidary.format.JsonWriter;

/** A client of a server on this machine: the JDK's, and bare sockets for what that does not do. */
final class Client implements AutoCloseable {
    private final URI base;
    private final HttpClient http = HttpClient.newHttpClient();

    Client(ChatServer server) {
        this.base = server.uri();
    }

    record Reply(int status, String body, Map<String, List<String>> headers) {
        Json json() {
            return Json.parse("the response", body);
        }

        String content() {
            return json().get("choices").elements().get(0).get("message").string("content");
        }

        String finishReason() {
            return json().get("choices").elements().get(0).string("finish_reason");
        }

        String error() {
            return json().get("error").string("message");
        }

        String header(String name) {
            return headers.getOrDefault(name, List.of("")).get(0);
        }

        /** The data of a stream's events. */
        List<String> events() {
            return body.lines()
                    .filter(line -> line.startsWith("data: "))
                    .map(line -> line.substring(6))
                    .toList();
        }

        /** The words of a stream. */
        String streamed() {
            StringBuilder words = new StringBuilder();
            for (String event : events()) {
                if (!event.equals("[DONE]")) {
                    for (Json choice : Json.parse("event", event).get("choices").elements()) {
                        words.append(choice.get("delta").string("content", ""));
                    }
                }
            }
            return words.toString();
        }
    }

    /** A chat's body: greedy and short, but for what {@code more} says. */
    static Map<String, Object> chat(String model, Object content, Object... more) {
        Map<String, Object> body = new LinkedHashMap<>();
        body.put("model", model);
        body.put("messages", List.of(Map.of("role", "user", "content", content)));
        body.put("temperature", 0);
        body.put("max_tokens", 24);
        for (int i = 0; i < more.length; i += 2) {
            body.put((String) more[i], more[i + 1]);
        }
        return body;
    }

    static List<Object> withPicture(String text, int picture) throws IOException {
        return List.of(
                Map.of("type", "image_url", "image_url", Map.of("url", Demo.picture(picture), "detail", "low")),
                Map.of("type", "text", "text", text));
    }

    Reply ask(Map<String, Object> body) throws IOException, InterruptedException {
        return post(JsonWriter.compact(body));
    }

    Reply post(String body, String... headers) throws IOException, InterruptedException {
        return send(request("/v1/chat/completions", headers).POST(HttpRequest.BodyPublishers.ofString(body)));
    }

    Reply get(String path, String... headers) throws IOException, InterruptedException {
        return send(request(path, headers).GET());
    }

    HttpRequest.Builder request(String path, String... headers) {
        HttpRequest.Builder builder = HttpRequest.newBuilder(base.resolve(path));
        return headers.length == 0 ? builder : builder.headers(headers);
    }

    Reply send(HttpRequest.Builder request) throws IOException, InterruptedException {
        HttpResponse<String> response = http.send(request.build(), HttpResponse.BodyHandlers.ofString());
        return new Reply(
                response.statusCode(), response.body(), response.headers().map());
    }

    /** A value of /metrics. */
    long metric(String name) throws IOException, InterruptedException {
        String prefix = name + " ";
        return get("/metrics")
                .body()
                .lines()
                .filter(line -> line.startsWith(prefix))
                .map(line -> Long.parseLong(line.substring(prefix.length())))
                .findFirst()
                .orElse(0L);
    }

    /** Waits until a value of /metrics is this; the test's own time limit ends it otherwise. */
    void await(String name, long value) throws IOException, InterruptedException {
        while (metric(name) != value) {
            Thread.sleep(10);
        }
    }

    /** Sends a request on a connection of its own and leaves it open. */
    Socket open(String body, String... headers) throws IOException {
        Socket socket = new Socket();
        socket.setReceiveBufferSize(4096);
        socket.connect(new InetSocketAddress(base.getHost(), base.getPort()));
        byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
        List<String> lines = new ArrayList<>(List.of("POST /v1/chat/completions HTTP/1.1"));
        lines.addAll(List.of(headers));
        if (lines.stream().noneMatch(line -> line.startsWith("Host:"))) {
            lines.add("Host: localhost");
        }
        lines.add("Content-Length: " + bytes.length);
        socket.getOutputStream().write((String.join("\r\n", lines) + "\r\n\r\n").getBytes(StandardCharsets.UTF_8));
        socket.getOutputStream().write(bytes);
        return socket;
    }

    /** Reads until this text has come. */
    static String readUntil(Socket socket, String text) throws IOException {
        InputStream in = socket.getInputStream();
        StringBuilder read = new StringBuilder();
        while (read.indexOf(text) < 0) {
            int b = in.read();
            if (b < 0) {
                throw new IOException("the connection ended after: " + read);
            }
            read.append((char) b);
        }
        return read.toString();
    }

    @Override
    public void close() {
        http.close();
    }
}
