package lapidary.gemma3;

import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import lapidary.format.AtomicFile;

/** The files of a model's folder that a processor is loaded from. */
public final class ProcessorFiles {
    /** All that there may be; a folder has some of them. */
    public static final List<String> NAMES = List.of(
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "chat_template.json",
            "chat_template.jinja",
            "preprocessor_config.json",
            "processor_config.json");

    private ProcessorFiles() {}

    /** Copies those that are there. */
    public static void copy(Path from, Path to) {
        copy(NAMES, from, to);
    }

    /** Copies those of {@code names} that are there. */
    public static void copy(List<String> names, Path from, Path to) {
        for (String name : names) {
            if (Files.isRegularFile(from.resolve(name))) {
                copyFile(from.resolve(name), to.resolve(name));
            }
        }
    }

    private static void copyFile(Path source, Path target) {
        AtomicFile.write(target, out -> {
            try (FileChannel in = FileChannel.open(source)) {
                long size = in.size();
                for (long done = 0; done < size; ) {
                    done += in.transferTo(done, size - done, out);
                }
            }
        });
    }
}
