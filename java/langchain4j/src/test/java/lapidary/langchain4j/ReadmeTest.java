package lapidary.langchain4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What README.md shows of LangChain4j compiles as it stands there. */
final class ReadmeTest {
    private static final Pattern BLOCK = Pattern.compile("(?ms)^```java langchain4j\\R(.*?)^```");

    @TempDir
    private Path folder;

    @Test
    void itsBlockCompiles() throws IOException {
        Matcher block = BLOCK.matcher(Files.readString(Path.of("../../README.md")));
        assertTrue(block.find(), "README.md has no such block");
        Path source = Files.writeString(
                folder.resolve("Block.java"),
                """
                import dev.langchain4j.model.chat.*;
                import dev.langchain4j.model.chat.listener.ChatModelListener;
                import java.util.*;
                import lapidary.infer.LanguageModel;
                import lapidary.langchain4j.*;
                final class Block {
                    static void show(LanguageModel model, ChatModelListener listener) {
                        %s
                    }
                }
                """
                        .formatted(block.group(1)));
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        int status = ToolProvider.getSystemJavaCompiler()
                .run(null, said, said, "-proc:none", "-cp", System.getProperty("java.class.path"), source.toString());
        assertEquals(0, status, said.toString(StandardCharsets.UTF_8));
    }
}
