package lapidary.hub;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpRequest;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;

/**
 * Puts files into a repository: asks which are large, sends the large ones to the Hub's storage (in one piece or in
 * parts), and commits all at once. The steps and fields are those of huggingface_hub.
 */
final class Upload {
    private static final String JSON = "application/json";
    private static final String LFS = "application/vnd.git-lfs+json";
    private static final int SAMPLE = 512; // bytes by which the Hub tells text from binary
    private static final int AT_ONCE = 256; // files in one question
    private static final int PARALLEL = 4; // files on their way
    private static final int CHUNK = 1 << 16; // bytes
    private static final long MOST_COMMITTED = 512L << 20; // bytes of small files in one commit

    private final Http http;
    private final HubSettings settings;
    private final HubListener listener;
    private final HubErrors errors;
    private final RepoId repo;

    /** A file to send. {@code sha256} is empty for a small one. */
    private record Item(String path, Path file, long size, boolean large, String sha256) {}

    Upload(Http http, HubSettings settings, HubListener listener, RepoId repo) {
        this.http = http;
        this.settings = settings;
        this.listener = listener;
        this.errors = new HubErrors(settings);
        this.repo = repo;
    }

    /** Makes the repository where it does not exist, and sees to it that it is as private as it should be. */
    void create(boolean mustBePrivate) {
        String[] name = repo.name().split("/", 2);
        Map<String, Object> wanted = new LinkedHashMap<>();
        wanted.put("name", name[1]);
        wanted.put("organization", name[0]);
        wanted.put("type", repo.word());
        if (mustBePrivate) {
            wanted.put("visibility", "private");
        }
        Http.Reply reply = post("api/repos/create", JSON, JsonWriter.line(wanted));
        for (int failures = 1;
                reply.status() == 409
                        && reply.text().contains("conflicting operation")
                        && failures <= settings.patience().retries();
                failures++) {
            http.pause(failures, reply);
            reply = post("api/repos/create", JSON, JsonWriter.line(wanted));
        }
        boolean mayExist = List.of(401, 402, 403, 409).contains(reply.status());
        if (!reply.isOk() && !mayExist) {
            throw errors.of(reply, repo, Hub.MAIN, "creation");
        }
        URI uri = settings.uri(repo.api());
        Http.Reply info = http.send(Http.Call.get(uri));
        if (!info.isOk()) {
            throw reply.isOk() || reply.status() == 409
                    ? errors.of(info, repo, Hub.MAIN, "description")
                    : errors.of(reply, repo, Hub.MAIN, "creation");
        }
        if (mustBePrivate && !HubErrors.json(uri, info).bool("private", false)) {
            throw new HubException(repo + " is a public repository, but hub_private_repo is true; make it private at "
                    + settings.endpoint() + "/" + repo.page() + "/settings, or choose another hub_model_id");
        }
    }

    /** One commit; returns its address. */
    String commit(SortedMap<String, Path> files, String message) {
        if (files.containsKey("README.md")) {
            validateCard(files.get("README.md"));
        }
        List<Item> items = new ArrayList<>();
        List<Map.Entry<String, Path>> entries = List.copyOf(files.entrySet());
        for (int i = 0; i < entries.size(); i += AT_ONCE) {
            items.addAll(changed(entries.subList(i, Math.min(i + AT_ONCE, entries.size()))));
        }
        if (items.isEmpty()) {
            return settings.uri(repo.page()).toString();
        }
        List<Item> large = items.stream().filter(Item::large).toList();
        if (!large.isEmpty()) {
            store(large);
        }
        return send(items, message);
    }

    private void validateCard(Path card) {
        Http.Reply reply = post(
                "api/validate-yaml", JSON, JsonWriter.line(Map.of("content", text(card), "repoType", repo.word())));
        if (!reply.isOk()) {
            return; // a Hub without this question decides at the commit
        }
        List<String> mistakes = new ArrayList<>();
        for (JsonNode error : HubErrors.json(reply.uri(), reply).node().path("errors")) {
            mistakes.add(Text.oneLine(error.path("message").asText()));
        }
        if (!mistakes.isEmpty()) {
            throw new HubException("the Hub does not take the model card " + card + ": " + String.join("; ", mistakes));
        }
    }

    /** Asks which files are large, and leaves out those that the Hub ignores or has in this form. */
    private List<Item> changed(List<Map.Entry<String, Path>> files) {
        List<Object> asked = new ArrayList<>();
        Map<String, Path> byPath = new LinkedHashMap<>();
        for (Map.Entry<String, Path> file : files) {
            if (!RepoFile.isSafe(file.getKey())) {
                throw new HubException(
                        "\"" + Text.oneLine(file.getKey()) + "\" cannot be the name of a file on the Hub");
            }
            byPath.put(file.getKey(), file.getValue());
            Map<String, Object> entry = new LinkedHashMap<>();
            entry.put("path", file.getKey());
            entry.put("sample", Base64.getEncoder().encodeToString(head(file.getValue())));
            entry.put("size", size(file.getValue()));
            asked.add(entry);
        }
        Http.Reply reply = post(repo.api() + "/preupload/" + Hub.MAIN, JSON, JsonWriter.line(Map.of("files", asked)));
        if (!reply.isOk()) {
            throw errors.of(reply, repo, Hub.MAIN, "upload");
        }
        Map<String, Json> answers = new TreeMap<>();
        for (Json answer : HubErrors.json(reply.uri(), reply).get("files").elements()) {
            answers.put(answer.string("path"), answer);
        }
        List<Item> items = new ArrayList<>();
        byPath.forEach((path, file) -> {
            Json answer = answers.get(path);
            if (answer == null) {
                throw new FormatException(Text.shown(reply.uri()) + " does not say how to send " + path);
            }
            if (!answer.bool("shouldIgnore", false)) {
                Item item = item(path, file, answer.string("uploadMode"));
                String sum = item.large() ? item.sha256() : sum(file, "SHA-1", "blob " + item.size() + "\0");
                if (!sum.equals(answer.string("oid", ""))) {
                    items.add(item);
                }
            }
        });
        return items;
    }

    private static Item item(String path, Path file, String mode) {
        if (!mode.equals("lfs") && !mode.equals("regular")) {
            throw new HubException(
                    "the Hub wants " + path + " sent in a way that is not known here: " + Text.oneLine(mode));
        }
        long size = size(file);
        boolean large = mode.equals("lfs") && size > 0; // storage takes no empty objects
        return new Item(path, file, size, large, large ? sum(file, "SHA-256", "") : "");
    }

    // ---- large files ------------------------------------------------------------------------------------------------

    private void store(List<Item> large) {
        Map<String, Item> byId = new LinkedHashMap<>();
        large.forEach(item -> byId.putIfAbsent(item.sha256(), item));
        List<Item> distinct = List.copyOf(byId.values());
        for (int i = 0; i < distinct.size(); i += AT_ONCE) {
            storeBatch(distinct.subList(i, Math.min(i + AT_ONCE, distinct.size())), byId);
        }
    }

    private void storeBatch(List<Item> items, Map<String, Item> byId) {
        Map<String, Object> wanted = new LinkedHashMap<>();
        wanted.put("operation", "upload");
        wanted.put("transfers", List.of("basic", "multipart"));
        wanted.put(
                "objects",
                items.stream()
                        .map(item -> Map.of("oid", item.sha256(), "size", item.size()))
                        .toList());
        wanted.put("hash_algo", "sha256");
        wanted.put("ref", Map.of("name", Hub.MAIN));
        URI uri = settings.uri(repo.page() + ".git/info/lfs/objects/batch");
        Http.Reply reply = http.send(
                Http.Call.post(uri, LFS, utf8(JsonWriter.line(wanted))).with("accept", LFS));
        if (!reply.isOk()) {
            throw errors.of(reply, repo, Hub.MAIN, "upload of large files");
        }
        Map<Item, Json> actions = new LinkedHashMap<>();
        for (Json object : HubErrors.json(uri, reply).get("objects").elements()) {
            Item item = byId.get(object.string("oid"));
            if (item == null) {
                throw object.error("is none of the objects that were asked for");
            }
            if (object.has("error")) {
                throw new HubException("the Hub's storage does not take " + item.path() + ": "
                        + settings.token()
                                .redact(Text.oneLine(object.get("error").string("message", ""))));
            }
            if (object.has("actions")) {
                actions.put(item, object.get("actions"));
            }
        }
        if (actions.isEmpty()) {
            return; // all there already
        }
        long total = actions.keySet().stream().mapToLong(Item::size).sum();
        Meter meter = new Meter(listener, total);
        synchronized (listener) {
            listener.onTransfer("upload to " + repo, actions.size(), total);
        }
        List<Runnable> uploads = new ArrayList<>();
        actions.forEach((item, action) -> uploads.add(() -> store(item, action, uri, meter)));
        Hub.inParallel(uploads, PARALLEL);
        synchronized (listener) {
            listener.onDone();
        }
    }

    private void store(Item item, Json actions, URI from, Meter meter) {
        Json upload = actions.get("upload");
        URI href = follow(from, upload.string("href"));
        JsonNode header = upload.has("header")
                ? upload.get("header").node()
                : upload.node().path("header");
        if (header.has("chunk_size")) {
            storeParts(item, href, header, from, meter);
        } else {
            require(http.send(Http.Call.put(href, new Slice(item, 0, item.size(), meter))), item);
        }
        if (actions.has("verify")) {
            URI verify = follow(from, actions.get("verify").string("href"));
            String content = JsonWriter.line(Map.of("oid", item.sha256(), "size", item.size()));
            require(http.send(Http.Call.post(verify, JSON, utf8(content))), item);
        }
    }

    /** The addresses of the parts are in the header under their numbers; the last call puts them together. */
    private void storeParts(Item item, URI complete, JsonNode header, URI from, Meter meter) {
        long partSize;
        TreeMap<Integer, String> addresses = new TreeMap<>();
        try {
            partSize = Long.parseLong(header.path("chunk_size").asText());
            header.properties().forEach(entry -> {
                if (entry.getKey().matches("\\d{1,6}")) {
                    addresses.put(
                            Integer.parseInt(entry.getKey()), entry.getValue().asText());
                }
            });
        } catch (NumberFormatException e) {
            throw new HubException("the Hub names no size for the parts of " + item.path(), e);
        }
        if (partSize <= 0 || addresses.size() != (item.size() + partSize - 1) / partSize) {
            throw new HubException("the Hub names " + addresses.size() + " parts of " + partSize + " bytes for "
                    + item.path() + ", which has " + item.size());
        }
        List<Object> parts = new ArrayList<>();
        long at = 0;
        for (String address : addresses.values()) {
            long length = Math.min(partSize, item.size() - at);
            Http.Reply reply = http.send(Http.Call.put(follow(from, address), new Slice(item, at, length, meter)));
            require(reply, item);
            if (reply.header("etag").isEmpty()) {
                throw new HubException("the Hub's storage does not acknowledge a part of " + item.path());
            }
            parts.add(Map.of("partNumber", parts.size() + 1, "etag", reply.header("etag")));
            at += length;
        }
        String content = JsonWriter.line(Map.of("oid", item.sha256(), "parts", parts));
        require(http.send(Http.Call.post(complete, LFS, utf8(content)).with("accept", LFS)), item);
    }

    /** A mirror of the Hub hands out addresses of the Hub itself; they are meant for the mirror. */
    private URI follow(URI from, String href) {
        String endpoint = settings.endpoint().toString();
        return http.destinations()
                .follow(
                        from,
                        href.startsWith(HubSettings.DEFAULT_ENDPOINT + "/")
                                ? endpoint + href.substring(HubSettings.DEFAULT_ENDPOINT.length())
                                : href);
    }

    private void require(Http.Reply reply, Item item) {
        if (!reply.isOk()) {
            throw errors.other(reply, "the upload of " + item.path());
        }
    }

    /** A piece of a file on its way; sent anew, its bytes count once. */
    private static final class Slice implements Http.Body {
        private final Item item;
        private final long from;
        private final long length;
        private final Meter meter;
        private final AtomicLong sent = new AtomicLong();

        Slice(Item item, long from, long length, Meter meter) {
            this.item = item;
            this.from = from;
            this.length = length;
            this.meter = meter;
        }

        @Override
        public HttpRequest.BodyPublisher publisher(Runnable alive) {
            meter.add(-sent.getAndSet(0));
            return HttpRequest.BodyPublishers.fromPublisher(
                    HttpRequest.BodyPublishers.ofInputStream(() -> open(alive)), length);
        }

        private InputStream open(Runnable alive) {
            try {
                InputStream file = Files.newInputStream(item.file());
                file.skipNBytes(from);
                return new BufferedInputStream(new Counted(file, alive), CHUNK);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        private final class Counted extends InputStream {
            private final InputStream in;
            private final Runnable alive;
            private long left = length;

            Counted(InputStream in, Runnable alive) {
                this.in = in;
                this.alive = alive;
            }

            @Override
            public int read() throws IOException {
                byte[] one = new byte[1];
                return read(one, 0, 1) < 0 ? -1 : one[0] & 0xFF;
            }

            @Override
            public int read(byte[] to, int at, int most) throws IOException {
                if (left == 0) {
                    return -1;
                }
                int n = in.read(to, at, (int) Math.min(most, left));
                if (n < 0) {
                    throw new HubException(item.file() + " became shorter while it was sent");
                }
                left -= n;
                sent.addAndGet(n);
                alive.run();
                meter.add(n);
                return n;
            }

            @Override
            public void close() throws IOException {
                in.close();
            }
        }
    }

    // ---- the commit -------------------------------------------------------------------------------------------------

    /**
     * Sends the commit. It names the state that it builds on, so that a second attempt after a lost answer cannot commit twice:
     * then the Hub refuses it, and the newest commit tells whether it is ours.
     */
    private String send(List<Item> items, String message) {
        URI uri = settings.uri(repo.api() + "/commit/" + Hub.MAIN);
        String parent = head();
        boolean maybeDone = false;
        for (int failures = 1; ; failures++) {
            boolean last = failures > settings.patience().retries();
            try {
                Http.Call call = Http.Call.post(uri, "application/x-ndjson", lines(items, message, parent));
                Http.Reply reply = http.once(call, null);
                if (reply.isOk()) {
                    Json answer = HubErrors.json(uri, reply);
                    return Text.oneLine(answer.string("commitUrl"));
                }
                if (reply.status() == 412 && !last) {
                    String now = head();
                    if (maybeDone && newestTitle().equals(message)) {
                        return settings.uri(repo.page() + "/commit/" + now).toString();
                    }
                    parent = now;
                } else if (!Http.isLater(reply) || last) {
                    throw errors.of(reply, repo, Hub.MAIN, "commit");
                } else {
                    maybeDone |= reply.status() >= 500;
                    http.pause(failures, reply);
                }
            } catch (IOException e) {
                if (last) {
                    throw Http.unreachable(uri, e);
                }
                maybeDone = true;
                http.pause(failures, uri, e);
            }
        }
    }

    private byte[] lines(List<Item> items, String message, String parent) {
        long small = items.stream()
                .filter(item -> !item.large())
                .mapToLong(Item::size)
                .sum();
        if (small > MOST_COMMITTED) {
            throw new HubException("the small files together have " + Text.bytes(small) + ", more than the "
                    + Text.bytes(MOST_COMMITTED) + " that one commit holds");
        }
        ByteArrayOutputStream lines = new ByteArrayOutputStream();
        Map<String, Object> header = new LinkedHashMap<>();
        header.put("summary", message);
        header.put("description", "");
        header.put("parentCommit", parent);
        add(lines, "header", header);
        for (Item item : items) {
            Map<String, Object> value = new LinkedHashMap<>();
            if (item.large()) {
                value.put("path", item.path());
                value.put("algo", "sha256");
                value.put("oid", item.sha256());
                value.put("size", item.size());
            } else {
                value.put("content", Base64.getEncoder().encodeToString(content(item.file())));
                value.put("path", item.path());
                value.put("encoding", "base64");
            }
            add(lines, item.large() ? "lfsFile" : "file", value);
        }
        return lines.toByteArray();
    }

    private static void add(ByteArrayOutputStream lines, String key, Map<String, Object> value) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("key", key);
        line.put("value", value);
        lines.writeBytes(utf8(JsonWriter.line(line) + "\n"));
    }

    private String head() {
        URI uri = settings.uri(repo.api() + "/revision/" + Hub.MAIN);
        Http.Reply reply = http.send(Http.Call.get(uri));
        if (!reply.isOk()) {
            throw errors.of(reply, repo, Hub.MAIN, "newest commit");
        }
        return HubErrors.json(uri, reply).string("sha");
    }

    private String newestTitle() {
        URI uri = settings.uri(repo.api() + "/commits/" + Hub.MAIN);
        Http.Reply reply = http.send(Http.Call.get(uri));
        return reply.isOk()
                ? HubErrors.json(uri, reply).node().path(0).path("title").asText()
                : "";
    }

    // ---- files of ours ----------------------------------------------------------------------------------------------

    private Http.Reply post(String path, String type, String content) {
        return http.send(Http.Call.post(settings.uri(path), type, utf8(content)));
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static long size(Path file) {
        try {
            return Files.size(file);
        } catch (IOException e) {
            throw unreadable(file, e);
        }
    }

    private static byte[] head(Path file) {
        try (InputStream in = Files.newInputStream(file)) {
            return in.readNBytes(SAMPLE);
        } catch (IOException e) {
            throw unreadable(file, e);
        }
    }

    private static byte[] content(Path file) {
        try {
            return Files.readAllBytes(file);
        } catch (IOException e) {
            throw unreadable(file, e);
        }
    }

    private static String text(Path file) {
        return new String(content(file), StandardCharsets.UTF_8);
    }

    private static String sum(Path file, String algorithm, String before) {
        MessageDigest digest = Download.digest(algorithm);
        digest.update(utf8(before));
        byte[] chunk = new byte[CHUNK];
        try (InputStream in = Files.newInputStream(file)) {
            for (int n = in.read(chunk); n >= 0; n = in.read(chunk)) {
                digest.update(chunk, 0, n);
            }
        } catch (IOException e) {
            throw unreadable(file, e);
        }
        return HexFormat.of().formatHex(digest.digest());
    }

    private static HubException unreadable(Path file, IOException e) {
        return new HubException("cannot read " + file + ": " + Text.oneLine(e.toString()), e);
    }
}
