package lapidary.hub;

import java.io.IOException;
import java.nio.file.FileVisitOption;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.stream.Stream;

/** What of an output folder goes to the Hub, as the Trainer of transformers has it. */
public final class Push {
    private static final int MAX_DEPTH = 16;

    private Push() {}

    /** Files of {@code folder} by their paths in the repository: no checkpoints, nothing hidden, nothing unfinished. */
    public static SortedMap<String, Path> files(Path folder) {
        SortedMap<String, Path> files = new TreeMap<>();
        try (Stream<Path> walk = Files.walk(folder, MAX_DEPTH, FileVisitOption.FOLLOW_LINKS)) {
            for (Path file : walk.filter(Files::isRegularFile).toList()) {
                Path relative = folder.relativize(file);
                if (!isLeftOut(relative)) {
                    files.put(String.join("/", names(relative)), file);
                }
            }
        } catch (IOException | java.io.UncheckedIOException e) {
            throw new HubException("cannot list " + folder + ": " + Text.oneLine(e.toString()), e);
        }
        return files;
    }

    private static boolean isLeftOut(Path relative) {
        String first = relative.getName(0).toString();
        return first.startsWith("_")
                || first.startsWith("checkpoint-")
                || names(relative).stream().anyMatch(name -> name.startsWith("."));
    }

    private static List<String> names(Path path) {
        return Stream.iterate(0, i -> i < path.getNameCount(), i -> i + 1)
                .map(i -> path.getName(i).toString())
                .toList();
    }
}
