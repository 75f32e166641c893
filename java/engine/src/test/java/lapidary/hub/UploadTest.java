package lapidary.hub;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Uploads and logins against a server on this machine, with everything that goes wrong on the way. */
final class UploadTest {
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
    private final SortedMap<String, Path> files = new TreeMap<>();

    @BeforeEach
    void write() throws IOException {
        server.user(TOKEN, "someone");
        byte[] weights = new byte[100_000];
        new Random(1).nextBytes(weights);
        add("adapter_model.safetensors", weights);
        add("adapter_config.json", "{}".getBytes());
        add("runs/events.tfevents", new byte[] {1, 2, 3});
        add("empty.bin", new byte[0]);
        add("README.md", "---\nlibrary_name: peft\n---\n".getBytes());
    }

    @AfterEach
    void stop() {
        server.close();
    }

    private void add(String path, byte[] content) throws IOException {
        Path file = folder.resolve("out").resolve(path);
        Files.createDirectories(file.getParent());
        files.put(path, Files.write(file, content));
    }

    private HubSettings settings(String token) {
        return new HubSettings(
                server.endpoint(),
                folder.resolve("hub"),
                folder.resolve("hf/token"),
                Token.of(token, "HF_TOKEN"),
                false,
                QUICK,
                Proxies.of(Map.of()));
    }

    private String push() {
        return push("someone/model", false);
    }

    private String push(String name, boolean isPrivate) {
        HubListener listener = new HubListener() {
            @Override
            public void onRetry(String why, Duration wait) {
                heard.add(why);
            }

            @Override
            public void onProgress(long done, long total) {
                assertTrue(done >= 0 && done <= total, done + " of " + total);
                heard.removeIf(line -> line.startsWith("done "));
                heard.add("done " + done + " of " + total);
            }
        };
        try (Hub hub = new Hub(settings(TOKEN), listener)) {
            return hub.upload(hub.create(name, isPrivate), files, "End of training");
        }
    }

    private String failure() {
        String message = assertThrows(HubException.class, this::push).getMessage();
        assertFalse(message.contains("\n") || message.contains("hf_secret") || message.contains("signature"), message);
        return message;
    }

    private void assertPublished() throws IOException {
        Map<String, byte[]> there = server.repo("models/someone/model").head().files();
        assertEquals(files.keySet(), there.keySet());
        for (Map.Entry<String, Path> file : files.entrySet()) {
            assertArrayEquals(Files.readAllBytes(file.getValue()), there.get(file.getKey()), file.getKey());
        }
        assertEquals(2, server.repo("models/someone/model").states().size());
        assertEquals(
                "End of training", server.repo("models/someone/model").head().title());
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 30_000, 50_000, 99_999, 100_000})
    void filesArriveInOneCommit(int partSize) throws IOException {
        server.partSize = partSize;
        String address = push();
        assertPublished();
        assertTrue(address.endsWith(server.repo("models/someone/model").head().id()), address);
        assertTrue(heard.contains("done 100000 of 100000"), heard.toString());
        for (FakeHub.Seen seen : server.seen) {
            assertEquals(
                    !seen.path().startsWith("/storage/"), seen.headers().containsKey("authorization"), seen.line());
        }
        assertEquals(1, server.count("POST /verify"));
    }

    @Test
    void aNameAloneIsInTheUsersOwnAccount() {
        push("model", false);
        assertTrue(server.has("models/someone/model"));
    }

    @Test
    void whatIsThereIsNotSentAgain() throws IOException {
        push();
        server.seen.clear();
        assertEquals(server.endpoint() + "/someone/model", push());
        assertEquals(0, server.count("batch|commit|storage"), server.seen.toString());
        add("adapter_config.json", "{\"r\": 1}".getBytes());
        push();
        assertEquals(0, server.count("batch|storage"), server.seen.toString());
        assertEquals(
                "{\"r\": 1}",
                new String(server.repo("models/someone/model").head().files().get("adapter_config.json")));
        add("copy.safetensors", Files.readAllBytes(files.get("adapter_model.safetensors")));
        push();
        assertEquals(0, server.count("storage"), server.seen.toString());
        assertEquals(6, server.repo("models/someone/model").head().files().size());
    }

    @Test
    void whatTheHubIgnoresIsLeftOut() throws IOException {
        add("x.ignored", new byte[] {1});
        push();
        assertFalse(server.repo("models/someone/model").head().files().containsKey("x.ignored"));
    }

    @Test
    void privateMeansPrivate() {
        push("someone/hidden", true);
        assertTrue(server.repo("models/someone/hidden").isPrivate);
        push();
        assertFalse(server.repo("models/someone/model").isPrivate);
        String message = assertThrows(HubException.class, () -> push("someone/model", true))
                .getMessage();
        assertTrue(message.contains("public repository") && message.contains("hub_private_repo"), message);
    }

    // ---- refusals --------------------------------------------------------------------------------------------------

    @Test
    void withoutATokenNothingIsAsked() {
        try (Hub hub = new Hub(settings(""), HubListener.SILENT)) {
            String message = assertThrows(HubException.class, () -> hub.create("a/b", false))
                    .getMessage();
            assertTrue(message.contains("engine login") && message.contains("HF_TOKEN"), message);
        }
        assertEquals(0, server.seen.size());
    }

    @Test
    void anotherAccountIsRefused() {
        String message = assertThrows(HubException.class, () -> push("other/model", false))
                .getMessage();
        assertTrue(message.contains("creation of other/model") && message.contains("rights"), message);
        server.repo("models/other/model");
        message = assertThrows(HubException.class, () -> push("other/model", false))
                .getMessage();
        assertTrue(message.contains("403") && message.contains("HF_TOKEN"), message);
    }

    @Test
    void aRefusedTokenIsTold() {
        server.faults.add(Fault.status(
                "POST", 9, 401, Map.of("X-Error-Message", "Invalid credentials in Authorization header"), ""));
        server.faults.add(Fault.status(
                "GET", 9, 401, Map.of("X-Error-Message", "Invalid credentials in Authorization header"), ""));
        assertTrue(failure().contains("refuses the token from HF_TOKEN"));
    }

    @Test
    void aCardThatTheHubDoesNotTakeIsTold() {
        server.faults.add(Fault.status(
                "POST /api/validate-yaml",
                1,
                200,
                Map.of(),
                "{\"errors\": [{\"message\": \"bad\\nbase_model\"}], \"warnings\": []}"));
        String message = failure();
        assertTrue(message.contains("model card") && message.contains("bad base_model"), message);
        assertEquals(1, server.repo("models/someone/model").states().size());
    }

    @Test
    void whatTheStorageDoesNotTakeIsTold() {
        server.faults.add(Fault.status(
                "POST .*objects/batch",
                1,
                200,
                Map.of(),
                "{\"objects\": [{\"oid\": \"" + FakeRepo.sha("SHA-256", weights())
                        + "\", \"size\": 1, \"error\": {\"code\": 422, \"message\": \"quota\"}}]}"));
        assertTrue(failure().contains("does not take adapter_model.safetensors: quota"));
    }

    private byte[] weights() {
        try {
            return Files.readAllBytes(files.get("adapter_model.safetensors"));
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"http://169.254.169.254/x", "http://10.0.0.1/x", "file:///x"})
    void storageInForbiddenPlacesIsRefused(String href) {
        // the check alone, so that nothing is sent beyond this machine were it broken
        Destinations destinations = new Destinations(server.endpoint());
        assertThrows(HubException.class, () -> destinations.follow(server.endpoint(), href));
    }

    @Test
    void storageAddressesAreChecked() {
        server.faults.add(Fault.status(
                "POST .*objects/batch",
                1,
                200,
                Map.of(),
                "{\"objects\": [{\"oid\": \""
                        + FakeRepo.sha("SHA-256", weights())
                        + "\", \"size\": 1, \"actions\": {\"upload\": {\"href\": \"http://u:p@127.0.0.1:1/x\"}}}]}"));
        assertTrue(failure().contains("refused"));
    }

    @Test
    void aPathThatIsNoneIsRefused() {
        files.put("../x", files.get("README.md"));
        assertTrue(failure().contains("\"../x\" cannot be the name"));
    }

    // ---- what goes wrong on the way --------------------------------------------------------------------------------

    @ParameterizedTest
    @CsvSource({"429", "500", "502", "503", "504"})
    void aServerInTroubleIsAskedAgain(int status) throws IOException {
        server.partSize = 40_000;
        for (String request : List.of(
                "POST /api/repos/create",
                "POST /api/validate-yaml",
                "POST .*preupload",
                "POST .*objects/batch",
                "PUT /storage/.*/2",
                "POST /complete",
                "POST /verify",
                "POST .*/commit/")) {
            server.faults.add(Fault.status(request, 2, status, Map.of("Retry-After", "0"), "busy"));
        }
        push();
        assertPublished();
        assertTrue(heard.contains("done 100000 of 100000"), heard.toString());
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "POST /api/repos/create",
                "POST .*preupload",
                "POST .*batch",
                "PUT /storage",
                "POST /verify",
                "POST .*/commit/"
            })
    void aConnectionThatIsCutIsTriedAgain(String request) throws IOException {
        server.faults.add(Fault.cut(request, 2, 0));
        push();
        assertPublished();
    }

    @Test
    void aCommitWhoseAnswerIsLostIsNotMadeTwice() throws IOException {
        server.faults.add(Fault.lost("POST .*/commit/", 1));
        push();
        assertPublished();
        assertEquals(2, server.count("POST .*/commit/"));
    }

    @Test
    void aCommitOfSomeoneElseInBetweenIsNoHindrance() {
        push();
        FakeRepo repo = server.repo("models/someone/model");
        server.faults.add(
                Fault.status("POST .*/commit/", 1, 412, Map.of(), "{\"error\": \"A commit has happened since\"}"));
        files.put("new.json", files.get("adapter_config.json"));
        push();
        assertTrue(repo.head().files().containsKey("new.json"));
    }

    @Test
    void lastingTroubleLeavesTheRepositoryAsItWas() {
        server.faults.add(Fault.status("PUT /storage", 99, 500, Map.of(), ""));
        assertTrue(failure().contains("keeps answering 500"));
        assertEquals(1, server.repo("models/someone/model").states().size());
    }

    @Test
    void aStorageThatKeepsSomethingElseIsToldByIt() {
        server.faults.add(Fault.status("POST /verify", 9, 404, Map.of(), "{\"error\": \"not stored\"}"));
        assertTrue(failure().contains("upload of adapter_model.safetensors: not stored"));
    }

    @Test
    void partsThatDoNotFitTheFileAreRefused() {
        server.faults.add(
                Fault.status(
                        "POST .*objects/batch",
                        1,
                        200,
                        Map.of(),
                        "{\"objects\": [{\"oid\": \""
                                + FakeRepo.sha("SHA-256", weights())
                                + "\", \"size\": 1, \"actions\": {\"upload\": {\"href\": \"/c\", \"header\": {\"chunk_size\": \"7\", \"1\": \"/x\"}}}}]}"));
        assertTrue(failure().contains("1 parts of 7 bytes"));
    }

    // ---- login -----------------------------------------------------------------------------------------------------

    @Test
    void loginStoresTheTokenForItsUserAlone() throws IOException {
        Path names = folder.resolve("hf/stored_tokens");
        Files.createDirectories(names.getParent());
        Files.writeString(names, "[other]\nhf_token = hf_other\n\n[test]\nhf_token = hf_old\nexpires_at = 1\n\n");
        Hub.Account account = Login.login(settings(""), Token.of(TOKEN, "the keyboard"), HubListener.SILENT);
        assertEquals(new Hub.Account("someone", "test"), account);
        Path file = folder.resolve("hf/token");
        assertEquals(TOKEN, Files.readString(file));
        assertEquals("[other]\nhf_token = hf_other\n\n[test]\nhf_token = " + TOKEN + "\n\n", Files.readString(names));
        for (Path secret : Set.of(file, names)) {
            assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(secret)));
        }
        assertEquals(
                "Bearer " + TOKEN,
                HubSettings.of(Map.of("HF_HOME", folder + "/hf"), folder)
                        .token()
                        .bearer());
    }

    @Test
    void aTokenThatTheHubRefusesIsNotStored() {
        String message = assertThrows(
                        HubException.class,
                        () -> Login.login(settings(""), Token.of("hf_secretWRONG", "the keyboard"), HubListener.SILENT))
                .getMessage();
        assertTrue(message.contains("refuses the token from the keyboard") && !message.contains("hf_secret"), message);
        assertFalse(Files.exists(folder.resolve("hf/token")));
    }

    @Test
    void anOutputFolderGivesNoCheckpointsAndNothingHidden() throws IOException {
        Path out = folder.resolve("run");
        for (String path : List.of("a.json", "runs/x", "checkpoint-5/a", "_b", ".hidden", "runs/.c.part", "x_y/_z")) {
            Files.createDirectories(out.resolve(path).getParent());
            Files.writeString(out.resolve(path), "x");
        }
        assertEquals(Set.of("a.json", "runs/x", "x_y/_z"), Push.files(out).keySet());
    }
}
