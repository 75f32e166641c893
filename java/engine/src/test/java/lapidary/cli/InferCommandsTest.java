package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import lapidary.format.Json;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import picocli.CommandLine;

/** {@code generate}, {@code chat} and {@code evaluate} on the demo's model, with the adapter that was trained on it. */
final class InferCommandsTest {
    private static final String BASE = "src/main/resources/lapidary/demo/base";
    private static final Path GOLDEN = Path.of("src/test/resources/lapidary/infer");
    private static final String ADAPTER = GOLDEN.resolve("adapter").toString();
    private static final String PICTURE =
            GOLDEN.resolve("pictures/0.png").toAbsolutePath().toString();

    @TempDir
    private Path folder;

    private final StringWriter out = new StringWriter();
    private final StringWriter err = new StringWriter();

    private int engine(String... args) {
        CommandLine engine = Engine.commandLine();
        engine.setOut(new PrintWriter(out, true));
        engine.setErr(new PrintWriter(err, true));
        return engine.execute(args);
    }

    private String[] with(String command, String... options) {
        List<String> args = new ArrayList<>(List.of(
                command,
                "--model_name_or_path",
                BASE,
                "--device",
                "cpu",
                "--dtype",
                "float32",
                "--max_new_tokens",
                "24"));
        args.addAll(Arrays.asList(options));
        return args.toArray(String[]::new);
    }

    private void assertOneLine(String... parts) {
        String text = err.toString();
        for (String part : parts) {
            assertTrue(text.contains(part), text);
        }
        assertEquals(1, text.lines().count(), text);
    }

    private static String user(String words, String picture) {
        return "{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": \"" + picture
                + "\"}, {\"type\": \"text\", \"text\": \"" + words + "\"}]}";
    }

    @Test
    void aPromptIsAnswered() {
        String question = "How many shapes are there?";
        assertEquals(
                0,
                engine(with(
                        "generate",
                        "--adapter_name_or_path",
                        ADAPTER,
                        "--prompt",
                        question,
                        "--image",
                        PICTURE,
                        "--temperature",
                        "0")),
                err::toString);
        assertEquals("Four.\n", out.toString());
    }

    @Test
    void aFileOfPromptsIsAnsweredRowByRow() throws IOException {
        Path in = folder.resolve("prompts.jsonl");
        Path answers = folder.resolve("answers.jsonl");
        StringBuilder rows = new StringBuilder();
        for (int i = 0; i < 20; i++) {
            rows.append("{\"messages\": [")
                    .append(user(i % 2 == 0 ? "How many shapes are there?" : "What colour is it?", PICTURE))
                    .append("]}\n");
        }
        Files.writeString(in, rows);
        assertEquals(
                0,
                engine(with(
                        "generate",
                        "--adapter_name_or_path",
                        ADAPTER,
                        "--in",
                        in.toString(),
                        "--out",
                        answers.toString(),
                        "--temperature",
                        "0",
                        "--batch_size",
                        "4")),
                err::toString);
        List<String> lines = Files.readAllLines(answers);
        assertEquals(20, lines.size());
        for (int i = 0; i < 20; i++) {
            Json answer = Json.parse("answer", lines.get(i));
            assertEquals(i % 2 == 0 ? "Four." : "Purple.", answer.string("text"));
            assertEquals("stop", answer.string("finish_reason"));
            Json usage = answer.get("usage");
            assertEquals(answer.get("token_ids").elements().size(), usage.integer("completion_tokens"));
            assertEquals(
                    usage.integer("total_tokens"), usage.integer("completion_tokens") + usage.integer("prompt_tokens"));
        }
    }

    @Test
    void aRowMayBeAPrompt() throws IOException {
        Path in = folder.resolve("prompts.jsonl");
        Path answers = folder.resolve("answers.jsonl");
        String question = "How many shapes are there?";
        Files.writeString(
                in,
                "{\"prompt\": \"" + question + "\", \"image\": \"" + PICTURE + "\"}\n{\"prompt\": ["
                        + user(question, PICTURE) + "], \"completion\": \"not read\"}\n");
        String[] args = with("generate", "--adapter_name_or_path", ADAPTER, "--in", in.toString(), "--out");
        args = Arrays.copyOf(args, args.length + 3);
        args[args.length - 3] = answers.toString();
        args[args.length - 2] = "--temperature";
        args[args.length - 1] = "0";
        assertEquals(0, engine(args), err::toString);
        for (String line : Files.readAllLines(answers)) {
            assertEquals("Four.", Json.parse("answer", line).string("text"));
        }
        Files.writeString(in, "{\"text\": \"Hi\"}\n");
        assertEquals(1, engine(args));
        assertOneLine("prompts.jsonl:1: has no \"messages\" (nor \"prompt\"), only [text]");
    }

    @Test
    void promptsMayComeFromStandardInputAndAnswersGoToStandardOutput() {
        String question = "How many shapes are there?";
        String row = "{\"prompt\": \"" + question + "\", \"image\": \"" + PICTURE + "\"}\n";
        String[] args =
                with("generate", "--adapter_name_or_path", ADAPTER, "--in", "-", "--out", "-", "--temperature", "0");
        assertEquals(0, typing(row + "\n" + row, args), err::toString);
        List<String> lines = out.toString().lines().toList();
        assertEquals(2, lines.size(), out.toString()); // and no line for people
        for (String line : lines) {
            assertEquals("Four.", Json.parse("answer", line).string("text"));
        }
        assertEquals(1, typing(row + "{\"text\": \"Hi\"}\n", args));
        assertOneLine("standard input:2: has no \"messages\" (nor \"prompt\"), only [text]");
        err.getBuffer().setLength(0);
        assertEquals(1, typing("", args));
        assertOneLine("standard input has no rows");
    }

    /** Files of memory are files, too: pictures lie beside them, and answers do not take their place. */
    @Test
    void promptsMayLieInMemory() throws IOException {
        Path memory = Path.of("/dev/shm");
        assumeTrue(Files.isWritable(memory));
        Path own = Files.createTempDirectory(memory, "lapidary");
        try {
            Path picture = Files.copy(Path.of(PICTURE), own.resolve("0.png"));
            Path prompts = Files.writeString(
                    own.resolve("p.jsonl"), "{\"prompt\": \"How many shapes are there?\", \"image\": \"0.png\"}\n");
            Path answers = own.resolve("a.jsonl");
            for (Path out : List.of(answers, prompts)) {
                String[] args = with("generate", "--adapter_name_or_path", ADAPTER, "--temperature", "0", "--in");
                args = Arrays.copyOf(args, args.length + 3);
                args[args.length - 3] = prompts.toString();
                args[args.length - 2] = "--out";
                args[args.length - 1] = out.toString();
                assertEquals(out == answers ? 0 : 2, engine(args), err::toString);
            }
            assertEquals(
                    "Four.", Json.parse("answer", Files.readString(answers)).string("text"));
            for (Path file : List.of(answers, prompts, picture)) {
                Files.delete(file);
            }
        } finally {
            Files.deleteIfExists(own);
        }
    }

    /** A picture's path begins where the program was started, and a pipe may have any name, as a shell's {@code <(...)} has. */
    @Test
    @Timeout(value = 5, unit = TimeUnit.MINUTES) // where the pipe is opened a second time, nobody writes
    void promptsMayComeThroughAPipe() throws IOException, InterruptedException {
        Path pipe = folder.resolve("prompts");
        assumeTrue(new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor() == 0);
        String row = "{\"prompt\": \"How many shapes are there?\", \"image\": \""
                + Path.of("").toAbsolutePath().relativize(Path.of(PICTURE)) + "\"}\n";
        Thread writer = new Thread(() -> {
            try {
                Files.writeString(pipe, row);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        });
        writer.setDaemon(true); // where nobody opens the pipe, it waits
        writer.start();
        String[] args = with("generate", "--adapter_name_or_path", ADAPTER, "--temperature", "0", "--out", "-", "--in");
        args = Arrays.copyOf(args, args.length + 1);
        args[args.length - 1] = pipe.toString();
        assertEquals(0, engine(args), err::toString);
        assertEquals("Four.", Json.parse("answer", out.toString()).string("text"));
        writer.join();
    }

    @Test
    void promptsThatAreNotThereAreToldBeforeTheModelIsLoaded() {
        for (Path in : List.of(folder, folder.resolve("no-such.jsonl"))) {
            err.getBuffer().setLength(0);
            String[] args = with(
                    "generate",
                    "--in",
                    in.toString(),
                    "--out",
                    folder.resolve("a.jsonl").toString());
            args[2] = folder.resolve("no-such-model").toString();
            assertEquals(1, engine(args));
            assertOneLine("--in " + in, "expected a .jsonl file");
            assertFalse(err.toString().contains("data set"), err.toString());
        }
    }

    /** One conversation makes one answer at a time. */
    @Test
    void aChatHasNoBatch() {
        assertEquals(2, engine(with("chat", "--batch_size", "2")));
        assertOneLine("unknown option --batch_size");
        assertEquals(0, engine("evaluate", "--help"));
        String help = out.toString().replaceAll("\\s+", " ");
        assertTrue(help.contains("--batch_size=N") && help.contains("generation_config.json; for evaluate 0)"), help);
    }

    @Test
    void evaluateTellsItsOwnOptionForASplit() throws IOException {
        Path data = folder.resolve("rows.jsonl");
        Files.writeString(data, "{\"messages\": [" + user("Hi", PICTURE) + "]}\n");
        assertEquals(1, engine(with("evaluate", "--dataset_name", data.toString())));
        assertOneLine(
                "rows.jsonl is not of split \"test\" but [train]", "; ask for that split with --dataset_test_split");
        assertFalse(err.toString().contains("train_split"), err.toString());
        err.getBuffer().setLength(0);
        String[] args = with("evaluate", "--dataset_name", data.toString(), "--dataset_test_split", "train[0");
        assertEquals(2, engine(args));
        assertOneLine("--dataset_test_split: split is \"train[0\"", "expected a name");
    }

    @Test
    void aRowThatCannotBeAnsweredIsNamedAndNothingIsWritten() throws IOException {
        Path in = folder.resolve("prompts.jsonl");
        Path answers = folder.resolve("answers.jsonl");
        Files.write(folder.resolve("broken.png"), new byte[] {(byte) 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0});
        for (String bad : List.of(
                user("Hi", "broken.png"),
                user("Hi", PICTURE) + ", {\"role\": \"assistant\", \"content\": \"Ho\"}",
                user("Hi", "no-such.png"),
                user("Hi <image_soft_token>", PICTURE) + "," + user("Hi", PICTURE))) {
            Files.writeString(in, "{\"messages\": [" + user("Hi", PICTURE) + "]}\n{\"messages\": [" + bad + "]}\n");
            err.getBuffer().setLength(0);
            assertEquals(1, engine(with("generate", "--in", in.toString(), "--out", answers.toString())));
            assertTrue(err.toString().contains("prompts.jsonl:2"), err.toString());
            assertEquals(1, err.toString().lines().count(), err.toString());
            assertFalse(Files.exists(answers));
        }
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "generate|either --prompt, or --in and --out",
                "generate --prompt Hi --in x|either --prompt, or --in and --out",
                "generate --in x|--in and --out go together",
                "generate --in x --out y --image z|--image goes with --prompt",
                "generate --prompt Hi --temperature -1|--temperature is -1",
                "generate --prompt Hi --top_p 2|--top_p is 2",
                "generate --prompt Hi --batch_size 0|--batch_size is 0",
                "generate --prompt Hi --load_in_8bit|--load_in_8bit is not supported",
                "evaluate|--dataset_name",
            })
    void optionsThatDoNotFitAreUsageErrors(String line, String why) {
        String[] parts = line.split(" ");
        assertEquals(2, engine(with(parts[0], Arrays.copyOfRange(parts, 1, parts.length))));
        assertOneLine(why);
    }

    @Test
    void generateNeedsAModel() {
        assertEquals(2, engine("generate", "--prompt", "Hi"));
        assertOneLine("--model_name_or_path");
    }

    @Test
    void wrongAdaptersPicturesAndLengthsAreOneLine() throws IOException {
        String other = "src/test/resources/golden/multimodal/init";
        assertEquals(1, engine(with("generate", "--prompt", "Hi", "--adapter_name_or_path", other)));
        assertOneLine("this model expects");
        err.getBuffer().setLength(0);
        Path broken = folder.resolve("broken.png");
        Files.write(broken, Arrays.copyOf(Files.readAllBytes(Path.of(PICTURE)), 200));
        assertEquals(1, engine(with("generate", "--prompt", "Hi", "--image", broken.toString())));
        assertOneLine("broken.png");
        err.getBuffer().setLength(0);
        assertEquals(1, engine(with("generate", "--prompt", "Hi there, you", "--max_model_len", "9")));
        assertOneLine("the prompt has", "context of 9");
    }

    @Test
    void aChatTakesPicturesAdaptersAndMistakes() {
        String typed = String.join(
                "\n",
                "/image " + PICTURE,
                "How many shapes are there?",
                "What colour is it?",
                "/history",
                "/image no-such.png",
                "/shout",
                "/adapter",
                "/reset",
                "/image " + PICTURE,
                "How many shapes are there?",
                "/adapter " + ADAPTER,
                "/adapter src/test/resources/golden/text/init",
                "/reset",
                "/image " + PICTURE,
                "How many shapes are there?",
                "/quit",
                "never read");
        chat(typed, "--adapter_name_or_path", ADAPTER);
        List<String> lines = out.toString().lines().toList();
        assertTrue(lines.get(0).startsWith("(picture 1 of your next message: 0.png, "), lines.get(0));
        assertEquals("Four.", lines.get(1));
        assertEquals("Purple.", lines.get(2));
        assertEquals("user: [" + PICTURE + "] How many shapes are there?", lines.get(3));
        assertEquals("assistant: Four.", lines.get(4));
        assertEquals(List.of("user: What colour is it?", "assistant: Purple."), lines.subList(5, 7));
        assertTrue(lines.get(7).startsWith("! no-such.png: "), lines.get(7));
        assertTrue(lines.get(8).startsWith("! /shout is none of"), lines.get(8));
        assertEquals(List.of("(no adapter)", "(a new conversation)"), lines.subList(9, 11));
        assertTrue(lines.get(12).contains("stars"), lines.get(12));
        assertTrue(lines.get(14).startsWith("! src/test/resources/golden/text/init"), lines.get(14));
        assertEquals("Four.", lines.get(lines.size() - 1));
    }

    @Test
    void aContextThatIsTooShortNamesWhatSaysSo() {
        assertEquals(1, engine(with("generate", "--prompt", "How many shapes are there?", "--max_model_len", "4")));
        assertOneLine("in a context of 4; shorten it, or allow more (--max_model_len, ");
        err.getBuffer().setLength(0);
        assertEquals(1, engine(with("generate", "--prompt", "Hi", "--max_model_len", "100000000")));
        assertOneLine("a context of 100000000 tokens (--max_model_len, ");
    }

    private void chat(String typed, String... options) {
        List<String> args = new ArrayList<>(Arrays.asList(with("chat", "--temperature", "0")));
        args.addAll(Arrays.asList(options));
        assertEquals(0, typing(typed, args.toArray(String[]::new)), err::toString);
    }

    private int typing(String typed, String... args) {
        InputStream before = System.in;
        try {
            System.setIn(new ByteArrayInputStream(typed.getBytes(StandardCharsets.UTF_8)));
            return engine(args);
        } finally {
            System.setIn(before);
        }
    }

    @Test
    void aChatPrintsNothingThatMovesTheCursor() {
        chat("Hi\u202e\u001b[2J\n/history\n/sh\u001b[2Jout\n");
        assertTrue(out.toString().contains("user: Hi\\u202e\\u001b[2J\n"), out.toString());
        assertTrue(out.toString().contains("! /sh\\u001b[2Jout is none of"), out.toString());
        assertFalse(out.toString().contains("\u001b"), out.toString());
    }

    /** The model's end of turn is an id that it does not make, so that its answer would be very long. */
    @Test
    void anInterruptStopsTheAnswerAndNotTheChat() throws IOException, InterruptedException {
        assumeFalse(interruptsAreIgnored(), "started in the background of a script: a child could not be interrupted");
        Path model = EngineProcess.model(folder.resolve("endless"));
        for (String name : List.of("config.json", "generation_config.json")) {
            Path file = model.resolve(name);
            Files.writeString(file, Files.readString(file).replaceAll("(\"eos_token_id\": )\\[[^\\]]*\\]", "$1767"));
        }
        Path printed = folder.resolve("out.txt");
        List<String> args = new ArrayList<>(Arrays.asList(with("chat", "--temperature", "0")));
        args.set(args.indexOf(BASE), model.toString());
        args.set(args.indexOf("24"), "100000");
        Process chat = EngineProcess.start(printed, folder.resolve("err.txt"), args);
        try (PrintWriter typed = new PrintWriter(chat.getOutputStream(), true, StandardCharsets.UTF_8)) {
            typed.println("Hello");
            while (chat.isAlive() && Files.size(printed) == 0) {
                Thread.sleep(20);
            }
            new ProcessBuilder("kill", "-INT", Long.toString(chat.pid()))
                    .start()
                    .waitFor();
            typed.println("/history");
            typed.println("/quit");
            assertEquals(0, chat.waitFor());
        } finally {
            chat.destroyForcibly();
        }
        String text = Files.readString(printed);
        assertTrue(text.contains(" (stopped)\nuser: Hello\nassistant: "), text);
    }

    /** Whether SIGINT, the second, is ignored, which children inherit. */
    private static boolean interruptsAreIgnored() throws IOException {
        return Files.readAllLines(Path.of("/proc/self/status")).stream()
                .filter(line -> line.startsWith("SigIgn:"))
                .anyMatch(line -> (Long.parseUnsignedLong(line.substring(7).strip(), 16) & 2) != 0);
    }

    @Test
    void evaluateCountsMatchesAndMeasuresLoss() throws IOException {
        Path data = folder.resolve("test.jsonl");
        Path answers = folder.resolve("answers.jsonl");
        String right = "{\"messages\": [" + user("How many shapes are there?", PICTURE)
                + ", {\"role\": \"assistant\", \"content\": \" Four.\"}]}\n";
        String wrong = right.replace("Four", "Two");
        Files.writeString(data, right + wrong + right);
        assertEquals(
                0,
                engine(with(
                        "evaluate",
                        "--adapter_name_or_path",
                        ADAPTER,
                        "--dataset_name",
                        data.toString(),
                        "--out",
                        answers.toString())),
                err::toString);
        assertTrue(out.toString().startsWith("exact match of the last answer 66.67 % (2 of 3), loss "), out.toString());
        List<String> lines = Files.readAllLines(answers);
        double lossOfRight = Json.parse("row", lines.get(0)).number("loss");
        double lossOfWrong = Json.parse("row", lines.get(1)).number("loss");
        assertTrue(lossOfRight < 0.5 && lossOfWrong > 1, lossOfRight + " and " + lossOfWrong);
        assertFalse(Json.parse("row", lines.get(1)).bool("exact_match"));
    }

    /** The words may say where a picture goes, as they may for train; the picture stands in a column then. */
    @Test
    void aPictureMayHaveItsPlaceAmongTheWords() throws IOException {
        Path data = folder.resolve("test.jsonl");
        Path answers = folder.resolve("answers.jsonl");
        String asked =
                "{\"messages\": [{\"role\": \"user\", \"content\": \"<start_of_image>How many shapes are there?\"}";
        String column = "], \"images\": [\"" + PICTURE + "\"]}\n";
        Files.writeString(data, asked + column);
        String[] generate = with("generate", "--adapter_name_or_path", ADAPTER, "--temperature", "0", "--in");
        generate = Arrays.copyOf(generate, generate.length + 3);
        generate[generate.length - 3] = data.toString();
        generate[generate.length - 2] = "--out";
        generate[generate.length - 1] = answers.toString();
        assertEquals(0, engine(generate), err::toString);
        assertEquals("Four.", Json.parse("answer", Files.readString(answers)).string("text"));
        Files.writeString(data, asked + ", {\"role\": \"assistant\", \"content\": \"Four.\"}" + column);
        assertEquals(
                0,
                engine(with("evaluate", "--adapter_name_or_path", ADAPTER, "--dataset_name", data.toString())),
                err::toString);
        assertTrue(out.toString().contains("(1 of 1)"), out::toString);
    }

    @Test
    void evaluateNeedsAnAnswerToCompareWith() throws IOException {
        Path data = folder.resolve("test.jsonl");
        Files.writeString(data, "{\"messages\": [" + user("Hi", PICTURE) + "]}\n");
        assertEquals(1, engine(with("evaluate", "--dataset_name", data.toString())));
        assertOneLine("test.jsonl:1", "expected the assistant's");
    }
}
