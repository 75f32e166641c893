package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** Standard output that takes nothing, a full disk, as /dev/full is, or a reader that is gone; and no standard input. */
@EnabledOnOs(OS.LINUX)
final class OutputProcessTest {
    private static final Path FULL = Path.of("/dev/full");
    private static final String MODEL = "src/main/resources/lapidary/demo/base";

    @TempDir
    private Path folder;

    private void assertSaid(Process process) throws IOException, InterruptedException {
        try {
            assertTrue(process.waitFor(120, TimeUnit.SECONDS), "it still runs");
        } finally {
            process.destroyForcibly();
        }
        String said = Files.readString(folder.resolve("err.txt"));
        assertEquals(1, process.exitValue(), said);
        assertTrue(said.startsWith("engine: standard output"), said);
        assertEquals(1, said.lines().count(), said);
    }

    private Process start(String... arguments) throws IOException {
        return EngineProcess.start(FULL, folder.resolve("err.txt"), List.of(arguments));
    }

    @Test
    void whatCannotBePrintedIsAFailure() throws IOException, InterruptedException {
        assertSaid(start("--version"));
    }

    /** Nobody hears the answer, and no other question is waited for. */
    @Test
    void nobodyToAnswerEndsAChat() throws IOException, InterruptedException {
        Process chat = start("chat", "--model_name_or_path", MODEL, "--device", "cpu", "--temperature", "0");
        OutputStream typed = chat.getOutputStream();
        typed.write("What is it?\n".getBytes(StandardCharsets.UTF_8));
        typed.flush();
        assertSaid(chat);
    }

    /** A model that ends no answer, which would be 131,072 tokens long. */
    private String endless() throws IOException {
        Path model = EngineProcess.model(folder.resolve("endless"));
        for (String file : List.of("config.json", "generation_config.json")) {
            String text = Files.readString(model.resolve(file));
            String changed = text.replaceFirst("\"eos_token_id\": \\[[^]]*]", "\"eos_token_id\": 767");
            assertNotEquals(text, changed);
            Files.writeString(model.resolve(file), changed);
        }
        return model.toString();
    }

    private String[] forever(String command, String model) {
        return new String[] {
            command,
            "--model_name_or_path",
            model,
            "--device",
            "cpu",
            "--temperature",
            "0",
            "--max_new_tokens",
            "131000"
        };
    }

    @Test
    void nobodyToAnswerEndsAChatsAnswer() throws IOException, InterruptedException {
        Process chat = start(forever("chat", endless()));
        OutputStream typed = chat.getOutputStream();
        typed.write("What is it?\n".getBytes(StandardCharsets.UTF_8));
        typed.flush();
        assertSaid(chat);
    }

    @Test
    void nobodyToAnswerEndsAnAnswer() throws IOException, InterruptedException {
        List<String> arguments = new ArrayList<>(List.of(forever("generate", endless())));
        arguments.addAll(List.of("--prompt", "What is it?"));
        assertSaid(start(arguments.toArray(String[]::new)));
    }

    /** Java would read its own classes then. */
    @Test
    void aChatWithoutStandardInputEnds() throws IOException, InterruptedException {
        Path out = folder.resolve("out.txt");
        List<String> command = new ArrayList<>(List.of("sh", "-c", "exec \"$@\" <&-", "sh"));
        command.addAll(EngineProcess.command("", List.of("chat", "--model_name_or_path", MODEL, "--device", "cpu")));
        Process chat = new ProcessBuilder(command)
                .redirectOutput(out.toFile())
                .redirectErrorStream(true)
                .start();
        try {
            assertTrue(chat.waitFor(120, TimeUnit.SECONDS), "it still runs");
        } finally {
            chat.destroyForcibly();
        }
        assertEquals("", Files.readString(out));
        assertEquals(0, chat.exitValue());
    }
}
