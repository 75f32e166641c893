package lapidary.infer;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;

/** The trained tiny model that the jar carries, and an adapter that was trained on it: see bench/reference/generate_golden.py. */
final class DemoModel {
    static final Path BASE = Path.of("src/main/resources/lapidary/demo/base");
    static final Path GOLDEN = Path.of("src/test/resources/lapidary/infer");
    static final Path ADAPTER = GOLDEN.resolve("adapter");

    private DemoModel() {}

    static Path picture(int i) {
        return GOLDEN.resolve("pictures/" + i + ".png");
    }

    /** A copy that nothing ends an answer of: only an id that the model does not know would. */
    static Path endless(Path folder) {
        copy(BASE, folder);
        edit(folder.resolve("config.json"), "\"eos_token_id\": [\n    1,\n    11\n  ]", "\"eos_token_id\": 767");
        edit(
                folder.resolve("generation_config.json"),
                "\"eos_token_id\": [\n    1,\n    11\n  ]",
                "\"eos_token_id\": 767");
        return folder;
    }

    static void copy(Path from, Path to) {
        try (Stream<Path> files = Files.list(from)) {
            Files.createDirectories(to);
            for (Path file : files.toList()) {
                Files.copy(file, to.resolve(file.getFileName()));
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    static void edit(Path file, String from, String to) {
        try {
            String text = Files.readString(file);
            if (!text.contains(from)) {
                throw new IllegalStateException(file + " has no " + from);
            }
            Files.writeString(file, text.replace(from, to));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
