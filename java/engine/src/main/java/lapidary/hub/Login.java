package lapidary.hub;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * Stores a token where huggingface_hub looks for it: the token alone in {@code token}, and under its name in {@code stored_tokens}
 * beside it. Both are for the user's eyes alone (mode 0600).
 */
public final class Login {
    private static final String UNNAMED = "lapidary";

    private Login() {}

    /**
     * Asks the Hub whose token it is, and stores it.
     *
     * @throws HubException the Hub refuses it, or it cannot be stored
     */
    public static Hub.Account login(HubSettings settings, Token token, HubListener listener) {
        Hub.Account account;
        try (Hub hub = new Hub(settings.with(token), listener)) {
            account = hub.account();
        }
        Path file = settings.tokenFile();
        try {
            Path folder = file.toAbsolutePath().getParent();
            if (!Files.isDirectory(folder)) {
                Files.createDirectories(folder);
            }
            Path names = file.resolveSibling("stored_tokens");
            writeSecret(names, named(names, account.tokenName(), token));
            writeSecret(file, token.secret());
        } catch (IOException e) {
            throw new HubException(
                    "cannot store the token in " + file + " ("
                            + Text.oneLine(e.getClass().getSimpleName())
                            + "); set HF_TOKEN_PATH to a file that can be written",
                    e);
        }
        return account;
    }

    /** The INI file of tokens with this one added or replaced. */
    private static String named(Path file, String tokenName, Token token) throws IOException {
        String section = "[" + (tokenName.isBlank() ? UNNAMED : tokenName.replaceAll("[\\[\\]]", "_")) + "]";
        List<String> lines = new ArrayList<>();
        boolean ours = false;
        if (Files.exists(file)) {
            for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
                if (line.startsWith("[")) {
                    ours = line.strip().equals(section);
                }
                if (!ours) {
                    lines.add(line);
                }
            }
        }
        lines.addAll(List.of(section, "hf_token = " + token.secret(), "", ""));
        return String.join("\n", lines);
    }

    /** The mode is set before there is anything to read. */
    private static void writeSecret(Path file, String secret) throws IOException {
        Path part = file.resolveSibling("." + file.getFileName() + ".part");
        Files.deleteIfExists(part);
        FileAttribute<?>[] mode =
                part.getFileSystem().supportedFileAttributeViews().contains("posix")
                        ? new FileAttribute<?>[] {
                            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"))
                        }
                        : new FileAttribute<?>[0];
        try (FileChannel out =
                FileChannel.open(part, Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE), mode)) {
            ByteBuffer bytes = ByteBuffer.wrap(secret.getBytes(StandardCharsets.UTF_8));
            while (bytes.hasRemaining()) {
                out.write(bytes);
            }
            out.force(true);
        }
        Files.move(part, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }
}
