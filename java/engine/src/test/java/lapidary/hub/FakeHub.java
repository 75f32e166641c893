package lapidary.hub;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.GZIPOutputStream;
import lapidary.format.Json;
import lapidary.format.JsonWriter;

/**
 * A server on this machine's loopback address that speaks the Hub's HTTP, for downloads and uploads, with faults on demand.
 * Large files come from and go to another host name of the same machine ({@code localhost} instead of {@code 127.0.0.1}), as
 * the Hub's do; the token must not get there.
 */
public final class FakeHub implements AutoCloseable {
    /** A request as it came. */
    public record Seen(String method, String path, Map<String, String> headers) {
        public String line() {
            return method + " " + path;
        }
    }

    private static final Pattern API = Pattern.compile(
            "/api/(models|datasets)/([^/]+/[^/]+?)(?:/(revision|tree|preupload|commit|commits)/([^/]+))?");
    private static final Pattern RESOLVE = Pattern.compile("/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)");
    private static final Pattern BATCH = Pattern.compile("/((?:datasets/)?[^/]+/[^/]+)\\.git/info/lfs/objects/batch");
    private static final Pattern RANGE = Pattern.compile("bytes=(\\d+)-(\\d*)");

    private final HttpServer server;
    private final ExecutorService threads = Executors.newCachedThreadPool();
    private final Map<String, FakeRepo> repos = new ConcurrentHashMap<>();
    private final Map<String, String> users = new ConcurrentHashMap<>(); // by token
    private final Map<String, byte[]> storage = new ConcurrentHashMap<>(); // large files by SHA-256
    private final Map<String, Map<Integer, byte[]>> parts = new ConcurrentHashMap<>();
    public final List<Seen> seen = new CopyOnWriteArrayList<>();
    public final List<Fault> faults = new CopyOnWriteArrayList<>();
    int pageSize = 1000;
    boolean zips; // its JSON comes in gzip, asked for or not
    int partSize; // bytes of a part of a multipart upload; 0: uploads are in one piece

    public FakeHub() {
        this(0);
    }

    public FakeHub(int port) {
        try {
            server = HttpServer.create(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), port), 64);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        server.setExecutor(threads);
        server.createContext("/", this::handle);
        server.start();
    }

    public URI endpoint() {
        return URI.create("http://127.0.0.1:" + server.getAddress().getPort());
    }

    private String elsewhere() {
        return "http://localhost:" + server.getAddress().getPort();
    }

    /** @param name {@code models/org/name} or {@code datasets/org/name} */
    public FakeRepo repo(String name) {
        return repos.computeIfAbsent(name, key -> new FakeRepo());
    }

    public boolean has(String name) {
        return repos.containsKey(name);
    }

    public void user(String token, String name) {
        users.put(token, name);
    }

    public long count(String regex) {
        return seen.stream()
                .filter(s -> Pattern.compile(regex).matcher(s.line()).find())
                .count();
    }

    @Override
    public void close() {
        server.stop(0);
        threads.shutdownNow();
    }

    // ---------------------------------------------------------------------------------------------------------------

    private record Answer(int status, Map<String, String> headers, byte[] content) {
        static Answer json(Object value) {
            return new Answer(200, Map.of("Content-Type", "application/json"), bytes(JsonWriter.line(value)));
        }

        static Answer error(int status, String code, String message) {
            Map<String, String> headers = new LinkedHashMap<>();
            if (!code.isEmpty()) {
                headers.put("X-Error-Code", code);
            }
            headers.put("X-Error-Message", message);
            headers.put("Content-Type", "application/json");
            return new Answer(status, headers, bytes(JsonWriter.line(Map.of("error", message))));
        }

        Answer with(String header, String value) {
            Map<String, String> more = new LinkedHashMap<>(headers);
            more.put(header, value);
            return new Answer(status, more, content);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private void handle(HttpExchange exchange) throws IOException {
        try (exchange) {
            byte[] body = exchange.getRequestBody().readAllBytes();
            Map<String, String> headers = new LinkedHashMap<>();
            exchange.getRequestHeaders().forEach((name, values) -> headers.put(name.toLowerCase(), values.get(0)));
            String path = exchange.getRequestURI().getRawPath();
            String line = exchange.getRequestMethod() + " " + path;
            seen.add(new Seen(exchange.getRequestMethod(), path, Map.copyOf(headers)));
            Fault fault =
                    faults.stream().filter(f -> f.strikes(line)).findFirst().orElse(null);
            if (fault != null && fault.status() != 0) {
                send(exchange, new Answer(fault.status(), fault.headers(), bytes(fault.body())), null);
                return;
            }
            if (fault != null && fault.cutAfter() == 0 && !fault.acts()) {
                return; // the connection closes without an answer
            }
            Answer answer;
            try {
                answer = answer(exchange, path, headers, body);
            } catch (RuntimeException e) {
                answer = Answer.error(500, "", "the test server failed: " + e);
            }
            if (fault != null && fault.cutAfter() == 0) {
                return;
            }
            boolean ranges = answer.status() == 200
                    && exchange.getRequestMethod().equals("GET")
                    && (path.startsWith("/cdn/") || path.contains("/resolve/"));
            if (ranges && headers.containsKey("range") && (fault == null || !fault.wholeFile())) {
                answer = range(answer, headers.get("range"));
            }
            send(exchange, zips ? zipped(answer) : answer, fault);
        }
    }

    private static Answer zipped(Answer answer) {
        if (!answer.headers().getOrDefault("Content-Type", "").equals("application/json")) {
            return answer;
        }
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try (GZIPOutputStream zip = new GZIPOutputStream(out)) {
            zip.write(answer.content());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return new Answer(answer.status(), answer.headers(), out.toByteArray()).with("Content-Encoding", "gzip");
    }

    private static Answer range(Answer whole, String range) {
        Matcher matcher = RANGE.matcher(range);
        int size = whole.content().length;
        if (!matcher.matches() || Integer.parseInt(matcher.group(1)) >= size) {
            return new Answer(416, Map.of("Content-Range", "bytes */" + size), new byte[0]);
        }
        int from = Integer.parseInt(matcher.group(1));
        int to = matcher.group(2).isEmpty() ? size - 1 : Math.min(size - 1, Integer.parseInt(matcher.group(2)));
        byte[] part = java.util.Arrays.copyOfRange(whole.content(), from, to + 1);
        return new Answer(206, whole.headers(), part).with("Content-Range", "bytes " + from + "-" + to + "/" + size);
    }

    private static void send(HttpExchange exchange, Answer answer, Fault fault) throws IOException {
        Headers headers = exchange.getResponseHeaders();
        answer.headers().forEach(headers::set);
        byte[] content = answer.content().clone();
        if (exchange.getRequestMethod().equals("HEAD")) {
            headers.set("Content-Length", Integer.toString(content.length));
            exchange.sendResponseHeaders(answer.status(), -1);
            return;
        }
        if (fault != null && fault.damage() && content.length > 0) {
            content[content.length / 2] ^= 1;
        }
        exchange.sendResponseHeaders(answer.status(), content.length == 0 ? -1 : content.length);
        if (content.length == 0) {
            return;
        }
        OutputStream out = exchange.getResponseBody();
        int piece = fault != null && fault.pauseMs() > 0 ? Math.max(1, content.length / 20) : content.length;
        int end = fault != null && fault.cutAfter() >= 0 ? Math.min(fault.cutAfter(), content.length) : content.length;
        for (int at = 0; at < end; at += piece) {
            if (fault != null && fault.pauseMs() > 0) {
                try {
                    Thread.sleep(fault.pauseMs());
                } catch (InterruptedException e) {
                    return;
                }
            }
            out.write(content, at, Math.min(piece, end - at));
            out.flush();
        }
    }

    private Answer answer(HttpExchange exchange, String path, Map<String, String> headers, byte[] body) {
        String method = exchange.getRequestMethod();
        String token = headers.getOrDefault("authorization", "").replaceFirst("^Bearer ", "");
        if (!token.isEmpty() && !users.containsKey(token)) {
            return path.startsWith("/api/whoami")
                    ? Answer.error(401, "", "Invalid username or password.")
                    : Answer.error(401, "", "Invalid credentials in Authorization header");
        }
        String user = users.getOrDefault(token, "");
        if (path.startsWith("/cdn/") || path.startsWith("/storage/")) {
            if (!token.isEmpty()) {
                return Answer.error(400, "", "only one auth mechanism allowed"); // what S3 says
            }
            return path.startsWith("/cdn/") ? cdn(path) : store(path, method, body);
        }
        if (path.equals("/api/whoami-v2")) {
            return user.isEmpty()
                    ? Answer.error(401, "", "Invalid username or password.")
                    : Answer.json(Map.of(
                            "name",
                            user,
                            "type",
                            "user",
                            "auth",
                            Map.of(
                                    "type",
                                    "access_token",
                                    "accessToken",
                                    Map.of("displayName", "test", "role", "write"))));
        }
        if (path.equals("/api/repos/create")) {
            return create(user, Json.parse("create", body));
        }
        if (path.equals("/api/validate-yaml")) {
            return Answer.json(Map.of("errors", List.of(), "warnings", List.of()));
        }
        if (path.startsWith("/complete/")) {
            return complete(path.substring("/complete/".length()), Json.parse("complete", body));
        }
        if (path.equals("/verify")) {
            Json wanted = Json.parse("verify", body);
            byte[] stored = storage.get(wanted.string("oid"));
            return stored != null && stored.length == wanted.integer("size")
                    ? Answer.json(Map.of("success", true))
                    : Answer.error(404, "", "not stored");
        }
        Matcher batch = BATCH.matcher(path);
        if (batch.matches()) {
            return batch(user, Json.parse("batch", body));
        }
        Matcher resolve = RESOLVE.matcher(path);
        if (resolve.matches()) {
            String name = resolve.group(1).startsWith("datasets/") ? resolve.group(1) : "models/" + resolve.group(1);
            return resolve(user, name, decode(resolve.group(2)), decode(resolve.group(3)));
        }
        Matcher api = API.matcher(path);
        if (api.matches()) {
            String call = api.group(3) == null ? "revision" : api.group(3);
            String revision = api.group(4) == null ? "main" : decode(api.group(4));
            return api(exchange, user, api.group(1) + "/" + api.group(2), call, revision, body);
        }
        return Answer.error(404, "", "no such page");
    }

    private static String decode(String text) {
        return URLDecoder.decode(text.replace("+", "%2B"), StandardCharsets.UTF_8);
    }

    private FakeRepo visible(String user, String name) {
        FakeRepo repo = repos.get(name);
        return repo == null || (repo.isPrivate && !name.split("/")[1].equals(user)) ? null : repo;
    }

    private static Answer noRepo(String user) {
        return user.isEmpty()
                ? Answer.error(401, "RepoNotFound", "Invalid username or password.")
                : Answer.error(404, "RepoNotFound", "Repository not found");
    }

    private Answer create(String user, Json wanted) {
        if (user.isEmpty()) {
            return Answer.error(401, "", "Invalid username or password.");
        }
        String owner = wanted.string("organization", user);
        if (!owner.equals(user) && !owner.equals("team")) {
            return Answer.error(403, "", "You don't have the rights to create a model under the namespace " + owner);
        }
        String name = wanted.string("type", "model") + "s/" + owner + "/" + wanted.string("name");
        Map<String, Object> answer = Map.of("url", endpoint() + "/" + name.replace("models/", ""), "name", name);
        if (repos.containsKey(name)) {
            return new Answer(409, Map.of(), bytes(JsonWriter.line(answer)));
        }
        FakeRepo repo = repo(name);
        repo.isPrivate = wanted.string("visibility", "").equals("private") || wanted.bool("private", false);
        return Answer.json(answer);
    }

    private Answer api(HttpExchange exchange, String user, String name, String call, String revision, byte[] body) {
        FakeRepo repo = visible(user, name);
        if (repo == null) {
            return noRepo(user);
        }
        FakeRepo.State state = repo.at(revision);
        if (state == null) {
            return Answer.error(404, "RevisionNotFound", "Invalid rev id: " + revision);
        }
        boolean mayWrite = name.split("/")[1].equals(user) || (!user.isEmpty() && name.split("/")[1].equals("team"));
        if ((call.equals("preupload") || call.equals("commit")) && !mayWrite) {
            return Answer.error(403, "", "you have no write access to " + name);
        }
        return switch (call) {
            case "revision" -> info(repo, name, state);
            case "tree" -> tree(exchange, state);
            case "commits" -> Answer.json(commits(repo));
            case "preupload" -> preupload(state, Json.parse("preupload", body));
            default -> commit(repo, name, body);
        };
    }

    private static Answer info(FakeRepo repo, String name, FakeRepo.State state) {
        Map<String, Object> info = new LinkedHashMap<>();
        String id = name.substring(name.indexOf('/') + 1);
        info.put("_id", "0");
        info.put("id", id);
        info.put("modelId", id);
        info.put("sha", state.id());
        info.put("private", repo.isPrivate);
        info.put("gated", repo.isGated ? (Object) "manual" : false);
        info.put("tags", List.of());
        info.put("downloads", 0);
        info.put("likes", 0);
        info.put("cardData", repo.card);
        info.put(
                "siblings",
                state.files().keySet().stream()
                        .map(file -> Map.of("rfilename", file))
                        .toList());
        return Answer.json(info);
    }

    private static List<Object> commits(FakeRepo repo) {
        List<Object> commits = new ArrayList<>();
        for (FakeRepo.State state : repo.states()) {
            commits.add(
                    0,
                    Map.of(
                            "id",
                            state.id(),
                            "title",
                            state.title(),
                            "message",
                            "",
                            "date",
                            "2026-01-01T00:00:00.000Z",
                            "authors",
                            List.of()));
        }
        return commits;
    }

    private Answer tree(HttpExchange exchange, FakeRepo.State state) {
        List<Map<String, Object>> entries = new ArrayList<>();
        state.files().forEach((path, content) -> {
            Map<String, Object> entry = new LinkedHashMap<>();
            entry.put("type", "file");
            entry.put("oid", FakeRepo.blobId(path, content));
            entry.put("size", content.length);
            entry.put("path", path);
            if (FakeRepo.isLarge(path, content.length)) {
                entry.put(
                        "lfs",
                        Map.of("oid", FakeRepo.sha("SHA-256", content), "size", content.length, "pointerSize", 130));
            }
            entries.add(entry);
        });
        String query = String.valueOf(exchange.getRequestURI().getRawQuery());
        Matcher cursor = Pattern.compile("cursor=(\\d+)").matcher(query);
        int from = cursor.find() ? Integer.parseInt(cursor.group(1)) : 0;
        int to = Math.min(entries.size(), from + pageSize);
        Answer answer = Answer.json(entries.subList(from, to));
        return to == entries.size()
                ? answer
                : answer.with(
                        "Link",
                        "<" + endpoint() + exchange.getRequestURI().getRawPath() + "?recursive=true&cursor=" + to
                                + ">; rel=\"next\"");
    }

    private Answer resolve(String user, String name, String revision, String path) {
        FakeRepo repo = visible(user, name);
        if (repo == null) {
            return noRepo(user);
        }
        if (repo.isGated && !user.equals("granted")) {
            return Answer.error(user.isEmpty() ? 401 : 403, "GatedRepo", "Access to model " + name + " is restricted.");
        }
        FakeRepo.State state = repo.at(revision);
        if (state == null) {
            return Answer.error(404, "RevisionNotFound", "Invalid rev id: " + revision);
        }
        byte[] content = state.files().get(path);
        if (content == null) {
            return Answer.error(404, "EntryNotFound", "Entry not found").with("X-Repo-Commit", state.id());
        }
        if (FakeRepo.isLarge(path, content.length)) {
            String sha = FakeRepo.sha("SHA-256", content);
            storage.put(sha, content);
            return new Answer(302, Map.of(), new byte[0])
                    .with("X-Repo-Commit", state.id())
                    .with("X-Linked-Etag", "\"" + sha + "\"")
                    .with("X-Linked-Size", Integer.toString(content.length))
                    .with("Location", elsewhere() + "/cdn/" + sha + "?signature=secret");
        }
        return new Answer(200, Map.of(), content)
                .with("X-Repo-Commit", state.id())
                .with("Accept-Ranges", "bytes")
                .with("ETag", "\"" + FakeRepo.blobId(path, content) + "\"");
    }

    private Answer cdn(String path) {
        byte[] content = storage.get(path.substring("/cdn/".length()));
        return content == null
                ? Answer.error(404, "", "no such object")
                : new Answer(200, Map.of("ETag", "\"other\"", "Accept-Ranges", "bytes"), content);
    }

    // ---- uploads --------------------------------------------------------------------------------------------------

    private static Answer preupload(FakeRepo.State state, Json wanted) {
        List<Object> files = new ArrayList<>();
        for (Json file : wanted.get("files").elements()) {
            Base64.getDecoder().decode(file.string("sample"));
            Map<String, Object> answer = new LinkedHashMap<>();
            String path = file.string("path");
            answer.put("path", path);
            answer.put("uploadMode", FakeRepo.isLarge(path, Math.max(1, file.integer("size"))) ? "lfs" : "regular");
            answer.put("shouldIgnore", path.endsWith(".ignored"));
            byte[] there = state.files().get(path);
            if (there != null) {
                answer.put(
                        "oid",
                        FakeRepo.isLarge(path, there.length)
                                ? FakeRepo.sha("SHA-256", there)
                                : FakeRepo.blobId(path, there));
            }
            files.add(answer);
        }
        return Answer.json(Map.of("files", files));
    }

    private Answer batch(String user, Json wanted) {
        if (user.isEmpty()) {
            return Answer.error(401, "", "Invalid username or password.");
        }
        List<Object> objects = new ArrayList<>();
        for (Json object : wanted.get("objects").elements()) {
            String oid = object.string("oid");
            long size = object.integer("size");
            Map<String, Object> answer = new LinkedHashMap<>();
            answer.put("oid", oid);
            answer.put("size", size);
            if (!storage.containsKey(oid)) {
                answer.put(
                        "actions",
                        Map.of(
                                "upload", upload(oid, size),
                                "verify", Map.of("href", endpoint() + "/verify", "header", Map.of())));
            }
            objects.add(answer);
        }
        return new Answer(
                200,
                Map.of("Content-Type", "application/vnd.git-lfs+json"),
                bytes(JsonWriter.line(Map.of("transfer", partSize > 0 ? "multipart" : "basic", "objects", objects))));
    }

    private Map<String, Object> upload(String oid, long size) {
        if (partSize == 0 || size <= partSize) {
            return Map.of("href", elsewhere() + "/storage/" + oid + "?signature=secret");
        }
        Map<String, Object> header = new LinkedHashMap<>();
        header.put("chunk_size", Integer.toString(partSize));
        for (int part = 1; (long) (part - 1) * partSize < size; part++) {
            header.put(String.format("%05d", part), elsewhere() + "/storage/" + oid + "/" + part + "?signature=secret");
        }
        return Map.of("href", endpoint() + "/complete/" + oid, "header", header);
    }

    private Answer store(String path, String method, byte[] body) {
        if (!method.equals("PUT")) {
            return Answer.error(405, "", "only PUT");
        }
        String[] name = path.substring("/storage/".length()).split("/");
        if (name.length == 2) {
            parts.computeIfAbsent(name[0], key -> new ConcurrentHashMap<>()).put(Integer.parseInt(name[1]), body);
            return new Answer(200, Map.of("ETag", "\"part-" + name[1] + "\""), new byte[0]);
        }
        return keep(name[0], body);
    }

    private Answer keep(String oid, byte[] content) {
        if (!FakeRepo.sha("SHA-256", content).equals(oid)) {
            return Answer.error(400, "", "the content's checksum is another one");
        }
        storage.put(oid, content);
        return new Answer(200, Map.of(), new byte[0]);
    }

    private Answer complete(String oid, Json wanted) {
        ByteArrayOutputStream whole = new ByteArrayOutputStream();
        int number = 1;
        for (Json part : wanted.get("parts").elements()) {
            byte[] content = parts.getOrDefault(oid, Map.of()).get(number);
            if (part.integer("partNumber") != number
                    || content == null
                    || !part.string("etag").equals("\"part-" + number + "\"")) {
                return Answer.error(400, "", "part " + number + " is not the one that was sent");
            }
            whole.writeBytes(content);
            number++;
        }
        Answer kept = keep(oid, whole.toByteArray());
        return kept.status() == 200 ? Answer.json(Map.of("success", true)) : kept;
    }

    private Answer commit(FakeRepo repo, String name, byte[] body) {
        Map<String, byte[]> added = new LinkedHashMap<>();
        String title = "";
        for (String line : new String(body, StandardCharsets.UTF_8).split("\n")) {
            Json entry = Json.parse("commit", line);
            Json value = entry.get("value");
            switch (entry.string("key")) {
                case "header" -> {
                    title = value.string("summary");
                    String parent = value.string("parentCommit", repo.head().id());
                    if (!parent.equals(repo.head().id())) {
                        return Answer.error(412, "", "A commit has happened since. Please refresh and try again.");
                    }
                }
                case "file" -> added.put(
                        value.string("path"), Base64.getDecoder().decode(value.string("content")));
                case "lfsFile" -> {
                    byte[] content = storage.get(value.string("oid"));
                    if (content == null) {
                        return Answer.error(400, "", "LFS pointer pointed to a file that does not exist");
                    }
                    added.put(value.string("path"), content);
                }
                default -> {
                    return Answer.error(400, "", "unknown key " + entry.string("key"));
                }
            }
        }
        String id = repo.commit(title, added);
        return Answer.json(Map.of(
                "success",
                true,
                "commitOid",
                id,
                "commitUrl",
                endpoint() + "/" + name.replace("models/", "") + "/commit/" + id,
                "hookOutput",
                ""));
    }
}
