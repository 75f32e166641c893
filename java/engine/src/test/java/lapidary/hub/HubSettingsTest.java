package lapidary.hub;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

final class HubSettingsTest {
    @TempDir
    private Path home;

    private HubSettings of(String... pairs) {
        Map<String, String> environment = new java.util.HashMap<>();
        for (int i = 0; i < pairs.length; i += 2) {
            environment.put(pairs[i], pairs[i + 1]);
        }
        return HubSettings.of(environment, home);
    }

    @Test
    void defaultsAreHuggingfaceHubs() {
        HubSettings settings = of();
        assertEquals("https://huggingface.co", settings.endpoint().toString());
        assertEquals(home.resolve(".cache/huggingface/hub"), settings.cache());
        assertEquals(home.resolve(".cache/huggingface/token"), settings.tokenFile());
        assertFalse(settings.token().isPresent());
        assertFalse(settings.offline());
    }

    @Test
    void variablesMoveThings() {
        assertEquals(
                home.resolve("x/huggingface/hub"),
                of("XDG_CACHE_HOME", home + "/x").cache());
        assertEquals(
                Path.of("/data/hf/hub"),
                of("HF_HOME", "/data/hf", "XDG_CACHE_HOME", "/x").cache());
        assertEquals(Path.of("/data/hf/token"), of("HF_HOME", "/data/hf").tokenFile());
        assertEquals(
                Path.of("/c"), of("HF_HOME", "/data/hf", "HF_HUB_CACHE", "/c").cache());
        assertEquals(Path.of("/d"), of("HUGGINGFACE_HUB_CACHE", "/d").cache());
        assertEquals(
                Path.of("/c"),
                of("HUGGINGFACE_HUB_CACHE", "/d", "HF_HUB_CACHE", "/c").cache());
        assertEquals(home.resolve("hf/hub"), of("HF_HOME", "~/hf").cache());
        assertEquals(
                Path.of("/scratch/me/hub"),
                of("HF_HUB_CACHE", "/scratch/${WHO}/hub", "WHO", "me").cache());
        assertEquals(
                Path.of("/scratch/$WHO/hub"),
                of("HF_HUB_CACHE", "/scratch/$WHO/hub").cache());
        assertEquals(
                "http://127.0.0.1:8000",
                of("HF_ENDPOINT", "http://127.0.0.1:8000/").endpoint().toString());
        assertTrue(of("HF_HUB_OFFLINE", "1").offline());
        assertTrue(of("HF_HUB_OFFLINE", "yes").offline());
        assertTrue(of("TRANSFORMERS_OFFLINE", "ON").offline());
        assertFalse(of("HF_HUB_OFFLINE", "0").offline());
    }

    @Test
    void theVariableGoesBeforeTheStoredToken() throws IOException {
        Path file = Files.createDirectories(home.resolve(".cache/huggingface")).resolve("token");
        Files.writeString(file, "hf_stored\n");
        assertEquals("Bearer hf_stored", of().token().bearer());
        assertEquals(file.toString(), of().token().source());
        assertEquals("Bearer hf_set", of("HF_TOKEN", " hf_set\r\n").token().bearer());
        assertEquals(
                "Bearer hf_old", of("HUGGING_FACE_HUB_TOKEN", "hf_old").token().bearer());
        assertEquals("Bearer hf_stored", of("HF_TOKEN", " ").token().bearer());
        Files.writeString(file, " \n");
        assertFalse(of().token().isPresent());
    }

    @Test
    void proxiesAreThoseOfTheEnvironment() {
        java.util.function.BiFunction<HubSettings, String, String> way = (settings, uri) ->
                settings.proxies().select(java.net.URI.create(uri)).get(0).toString();
        HubSettings settings = of("HTTPS_PROXY", "http://proxy:3128", "no_proxy", "internal.example,.corp, 10.0.0.1");
        assertEquals("HTTP @ proxy/<unresolved>:3128", way.apply(settings, "https://huggingface.co/x"));
        assertEquals("DIRECT", way.apply(settings, "http://huggingface.co/x"));
        for (String host :
                new String[] {"internal.example", "a.internal.example", "x.corp", "10.0.0.1", "127.0.0.1", "localhost"
                }) {
            assertEquals("DIRECT", way.apply(settings, "https://" + host + "/x"), host);
        }
        assertEquals("HTTP @ proxy/<unresolved>:3128", way.apply(settings, "https://notinternal.example/x"));
        assertEquals(
                "HTTP @ small/<unresolved>:80",
                way.apply(of("https_proxy", "small", "HTTPS_PROXY", "http://big:1"), "https://a/"));
        assertEquals("HTTP @ all/<unresolved>:8", way.apply(of("ALL_PROXY", "http://all:8"), "http://a/"));
        assertEquals("DIRECT", way.apply(of("ALL_PROXY", "http://all:8", "NO_PROXY", "*"), "http://a/"));
        for (String wrong : new String[] {"socks5://x:1", "http://user:secret@x:1", "http://", "a b"}) {
            String message = assertThrows(IllegalArgumentException.class, () -> of("HTTPS_PROXY", wrong))
                    .getMessage();
            assertTrue(message.contains("HTTPS_PROXY") && !message.contains("secret"), message);
        }
    }

    @Test
    void theTimeoutIsSeconds() {
        assertEquals(
                java.time.Duration.ofSeconds(7),
                of("HF_HUB_DOWNLOAD_TIMEOUT", "7").patience().stall());
        assertThrows(IllegalArgumentException.class, () -> of("HF_HUB_DOWNLOAD_TIMEOUT", "soon"));
        assertThrows(IllegalArgumentException.class, () -> of("HF_ENDPOINT", "http://a:99999"));
    }

    @Test
    void noTextShowsTheToken() {
        HubSettings settings = of("HF_TOKEN", "hf_secret");
        assertFalse(settings.toString().contains("hf_secret"), settings.toString());
        String message = assertThrows(IllegalArgumentException.class, () -> of("HF_TOKEN", "hf_sec ret"))
                .getMessage();
        assertTrue(message.contains("HF_TOKEN") && !message.contains("hf_sec"), message);
        assertEquals("a <token> b", settings.token().redact("a hf_secret b"));
        assertEquals("a b", Token.NONE.redact("a b"));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"huggingface.co", "ftp://x", "http://", "https://x/?a=b", "http://a b", "https://u:secret@x"})
    void anEndpointThatIsNoneIsNamed(String endpoint) {
        String message = assertThrows(IllegalArgumentException.class, () -> of("HF_ENDPOINT", endpoint))
                .getMessage();
        assertTrue(message.contains("HF_ENDPOINT") && !message.contains("secret"), message);
    }

    @ParameterizedTest
    @ValueSource(strings = {"org/name", "gpt2", "a/b", "HuggingFaceH4/llava-instruct-mix-vsft", "a_b/c.d-e"})
    void namesThatTheHubAllows(String name) {
        assertTrue(RepoId.isValid(name));
        assertEquals(name, RepoId.model(name).toString());
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "", "/", "a/", "/a", "a/b/c", "../b", "a/..", ".a/b", "a/b.", "-a/b", "a--b/c", "a/b.git", "a b/c",
                "a/b?c", "./a", "a/b\n"
            })
    void namesThatTheHubDoesNotAllow(String name) {
        assertFalse(RepoId.isValid(name));
        assertThrows(IllegalArgumentException.class, () -> RepoId.dataset(name));
    }
}
