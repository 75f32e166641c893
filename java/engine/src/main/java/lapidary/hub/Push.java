package lapidary.hub;

import java.io.IOException;
import java.nio.file.FileVisitOption;
import java.nio.file.FileVisitResult;
import java.nio.file.FileVisitor;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.List;
import java.util.Set;
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
        FileVisitor<Path> visitor = new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult preVisitDirectory(Path inside, BasicFileAttributes is) { // others may be deleting it
                return !inside.equals(folder) && isLeftOut(folder.relativize(inside))
                        ? FileVisitResult.SKIP_SUBTREE
                        : FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes is) {
                Path relative = folder.relativize(file);
                if (is.isRegularFile() && !isLeftOut(relative)) {
                    files.put(String.join("/", names(relative)), file);
                }
                return FileVisitResult.CONTINUE;
            }
        };
        try {
            Files.walkFileTree(folder, Set.of(FileVisitOption.FOLLOW_LINKS), MAX_DEPTH, visitor);
        } catch (IOException e) {
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
