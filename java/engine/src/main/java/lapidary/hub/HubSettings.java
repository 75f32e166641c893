package lapidary.hub;

import java.io.IOException;
import java.net.ProxySelector;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import lapidary.device.CacheFolder;

/**
 * Where the Hub and its cache are, and who asks: the environment variables of huggingface_hub, with its defaults.
 *
 * @param endpoint the Hub's address without a slash at the end; {@code HF_ENDPOINT}
 * @param cache folder of downloaded repositories; {@code HF_HUB_CACHE}, else {@code HF_HOME/hub}
 * @param tokenFile where login stores the token; {@code HF_TOKEN_PATH}, else {@code HF_HOME/token}
 * @param token {@code HF_TOKEN}, else what that file holds
 * @param offline {@code HF_HUB_OFFLINE}: only what the cache has
 * @param patience with a slow or failing server; {@code HF_HUB_DOWNLOAD_TIMEOUT} is its {@code stall} in seconds
 * @param proxies on the way to servers; {@code HTTPS_PROXY} and its kin
 */
public record HubSettings(
        URI endpoint,
        Path cache,
        Path tokenFile,
        Token token,
        boolean offline,
        Patience patience,
        ProxySelector proxies) {
    /** The Hub itself, which answers with addresses of its own even where it is reached by another. */
    static final String DEFAULT_ENDPOINT = "https://huggingface.co";

    private static final Set<String> TRUE = Set.of("1", "ON", "YES", "TRUE");
    private static final Pattern VARIABLE = Pattern.compile("\\$(?:(\\w+)|\\{([^}]*)})");
    private static final long LONGEST_TOKEN_FILE = 1 << 16; // bytes

    /** The settings of this process. */
    public static HubSettings ofEnvironment() {
        return of(System.getenv(), CacheFolder.userHome());
    }

    /**
     * @param environment variables by name
     * @param userHome what {@code ~} stands for
     * @throws IllegalArgumentException a variable holds what it may not; the message names it
     */
    public static HubSettings of(Map<String, String> environment, Path userHome) {
        String userCache =
                value(environment, "XDG_CACHE_HOME", userHome.resolve(".cache").toString());
        String home = value(environment, "HF_HOME", userCache + "/huggingface");
        Path hfHome = path("HF_HOME", home, environment, userHome);
        String cache = value(
                environment,
                "HF_HUB_CACHE",
                value(
                        environment,
                        "HUGGINGFACE_HUB_CACHE",
                        hfHome.resolve("hub").toString()));
        Path tokenFile = path(
                "HF_TOKEN_PATH",
                value(environment, "HF_TOKEN_PATH", hfHome.resolve("token").toString()),
                environment,
                userHome);
        return new HubSettings(
                endpoint(value(environment, "HF_ENDPOINT", DEFAULT_ENDPOINT)),
                path("HF_HUB_CACHE", cache, environment, userHome),
                tokenFile,
                token(environment, tokenFile),
                isTrue(environment, "HF_HUB_OFFLINE") || isTrue(environment, "TRANSFORMERS_OFFLINE"),
                patience(environment),
                Proxies.of(environment));
    }

    /** The same with another token. */
    HubSettings with(Token other) {
        return new HubSettings(endpoint, cache, tokenFile, other, offline, patience, proxies);
    }

    /** The address of a page or call below the endpoint. */
    URI uri(String path) {
        return URI.create(endpoint + "/" + path);
    }

    private static Patience patience(Map<String, String> environment) {
        String seconds = environment.getOrDefault("HF_HUB_DOWNLOAD_TIMEOUT", "").strip();
        if (seconds.isEmpty()) {
            return Patience.DEFAULT;
        }
        if (!seconds.matches("[1-9]\\d{0,5}")) {
            throw new IllegalArgumentException(
                    "HF_HUB_DOWNLOAD_TIMEOUT is " + Text.oneLine(seconds) + ", expected a whole number of seconds");
        }
        return Patience.DEFAULT.withStall(Duration.ofSeconds(Long.parseLong(seconds)));
    }

    private static URI endpoint(String text) {
        String trimmed = text.strip().replaceAll("/+$", "");
        URI uri;
        try {
            uri = URI.create(trimmed);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(
                    "HF_ENDPOINT is not an address, expected one like " + DEFAULT_ENDPOINT, e);
        }
        boolean http = "https".equalsIgnoreCase(uri.getScheme()) || "http".equalsIgnoreCase(uri.getScheme());
        if (!http
                || uri.getHost() == null
                || uri.getPort() > 65535
                || uri.getRawQuery() != null
                || uri.getRawFragment() != null) {
            throw new IllegalArgumentException("HF_ENDPOINT is \"" + Text.oneLine(trimmed.replaceAll("//[^/@]*@", "//"))
                    + "\", expected an address like " + DEFAULT_ENDPOINT);
        }
        if (uri.getRawUserInfo() != null) {
            throw new IllegalArgumentException(
                    "HF_ENDPOINT holds a user name or password; give the address alone and the token in HF_TOKEN");
        }
        return uri;
    }

    private static Token token(Map<String, String> environment, Path tokenFile) {
        for (String name : new String[] {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
            Token token = Token.of(environment.getOrDefault(name, ""), name);
            if (token.isPresent()) {
                return token;
            }
        }
        try {
            if (Files.size(tokenFile) > LONGEST_TOKEN_FILE) {
                throw new IllegalArgumentException(tokenFile + " is too long for a token; log in again: engine login");
            }
            return Token.of(
                    new String(Files.readAllBytes(tokenFile), java.nio.charset.StandardCharsets.UTF_8),
                    tokenFile.toString());
        } catch (NoSuchFileException e) {
            return Token.NONE;
        } catch (IOException e) {
            throw new IllegalArgumentException(
                    "the stored token in " + tokenFile + " cannot be read ("
                            + e.getClass().getSimpleName() + "); make the file readable or set HF_TOKEN",
                    e);
        }
    }

    private static String value(Map<String, String> environment, String name, String absent) {
        String value = environment.getOrDefault(name, "");
        return value.isBlank() ? absent : value;
    }

    private static boolean isTrue(Map<String, String> environment, String name) {
        return TRUE.contains(environment.getOrDefault(name, "").toUpperCase(Locale.ROOT));
    }

    /** Expands {@code ~}, {@code $NAME} and {@code ${NAME}} as Python's os.path does: what is not set stays as it is. */
    private static Path path(String variable, String text, Map<String, String> environment, Path userHome) {
        String expanded = text.equals("~") || text.startsWith("~/") ? userHome + text.substring(1) : text;
        Matcher matcher = VARIABLE.matcher(expanded);
        StringBuilder out = new StringBuilder();
        while (matcher.find()) {
            String name = matcher.group(1) != null ? matcher.group(1) : matcher.group(2);
            matcher.appendReplacement(out, Matcher.quoteReplacement(environment.getOrDefault(name, matcher.group())));
        }
        matcher.appendTail(out);
        try {
            return Path.of(out.toString()).toAbsolutePath().normalize();
        } catch (java.nio.file.InvalidPathException e) {
            throw new IllegalArgumentException(variable + " is not a path: " + Text.oneLine(text), e);
        }
    }
}
