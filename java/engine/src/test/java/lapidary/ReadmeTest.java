package lapidary;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * What README.md shows of Java compiles as it stands there; blocks that name another library after {@code java} are that
 * module's to compile.
 */
final class ReadmeTest {
    private static final Pattern BLOCK = Pattern.compile("(?ms)^```java\\R(.*?)^```");

    @TempDir
    private Path classes;

    private record Source(String name, String code) {
        private JavaFileObject file() {
            return new SimpleJavaFileObject(URI.create("string:///" + name + ".java"), JavaFileObject.Kind.SOURCE) {
                @Override
                public CharSequence getCharContent(boolean ignoreEncodingErrors) {
                    return code;
                }
            };
        }
    }

    /** The statements of a block in a method; the README leaves the imports out. */
    private static Source wrapped(int number, String block) {
        String name = "Block" + number;
        return new Source(
                name,
                """
                import java.nio.file.*;
                import java.util.*;
                import lapidary.data.*;
                import lapidary.device.*;
                import lapidary.infer.*;
                import lapidary.train.*;
                final class %s {
                    static void main() throws Exception {
                        %s
                    }
                }
                """
                        .formatted(name, block));
    }

    @Test
    void everyJavaBlockCompiles() throws IOException {
        List<String> blocks = BLOCK.matcher(Files.readString(Path.of("../../README.md")))
                .results()
                .map((MatchResult block) -> block.group(1))
                .toList();
        assertFalse(blocks.isEmpty(), "README.md has no ```java block");
        List<JavaFileObject> files = new ArrayList<>();
        for (String block : blocks) {
            files.add(wrapped(files.size(), block).file());
        }
        JavaCompiler javac = ToolProvider.getSystemJavaCompiler();
        DiagnosticCollector<JavaFileObject> diagnostics = new DiagnosticCollector<>();
        List<String> options = List.of(
                "-proc:none", "-Xlint:none", "-cp", System.getProperty("java.class.path"), "-d", classes.toString());
        boolean compiled =
                javac.getTask(null, null, diagnostics, options, null, files).call();
        assertTrue(compiled, () -> diagnostics.getDiagnostics().toString());
    }
}
