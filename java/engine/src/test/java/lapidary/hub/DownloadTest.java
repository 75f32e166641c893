package lapidary.hub;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Stream;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Downloads against a server on this machine, with everything that goes wrong on the way. */
final class DownloadTest {
    private static final Patience QUICK = new Patience(
            3,
            Duration.ofMillis(1),
            Duration.ofMillis(4),
            Duration.ofSeconds(2),
            Duration.ofSeconds(5),
            Duration.ofSeconds(5));
    private static final String TOKEN = "hf_secretSECRETsecret";

    @TempDir
    private Path folder;

    private final FakeHub server = new FakeHub();
    private final List<String> heard = new ArrayList<>();
    private final byte[] weights = random(300_000, 1);

    @AfterEach
    void stop() {
        server.close();
    }

    private static byte[] random(int size, long seed) {
        byte[] bytes = new byte[size];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }

    private static byte[] text(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private FakeRepo model() {
        FakeRepo repo = server.repo("models/org/name");
        Map<String, byte[]> files = new LinkedHashMap<>();
        files.put("config.json", text("{\"model_type\": \"gemma3\"}"));
        files.put("tokenizer.json", text("{}"));
        files.put("chat_template.jinja", text("{{ x }}"));
        files.put("model.safetensors", weights);
        files.put("pytorch_model.bin", random(10, 2));
        files.put("README.md", text("# model"));
        files.put("original/params.json", text("{}"));
        repo.commit("model", files);
        return repo;
    }

    private HubSettings settings(String token, boolean offline, Patience patience) {
        return new HubSettings(
                server.endpoint(),
                folder.resolve("hub"),
                folder.resolve("token"),
                Token.of(token, "HF_TOKEN"),
                offline,
                patience,
                Proxies.of(Map.of()));
    }

    private Path fetch() {
        return fetch(settings("", false, QUICK), "main");
    }

    private Path fetch(HubSettings settings, String revision) {
        HubListener listener = new HubListener() {
            @Override
            public void onRetry(String why, Duration wait) {
                heard.add("retry: " + why);
            }

            @Override
            public void onNotice(String notice) {
                heard.add(notice);
            }

            @Override
            public void onProgress(long done, long total) {
                assertTrue(done >= 0 && done <= total, done + " of " + total);
                heard.removeIf(line -> line.startsWith("done "));
                heard.add("done " + done + " of " + total);
            }
        };
        try (Hub hub = new Hub(settings, listener)) {
            return hub.model(RepoId.model("org/name"), revision);
        }
    }

    /** As without a network: waiting for half a minute would help nobody. */
    @Test
    void aServerThatNeverWasThereIsTriedTwice() throws IOException {
        int free;
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            free = socket.getLocalPort();
        }
        HubSettings nowhere = new HubSettings(
                URI.create("http://127.0.0.1:" + free),
                folder.resolve("hub"),
                folder.resolve("token"),
                Token.of("", "HF_TOKEN"),
                false,
                QUICK,
                Proxies.of(Map.of()));
        assertThrows(HubException.class, () -> fetch(nowhere, "main"));
        assertEquals(
                1, heard.stream().filter(line -> line.startsWith("retry: ")).count(), heard.toString());
    }

    private String failure() {
        return failure(settings("", false, QUICK), "main");
    }

    private String failure(HubSettings settings, String revision) {
        String message = assertThrows(HubException.class, () -> fetch(settings, revision))
                .getMessage();
        assertFalse(message.contains("\n"), message);
        assertFalse(message.contains("hf_secret") || message.contains("signature"), message);
        assertTrue(heard.stream().noneMatch(line -> line.contains("hf_secret") || line.contains("signature")));
        return message;
    }

    private void assertContains(String message, String... parts) {
        for (String part : parts) {
            assertTrue(message.contains(part), message);
        }
    }

    private List<String> files(Path below) throws IOException {
        try (Stream<Path> walk = Files.walk(below)) {
            return walk.filter(Files::isRegularFile)
                    .map(path -> below.relativize(path).toString())
                    .sorted()
                    .toList();
        }
    }

    @Test
    void aModelIsLaidOutAsHuggingfaceHubDoes() throws IOException {
        FakeRepo repo = model();
        Path snapshot = fetch();
        String commit = repo.head().id();
        Path home = folder.resolve("hub/models--org--name");
        assertEquals(home.resolve("snapshots").resolve(commit), snapshot);
        assertEquals(commit, Files.readString(home.resolve("refs/main")));
        assertEquals(
                List.of("chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"), files(snapshot));
        String sha = FakeRepo.sha("SHA-256", weights);
        assertEquals(
                "../../blobs/" + sha,
                Files.readSymbolicLink(snapshot.resolve("model.safetensors")).toString());
        assertArrayEquals(weights, Files.readAllBytes(home.resolve("blobs").resolve(sha)));
        String config = FakeRepo.blobId("config.json", repo.head().files().get("config.json"));
        assertEquals(
                "../../blobs/" + config,
                Files.readSymbolicLink(snapshot.resolve("config.json")).toString());
        assertEquals(4, files(home.resolve("blobs")).size());
        assertTrue(Files.readString(folder.resolve("hub/CACHEDIR.TAG"))
                .startsWith("Signature: 8a477f597d28d172789f06886806bc55"));
        assertTrue(heard.contains("done 300000 of 300000"), heard.toString());
    }

    @Test
    void whatIsThereIsNotFetchedAgain() {
        model();
        fetch();
        server.seen.clear();
        fetch();
        assertEquals(1, server.seen.size(), server.seen.toString());
    }

    @Test
    void aNewCommitFetchesOnlyWhatChanged() throws IOException {
        FakeRepo repo = model();
        fetch();
        repo.commit("tokenizer", Map.of("tokenizer.json", text("{\"a\": 1}")));
        server.seen.clear();
        Path snapshot = fetch();
        assertEquals("{\"a\": 1}", Files.readString(snapshot.resolve("tokenizer.json")));
        assertEquals(0, server.count("GET .*(cdn|safetensors)"));
        assertEquals(repo.head().id(), Files.readString(folder.resolve("hub/models--org--name/refs/main")));
    }

    @Test
    void revisionsAreTagsAndCommits() throws IOException {
        FakeRepo repo = model();
        String old = repo.head().id();
        repo.tag("v1", old);
        repo.commit("new", Map.of("config.json", text("{\"new\": 1}")));
        assertTrue(fetch(settings("", false, QUICK), "v1").endsWith(old));
        assertTrue(fetch(settings("", false, QUICK), old).endsWith(old));
        assertTrue(fetch().endsWith(repo.head().id()));
        assertContains(failure(settings("", false, QUICK), "nothing"), "org/name", "no revision \"nothing\"");
    }

    @ParameterizedTest
    @ValueSource(strings = {"../main", "/etc", "a//b", "", "a\\b", "-x", "main.lock", "a\nb"})
    void aRevisionThatIsNoneIsRefused(String revision) {
        assertThrows(IllegalArgumentException.class, () -> fetch(settings("", false, QUICK), revision));
        assertEquals(0, server.seen.size());
    }

    @Test
    void shardsAreThoseOfTheIndex() throws IOException {
        FakeRepo repo = server.repo("models/org/name");
        repo.commit(
                "model",
                Map.of(
                        "config.json",
                        text("{}"),
                        "model.safetensors.index.json",
                        text("{\"weight_map\": {\"a\": \"model-1.safetensors\", \"b\": \"model-2.safetensors\"}}"),
                        "model-1.safetensors",
                        random(100, 1),
                        "model-2.safetensors",
                        random(100, 2),
                        "consolidated.safetensors",
                        random(100, 3)));
        assertEquals(
                List.of("config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"),
                files(fetch()));
        repo.commit("broken", Map.of("model.safetensors.index.json", text("{\"weight_map\": {\"a\": \"../x\"}}")));
        assertContains(
                assertThrows(lapidary.format.FormatException.class, this::fetch).getMessage(),
                "model.safetensors.index.json",
                "\"../x\"");
    }

    @Test
    void aRepositoryWithoutWeightsSaysSo() {
        server.repo("models/org/name").commit("x", Map.of("config.json", text("{}")));
        assertContains(failure(), "neither model.safetensors nor model.safetensors.index.json");
        server.repo("models/org/empty");
        try (Hub hub = new Hub(settings("", false, QUICK), HubListener.SILENT)) {
            assertContains(
                    assertThrows(HubException.class, () -> hub.model(RepoId.model("org/empty"), "main"))
                            .getMessage(),
                    "no config.json");
        }
    }

    // ---- who may ---------------------------------------------------------------------------------------------------

    @Test
    void theTokenGoesToTheHubAlone() {
        model();
        server.user(TOKEN, "someone");
        fetch(settings(TOKEN, false, QUICK), "main");
        assertTrue(server.count("GET /cdn/") > 0);
        for (FakeHub.Seen seen : server.seen) {
            boolean home = !seen.path().startsWith("/cdn/");
            assertEquals(home, seen.headers().containsKey("authorization"), seen.line());
        }
    }

    @Test
    void aGatedModelSaysWhereToAcceptAndHowToLogIn() {
        model().isGated = true;
        server.user(TOKEN, "someone");
        assertContains(failure(), "org/name is gated", server.endpoint() + "/org/name", "engine login", "HF_TOKEN");
        assertContains(
                failure(settings(TOKEN, false, QUICK), "main"),
                "org/name is gated",
                server.endpoint() + "/org/name",
                "account whose token is in HF_TOKEN");
        server.user(TOKEN, "granted");
        fetch(settings(TOKEN, false, QUICK), "main");
    }

    @Test
    void aPrivateOrMissingRepositoryIsOneSentence() {
        assertContains(failure(), "no model org/name", "engine login");
        server.user(TOKEN, "someone");
        assertContains(failure(settings(TOKEN, false, QUICK), "main"), "no model org/name", "token from HF_TOKEN");
        model().isPrivate = true;
        assertContains(failure(settings(TOKEN, false, QUICK), "main"), "no model org/name");
        server.user(TOKEN, "org");
        fetch(settings(TOKEN, false, QUICK), "main");
    }

    @Test
    void aRefusedTokenIsNamedBySourceOnly() {
        model();
        assertContains(
                failure(settings(TOKEN, false, QUICK), "main"), "refuses the token from HF_TOKEN", "/settings/tokens");
    }

    @Test
    void aServerThatRepeatsTheTokenDoesNotMakeUsPrintIt() {
        model();
        server.user(TOKEN, "someone");
        server.faults.add(
                Fault.status("GET /api", 9, 403, Map.of("X-Error-Message", "token " + TOKEN + " is bad"), ""));
        assertContains(failure(settings(TOKEN, false, QUICK), "main"), "token <token> is bad");
        server.faults.clear();
        server.faults.add(
                Fault.status("GET /api", 9, 400, Map.of(), "{\"error\": \"" + TOKEN + "\\n\\u001b[31mred\"}"));
        assertContains(failure(settings(TOKEN, false, QUICK), "main"), "<token>");
    }

    // ---- what goes wrong on the way --------------------------------------------------------------------------------

    @ParameterizedTest
    @CsvSource({"429", "500", "502", "503", "504", "408"})
    void aServerInTroubleIsAskedAgain(int status) throws IOException {
        model();
        server.faults.add(Fault.status("GET /api/models/org/name/revision", 2, status, Map.of(), "busy"));
        server.faults.add(Fault.status("HEAD .*safetensors", 2, status, Map.of(), ""));
        server.faults.add(Fault.status("GET /cdn", 2, status, Map.of(), "busy"));
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
        assertEquals(
                6, heard.stream().filter(line -> line.startsWith("retry: ")).count(), heard.toString());
    }

    @Test
    void aServerInLastingTroubleIsGivenUp() {
        model();
        server.faults.add(Fault.status("GET /cdn", 99, 503, Map.of(), ""));
        assertContains(failure(), "keeps answering 503", "try again later");
        assertEquals(4, server.count("GET /cdn"));
        server.faults.clear();
        server.faults.add(Fault.status("GET /api", 99, 429, Map.of("X-Error-Message", "slow down"), ""));
        assertContains(failure(), "429: slow down");
    }

    @Test
    void theWaitIsTheOneAskedFor() {
        model();
        server.faults.add(Fault.status("GET /api", 1, 429, Map.of("Retry-After", "1"), ""));
        long start = System.nanoTime();
        fetch();
        assertTrue(System.nanoTime() - start >= 1_000_000_000L);
        server.faults.add(Fault.status("GET /api", 1, 503, Map.of("Retry-After", "86400"), ""));
        assertContains(failure(), "asks to wait 86400 s");
        server.faults.add(Fault.status("GET /api", 1, 429, Map.of("RateLimit", "\"api\";r=0;t=300"), ""));
        assertContains(failure(), "asks to wait 301 s");
        server.faults.add(Fault.status("GET /api", 1, 503, Map.of("Retry-After", "Tue, 31 Dec 2199 23:59:59 GMT"), ""));
        assertContains(failure(), "asks to wait");
    }

    @Test
    void aCutConnectionGoesOnWhereItBroke() throws IOException {
        model();
        server.faults.add(Fault.cut("GET /cdn", 1, 100_000));
        server.faults.add(Fault.cut("GET /cdn", 1, 0));
        server.faults.add(Fault.cut("GET /cdn", 1, 50_000));
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
        List<String> ranges = server.seen.stream()
                .filter(seen -> seen.path().startsWith("/cdn"))
                .map(seen -> seen.headers().getOrDefault("range", "all"))
                .toList();
        assertEquals("all", ranges.get(0));
        assertEquals(4, ranges.size(), ranges.toString());
        assertTrue(ranges.get(3).matches("bytes=1\\d{5}-"), ranges.toString());
        assertTrue(heard.contains("done 300000 of 300000"), heard.toString());
    }

    @Test
    void manyCutsAreNoReasonToGiveUpWhileBytesArrive() throws IOException {
        model();
        server.faults.add(Fault.cut("GET /cdn", 12, 20_000));
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
    }

    @Test
    void aConnectionThatBringsNothingIsGivenUpAndKeepsWhatWasThere() throws IOException {
        model();
        server.faults.add(Fault.cut("GET /cdn", 1, 100_000));
        server.faults.add(Fault.cut("GET /cdn", 99, 0));
        assertContains(failure(), "cannot be reached");
        Path blobs = folder.resolve("hub/models--org--name/blobs");
        String part = FakeRepo.sha("SHA-256", weights) + ".lapidary.incomplete";
        assertEquals(100_000, Files.size(blobs.resolve(part)));
        server.faults.clear();
        server.seen.clear();
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
        assertEquals(
                List.of("bytes=100000-"),
                server.seen.stream()
                        .filter(seen -> seen.path().startsWith("/cdn"))
                        .map(seen -> seen.headers().getOrDefault("range", "all"))
                        .toList());
        assertFalse(Files.exists(blobs.resolve(part)));
    }

    @Test
    void aSilentServerIsGivenUp() {
        model();
        Patience impatient = new Patience(
                1,
                Duration.ofMillis(1),
                Duration.ofMillis(1),
                Duration.ofSeconds(1),
                Duration.ofSeconds(5),
                Duration.ofMillis(300));
        server.faults.add(Fault.slow("GET /cdn", 99, 5_000));
        assertContains(failure(settings("", false, impatient), "main"), "no byte for");
        server.faults.clear();
        server.faults.add(Fault.slow("GET /cdn", 99, 100)); // slow, but not silent
        fetch(settings("", false, impatient), "main");
    }

    @Test
    void aServerThatIgnoresRangesBeginsAnew() throws IOException {
        model();
        server.faults.add(Fault.cut("GET /cdn", 1, 100_000));
        server.faults.add(Fault.wholeFile("GET /cdn", 1));
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
        assertTrue(heard.contains("done 300000 of 300000"), heard.toString());
    }

    @Test
    void aDamagedFileIsFetchedOnceMoreAndThenRefused() throws IOException {
        model();
        server.faults.add(Fault.damage("GET /cdn", 1));
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
        server.repo("models/org/name").commit("other", Map.of("model.safetensors", random(5000, 9)));
        server.faults.add(Fault.damage("GET /cdn", 2));
        assertContains(failure(), "model.safetensors", "SHA-256", FakeRepo.sha("SHA-256", random(5000, 9)), "damaged");
        try (Stream<Path> blobs = Files.list(folder.resolve("hub/models--org--name/blobs"))) {
            assertTrue(blobs.noneMatch(blob -> blob.toString().endsWith(".incomplete")));
        }
    }

    @Test
    void smallFilesAreCheckedByGitsSum() {
        model();
        server.faults.add(Fault.damage("GET .*config.json", 2));
        assertContains(failure(), "config.json", "git SHA-1");
    }

    @Test
    void aDamagedLeftoverDoesNotSpoilTheFile() throws IOException {
        model();
        Path blobs = Files.createDirectories(folder.resolve("hub/models--org--name/blobs"));
        Path part = blobs.resolve(FakeRepo.sha("SHA-256", weights) + ".lapidary.incomplete");
        Files.write(part, random(1000, 77));
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
        Files.delete(blobs.resolve(FakeRepo.sha("SHA-256", weights)));
        Files.write(part, random(400_000, 78)); // longer than the file
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
    }

    @Test
    void aBlobThatWasCutShortIsReplaced() throws IOException {
        model();
        Path file = fetch().resolve("model.safetensors").toRealPath();
        Files.write(file, new byte[10]);
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
    }

    // ---- where a server sends us -----------------------------------------------------------------------------------

    /** Asks the check alone: were it broken, nothing would be sent beyond this machine. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "http://169.254.169.254/latest/meta-data/",
                "http://10.0.0.1/x",
                "http://192.168.1.1/x",
                "http://172.16.0.1/x",
                "http://100.64.0.1/x",
                "http://0.0.0.0/x",
                "http://[fe80::1]/x",
                "http://[fd00::1]/x",
                "http://[::ffff:10.0.0.1]/x",
                "http://[64:ff9b::a00:1]/x",
                "http://2852039166/x",
                "http://224.0.0.1/x",
                "http:///x",
                "http://a b/"
            })
    void placesThatAreNotPublicAreRefused(String target) {
        Destinations destinations = new Destinations(server.endpoint());
        String message = assertThrows(HubException.class, () -> destinations.follow(server.endpoint(), target))
                .getMessage();
        assertTrue(message.contains("nothing was sent there") || message.contains("malformed"), message);
    }

    @ParameterizedTest
    @ValueSource(strings = {"file:///etc/passwd", "ftp://127.0.0.1/x", "http://user:pass@127.0.0.1:9/x"})
    void redirectsToForbiddenPlacesAreRefused(String target) {
        model();
        server.faults.add(Fault.status("GET .*/resolve/.*safetensors", 9, 302, Map.of("Location", target), ""));
        String message = failure();
        assertContains(message, "refused", "nothing was sent there");
        assertFalse(message.contains("pass@"), message);
    }

    @Test
    void aPublicHubCannotSendUsToThisMachine() {
        Destinations destinations = new Destinations(URI.create("https://8.8.8.8"));
        URI from = URI.create("https://8.8.8.8/x");
        for (String target : List.of(
                "https://127.0.0.1/x",
                "https://[::1]/",
                "https://localhost/",
                "http://9.9.9.9/",
                "https://10.1.1.1/")) {
            assertThrows(HubException.class, () -> destinations.follow(from, target), target);
        }
        assertEquals(URI.create("https://9.9.9.9/x"), destinations.follow(from, "https://9.9.9.9/x"));
        assertEquals(URI.create("https://8.8.8.8/y"), destinations.follow(from, "/y"));
        assertFalse(destinations.isHome(URI.create("https://8.8.8.8:444/x")));
        assertFalse(destinations.isHome(URI.create("http://8.8.8.8/x")));
        assertTrue(destinations.isHome(URI.create("https://8.8.8.8:443/x")));
    }

    @Test
    void aPrivateHubMaySendUsToItsNeighboursOnly() {
        Destinations destinations = new Destinations(URI.create("http://10.0.0.5"));
        URI from = URI.create("http://10.0.0.5/x");
        assertEquals(URI.create("http://10.0.0.6/"), destinations.follow(from, "http://10.0.0.6/"));
        assertThrows(HubException.class, () -> destinations.follow(from, "http://169.254.169.254/"));
        assertThrows(HubException.class, () -> destinations.follow(from, "http://127.0.0.1/"));
    }

    @Test
    void redirectsAtHomeAreFollowedAndLoopsEnd() throws IOException {
        FakeRepo repo = model();
        String path = "/org/name/resolve/" + repo.head().id() + "/config.json";
        server.faults.add(Fault.status("(GET|HEAD) /old/name/resolve", 99, 307, Map.of("Location", path), ""));
        server.faults.add(
                Fault.status("HEAD .*config.json", 1, 307, Map.of("Location", "/old/name/resolve/x/config.json"), ""));
        fetch();
        server.faults.clear();
        server.repo("models/org/name").commit("new", Map.of("config.json", text("{\"b\": 2}")));
        server.faults.add(
                Fault.status("HEAD .*config.json", 99, 302, Map.of("Location", "/org/name/resolve/x/config.json"), ""));
        assertContains(failure(), "redirects more than 10 times");
    }

    @Test
    void anAnswerThatIsNotTheHubsIsTold() {
        model();
        server.faults.add(Fault.status("HEAD .*config.json", 9, 200, Map.of("ETag", "\"x\""), "hello"));
        assertContains(failure(), "does not answer as the Hub does", "HF_ENDPOINT");
        server.faults.clear();
        server.faults.add(Fault.status("GET /api", 9, 200, Map.of(), "<html>sign in</html>"));
        assertContains(failure(), "not valid JSON", "it was not the Hub that answered", "HF_ENDPOINT");
    }

    @Test
    void anEtagThatIsAPathIsRefused() throws IOException {
        FakeRepo repo = model();
        server.faults.add(Fault.status(
                "HEAD .*config.json",
                9,
                200,
                Map.of("X-Repo-Commit", repo.head().id(), "X-Linked-Etag", "\"../../../evil\"", "X-Linked-Size", "24"),
                ""));
        assertContains(failure(), "etag", "no name for a file");
        assertFalse(Files.exists(folder.resolve("evil")));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"../evil.json", "/etc/evil.json", "a/../../evil.json", "a\\b.json", "a//b.json", "c:evil.json"})
    void aListingThatLeadsOutOfItsFolderIsRefused(String path) throws IOException {
        model().commit("evil", Map.of(path, text("{}")));
        assertContains(failure(), "would not stay in its folder");
        assertFalse(Files.exists(folder.resolve("evil.json")));
    }

    @Test
    void moreBytesThanListedEndTheTransfer() throws IOException {
        FakeRepo repo = model();
        server.faults.add(Fault.status(
                "GET .*config.json", 9, 200, Map.of("X-Repo-Commit", repo.head().id()), "x".repeat(100_000)));
        assertContains(failure(), "config.json", "sends more than the 24 bytes");
    }

    /** Proxies do, whatever is asked for. */
    @Test
    void answersInGzipAreRead() throws IOException {
        model();
        server.zips = true;
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
        assertContains(failure(settings("hf_other", false, QUICK), "main"), "refuses the token");
    }

    @Test
    void anAnswerInGzipIsAsShortAsAnother() throws IOException {
        ByteArrayOutputStream bomb = new ByteArrayOutputStream();
        try (GZIPOutputStream zip = new GZIPOutputStream(bomb)) {
            zip.write(new byte[(64 << 20) + 1]);
        }
        assertContains(
                assertThrows(HubException.class, () -> Http.unzipped(bomb.toByteArray()))
                        .getMessage(),
                "longer than");
    }

    @Test
    void aFileInAnotherEncodingIsRefused() {
        model();
        server.faults.add(Fault.status("GET .*config.json", 9, 200, Map.of("Content-Encoding", "gzip"), "x"));
        assertContains(failure(), "encoding gzip", "not asked for");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "bytes 0-299999/300000",
                "bytes 99999-299999/300000",
                "bytes */300000",
                "nonsense",
                "bytes 9999999999999999999-1/2"
            })
    void anotherRangeThanAskedForIsRefusedAndNotAskedForAgain(String range) throws IOException {
        model();
        server.faults.add(Fault.cut("GET /cdn", 1, 100_000));
        server.faults.add(Fault.status("GET /cdn", 9, 206, Map.of("Content-Range", range), "x".repeat(200_000)));
        assertContains(failure(), "was asked for the bytes from 100000", "run again");
        server.faults.clear();
        server.seen.clear();
        assertArrayEquals(weights, Files.readAllBytes(fetch().resolve("model.safetensors")));
        assertTrue(server.seen.stream().noneMatch(seen -> seen.headers().containsKey("range")));
    }

    @Test
    void anAnswerThatDripsInForeverIsGivenUp() {
        model();
        Patience impatient = new Patience(
                0,
                Duration.ofMillis(1),
                Duration.ofMillis(1),
                Duration.ofSeconds(1),
                Duration.ofSeconds(5),
                Duration.ofMillis(200));
        server.faults.add(Fault.slow("GET .*/revision/", 9, 150)); // twenty pieces, so three seconds
        String message = failure(settings("", false, impatient), "main");
        assertTrue(message.contains("no whole answer within 2 s") || message.contains("no byte for"), message);
    }

    @Test
    void aListingWithoutEndIsGivenUp() {
        FakeRepo repo = model();
        String next =
                server.endpoint() + "/api/models/org/name/tree/" + repo.head().id() + "?cursor=x";
        server.faults.add(
                Fault.status("GET .*/tree/", 1_000_000, 200, Map.of("Link", "<" + next + ">; rel=\"next\""), "[]"));
        assertContains(failure(), "more than", "pages");
    }

    @Test
    void longListingsComeInPages() throws IOException {
        server.pageSize = 2;
        model();
        assertEquals(4, files(fetch()).size());
        assertEquals(4, server.count("GET .*/tree/"), server.seen.toString());
    }

    // ---- without a network -----------------------------------------------------------------------------------------

    @Test
    void offlineTheCacheAnswersAlone() {
        model();
        HubSettings offline = settings("", true, QUICK);
        assertContains(failure(offline, "main"), "org/name at revision main is not in", "HF_HUB_OFFLINE");
        Path snapshot = fetch();
        server.seen.clear();
        assertEquals(snapshot, fetch(offline, "main"));
        assertEquals(0, server.seen.size());
        assertContains(failure(offline, "v2"), "revision v2 is not in");
    }

    @Test
    void offlineAHalfDownloadedModelIsRefusedByName() throws IOException {
        model();
        Files.delete(fetch().resolve("model.safetensors"));
        assertContains(failure(settings("", true, QUICK), "main"), "lacks model.safetensors");
    }

    @Test
    void withoutANetworkTheCacheAnswersAndSaysSo() {
        model();
        Path snapshot = fetch();
        server.close();
        heard.clear();
        assertEquals(snapshot, fetch());
        assertTrue(
                heard.toString().contains("cannot be reached; using org/name as it was downloaded"), heard.toString());
    }

    @Test
    void withoutNetworkAndCacheTheErrorSaysWhatToCheck() {
        server.close();
        assertContains(failure(), "cannot be reached", "HF_ENDPOINT");
    }

    // ---- several at a time -----------------------------------------------------------------------------------------

    @Test
    void twoAtATimeFetchOnce() throws Exception {
        model();
        server.faults.add(Fault.slow("GET /cdn", 99, 20));
        try (ExecutorService pool = Executors.newFixedThreadPool(3)) {
            List<Future<Path>> all = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                all.add(pool.submit(() -> {
                    try (Hub hub = new Hub(settings("", false, QUICK), HubListener.SILENT)) {
                        return hub.model(RepoId.model("org/name"), "main");
                    }
                }));
            }
            for (Future<Path> one : all) {
                assertArrayEquals(weights, Files.readAllBytes(one.get().resolve("model.safetensors")));
            }
        }
        assertEquals(1, server.count("GET /cdn"));
    }

    @Test
    void manyFilesAreAllThere() throws IOException {
        FakeRepo repo = server.repo("models/org/name");
        Map<String, byte[]> files = new LinkedHashMap<>();
        StringBuilder map = new StringBuilder();
        for (int i = 0; i < 40; i++) {
            byte[] content = random(1000 + i, i);
            files.put("m-" + i + ".safetensors", content);
            if (i % 4 == 0) { // once each: a number for all of them could use up one file's patience
                server.faults.add(
                        Fault.status("GET /cdn/" + FakeRepo.sha("SHA-256", content), 1, 500, Map.of(), "busy"));
            }
            map.append(i == 0 ? "" : ", ").append("\"t" + i + "\": \"m-" + i + ".safetensors\"");
        }
        files.put("config.json", text("{}"));
        files.put("model.safetensors.index.json", text("{\"weight_map\": {" + map + "}}"));
        repo.commit("many", files);
        Path snapshot = fetch();
        for (Map.Entry<String, byte[]> file : files.entrySet()) {
            assertArrayEquals(file.getValue(), Files.readAllBytes(snapshot.resolve(file.getKey())));
        }
        assertEquals(
                0, server.faults.stream().mapToInt(fault -> fault.times().get()).sum(), "every fault has struck");
    }

    @Test
    void aFullDiskIsToldBeforeAnythingIsFetched() {
        FakeRepo repo = model();
        String tree = "[{\"type\": \"file\", \"oid\": \"" + "1".repeat(40)
                + "\", \"size\": 4611686018427387904, \"path\":" + " \"config.json\"}]";
        server.faults.add(Fault.status("GET .*/tree/" + repo.head().id(), 1, 200, Map.of(), tree));
        // JSON of such a size would not be read either, so the weights carry it
        server.faults.set(
                0,
                Fault.status(
                        "GET .*/tree/" + repo.head().id(),
                        1,
                        200,
                        Map.of(),
                        tree.replace("config.json", "model.safetensors")
                                .replace(
                                        "}]",
                                        "}, {\"type\": \"file\", \"oid\": \""
                                                + FakeRepo.blobId(
                                                        "config.json",
                                                        repo.head().files().get("config.json"))
                                                + "\", \"size\": 24, \"path\": \"config.json\"}]")));
        assertContains(failure(), "needs 4611686.0 TB", "free", "HF_HUB_CACHE");
        assertEquals(0, server.count("GET .*safetensors"));
    }

    @Test
    void aCacheThatCannotBeWrittenSaysSo() throws IOException {
        model();
        Files.writeString(folder.resolve("hub"), "a file");
        assertContains(failure(), "cannot write", "HF_HUB_CACHE");
    }

    @Test
    void aReadOnlyCacheServesWhatItHas() throws IOException {
        model();
        Path snapshot = fetch();
        server.repo("models/org/name")
                .tag("v9", server.repo("models/org/name").head().id());
        Path refs = folder.resolve("hub/models--org--name/refs");
        assertTrue(refs.toFile().setWritable(false));
        try {
            assertEquals(snapshot, fetch(settings("", false, QUICK), "v9"));
        } finally {
            assertTrue(refs.toFile().setWritable(true));
        }
    }

    @Test
    void aLinkIntoTheCachesSharedStoreCounts() throws IOException {
        model();
        Path file = fetch().resolve("model.safetensors");
        Path blob = file.toRealPath();
        Path shared = Files.createDirectories(folder.resolve("hub/blobs/ab")).resolve("xet");
        Files.move(blob, shared);
        Files.createSymbolicLink(blob, Path.of("../../blobs/ab/xet"));
        server.seen.clear();
        fetch();
        assertEquals(1, server.seen.size());
        assertTrue(Arrays.equals(weights, Files.readAllBytes(file)));
    }
}
