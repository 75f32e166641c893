package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import lapidary.gemma3.TextGolden;
import lapidary.tokenizer.Tokenizer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TokenizeTest {
    private static final Path TOKENIZER = TextGolden.MODEL.resolve("tokenizer.json");

    @TempDir
    Path folder;

    /** Runs the command as the shell does; the error text without its line end. */
    private record Run(int code, String error) {
        static Run of(Path tokenizer, Path in, Path out) {
            PrintStream before = System.err;
            ByteArrayOutputStream error = new ByteArrayOutputStream();
            System.setErr(new PrintStream(error, true, StandardCharsets.UTF_8));
            try {
                int code = Engine.commandLine()
                        .execute(
                                "tokenize",
                                "--tokenizer",
                                tokenizer.toString(),
                                "--in",
                                in.toString(),
                                "--out",
                                out.toString());
                return new Run(code, error.toString(StandardCharsets.UTF_8).strip());
            } finally {
                System.setErr(before);
            }
        }
    }

    @Test
    void arrayOfIdsForEachLine() throws IOException {
        Path in = folder.resolve("texts.jsonl");
        Path out = folder.resolve("ids.jsonl");
        Files.write(
                in,
                ("\uFEFF\"\"\n\"a shape\"\r\n  \"\\u0000 <bos> \\ud83d\\ude42 \\ud800\"  \n\"日本語\u2028x\"\n\"no newline\"")
                        .getBytes(StandardCharsets.UTF_8));
        assertEquals(new Run(0, ""), Run.of(TOKENIZER, in, out));
        Tokenizer tokenizer = Tokenizer.load(TOKENIZER);
        List<String> expected = Stream.of("", "a shape", "\0 <bos> 🙂 \uD800", "日本語\u2028x", "no newline")
                .map(text -> Arrays.toString(tokenizer.encode(text)).replace(" ", ""))
                .toList();
        assertEquals(expected, Files.readAllLines(out));
    }

    @Test
    void aMissingOptionIsNamed() {
        PrintStream before = System.err;
        ByteArrayOutputStream error = new ByteArrayOutputStream();
        System.setErr(new PrintStream(error, true, StandardCharsets.UTF_8));
        try {
            assertEquals(2, Engine.commandLine().execute("tokenize", "--in", "texts.jsonl"));
        } finally {
            System.setErr(before);
        }
        assertEquals(
                "engine: tokenize needs --tokenizer; see engine tokenize --help",
                error.toString(StandardCharsets.UTF_8).strip());
    }

    @Test
    void theTokenizerMayBeTheModelsFolder() throws IOException {
        Path in = Files.writeString(folder.resolve("texts.jsonl"), "\"a shape\"\n");
        Path out = folder.resolve("ids.jsonl");
        assertEquals(new Run(0, ""), Run.of(TOKENIZER.getParent(), in, out));
        assertEquals(1, Files.readAllLines(out).size());
        oneLine(Run.of(folder, in, out), "no such file: " + folder.resolve("tokenizer.json"));
    }

    @Test
    void manyLines() throws IOException {
        Path in = folder.resolve("texts.jsonl");
        Path out = folder.resolve("ids.jsonl");
        Files.writeString(in, "\"What shape is this?\"\n".repeat(20_000));
        assertEquals(0, Run.of(TOKENIZER, in, out).code());
        List<String> lines = Files.readAllLines(out);
        assertEquals(20_000, lines.size());
        assertEquals(1, lines.stream().distinct().count());
    }

    @Test
    void theTextsAreNotOverwritten() throws IOException {
        Path in = Files.writeString(folder.resolve("texts.jsonl"), "\"a\"\n");
        Run run = Run.of(TOKENIZER, in, in);
        assertEquals(1, run.code());
        assertTrue(run.error().contains("--out " + in + " is the file to read"), run.error());
        assertEquals("\"a\"\n", Files.readString(in));
    }

    @Test
    void emptyFileGivesEmptyFile() throws IOException {
        Path in = Files.createFile(folder.resolve("texts.jsonl"));
        assertEquals(0, Run.of(TOKENIZER, in, folder.resolve("ids.jsonl")).code());
        assertEquals(0, Files.size(folder.resolve("ids.jsonl")));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {"nonsense", "5", "[\"a\"]", "null", "\"open", "``", "\"a\" \"b\"", "{\"text\": \"a\"}", "\"\\x\""})
    void badLineIsNamedAndNothingIsWritten(String line) throws IOException {
        Path in = folder.resolve("texts.jsonl");
        Path out = folder.resolve("ids.jsonl");
        Files.writeString(in, "\"good\"\n\"good\"\n" + line + "\n\"good\"\n");
        Files.writeString(out, "old");
        oneLine(Run.of(TOKENIZER, in, out), in + ":3");
        assertEquals("old", Files.readString(out));
        try (Stream<Path> files = Files.list(folder)) {
            assertEquals(2, files.count());
        }
    }

    @Test
    void badFilesAreNamed() throws IOException {
        Path in = folder.resolve("texts.jsonl");
        Path out = folder.resolve("ids.jsonl");
        oneLine(Run.of(TOKENIZER, in, out), in.toString());
        Files.write(in, new byte[] {'"', (byte) 0xFF, '"', '\n'});
        oneLine(Run.of(TOKENIZER, in, out), in + ":1");
        oneLine(Run.of(folder.resolve("none.json"), in, out), "none.json");
        Path damaged = Files.writeString(folder.resolve("damaged.json"), "{\"model\": {");
        oneLine(Run.of(damaged, in, out), "damaged.json");
        Files.writeString(in, "\"a\"\n");
        oneLine(Run.of(TOKENIZER, in, in.resolve("below-a-file")), "below-a-file");
        oneLine(Run.of(TOKENIZER, folder, out), folder.toString());
        assertFalse(Files.exists(out));
    }

    private static void oneLine(Run run, String part) {
        assertEquals(1, run.code(), run.error());
        assertTrue(run.error().contains(part), run.error());
        assertFalse(run.error().contains("\n"), run.error());
    }

    @Test
    void wrongUsageIsExitCodeTwo() {
        PrintStream before = System.err;
        System.setErr(new PrintStream(new ByteArrayOutputStream(), true, StandardCharsets.UTF_8));
        try {
            assertEquals(2, Engine.commandLine().execute("tokenize", "--tokenizer", "x"));
        } finally {
            System.setErr(before);
        }
    }
}
