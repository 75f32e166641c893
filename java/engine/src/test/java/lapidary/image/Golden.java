package lapidary.image;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;

/** What bench/reference/image_golden.py wrote, and the noise that it shares with the tests. */
final class Golden {
    private Golden() {}

    static byte[] file(String name) {
        try (InputStream in = Golden.class.getResourceAsStream(name)) {
            return in.readAllBytes();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    static List<String[]> table(String name) {
        return new String(file(name), StandardCharsets.UTF_8)
                .lines()
                .map(line -> line.split("\t"))
                .toList();
    }

    static String sha256(byte[] bytes) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    static Rgb noise(int width, int height, boolean blackAndWhite) {
        byte[] pixels = new byte[3 * width * height];
        for (int i = 0; i < pixels.length; i++) {
            int x = i * 0x9e3779b1;
            x ^= x >>> 15;
            x *= 0x85ebca77;
            x ^= x >>> 13;
            pixels[i] = blackAndWhite ? (byte) ((x & 255) > 127 ? 255 : 0) : (byte) x;
        }
        return new Rgb(width, height, pixels);
    }
}
