package lapidary.cli;

import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import lapidary.data.Conversation;
import lapidary.data.Dataset;
import lapidary.data.Datasets;
import lapidary.data.RowForm;
import lapidary.device.Device;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.JsonWriter;
import lapidary.infer.Answer;
import lapidary.infer.Generation;
import lapidary.infer.GenerationOptions;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;
import lapidary.infer.Usage;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engine generate}: the answer to one prompt, or the answers to a file of them. */
@Command(
        name = "generate",
        header = "Answers a prompt, or a file of prompts.",
        description = {
            "",
            "  engine generate --model_name_or_path gemma-3-4b-it --adapter_name_or_path out --prompt \"What is it?\" --image"
                    + " cat.jpg",
            "  engine generate --model_name_or_path gemma-3-4b-it --in prompts.jsonl --out answers.jsonl --temperature 0",
            "",
            "A row of prompts.jsonl has messages as data sets have them, the user's last, or prompt, with image or images or"
                    + " without: {\"prompt\": \"What is it?\", \"image\": \"cat.jpg\"}. A row of answers.jsonl has text,"
                    + " token_ids, finish_reason and usage."
        },
        sortOptions = false,
        usageHelpWidth = 120,
        usageHelpAutoWidth = true,
        mixinStandardHelpOptions = true)
final class Generate implements Callable<Integer> {
    /** The usual name of standard input and output. */
    private static final Path STANDARD = Path.of("-");

    @Spec
    private CommandSpec spec;

    @Option(
            names = "--prompt",
            paramLabel = "TEXT",
            description = "What to answer; the answer is printed as it is made.")
    private String prompt;

    @Option(
            names = "--image",
            paramLabel = "FILE",
            arity = "1..*",
            description = "Pictures that come before the prompt's words.")
    private List<Path> images = List.of();

    @Option(
            names = "--in",
            paramLabel = "PROMPTS.jsonl",
            description = "Prompts, an object with messages or prompt a line; - for standard input, which is"
                    + " read to its end first.")
    private Path in;

    @Option(
            names = "--out",
            paramLabel = "ANSWERS.jsonl",
            description = "Appears complete, or not at all; - for standard output, a line as soon as it is answered.")
    private Path out;

    @Option(names = "--batch_size", paramLabel = "N", description = "Answers that are made together (default: 8).")
    private int batchSize = LoadOptions.DEFAULT.batchSize();

    @Mixin
    private final InferOptions infer = new InferOptions();

    @Override
    public Integer call() {
        Repeats.refuse(spec);
        boolean file = in != null || out != null;
        if (file == (prompt != null)) {
            throw usage("generate takes either --prompt, or --in and --out");
        }
        if (file && (in == null || out == null)) {
            throw usage("--in and --out go together: prompts in, answers out");
        }
        if (file && !images.isEmpty()) {
            throw usage("--image goes with --prompt; in a file of prompts, pictures are named in the messages");
        }
        infer.check(spec.commandLine(), batchSize);
        if (file) {
            try (Dataset prompts = openPrompts()) { // before the model is loaded
                answer(prompts);
            }
        } else {
            answer(null);
        }
        return 0;
    }

    private void answer(Dataset prompts) {
        try (Device device = infer.openDevice();
                LanguageModel model = infer.open(device)) {
            GenerationOptions options = infer.options(model.defaults());
            if (prompts != null) {
                answerFile(model, options, prompts);
            } else {
                answerOne(model, options);
            }
        }
    }

    private Dataset openPrompts() {
        if (in.equals(STANDARD) || in.equals(Path.of("/dev/stdin"))) {
            return Datasets.read(StandardInput.open(), "standard input", RowForm.ASKED);
        }
        if (isStream(in)) { // a named pipe, or <(...) of a shell
            try (InputStream stream = Files.newInputStream(in)) {
                return Datasets.read(stream, in.toString(), RowForm.ASKED);
            } catch (IOException e) {
                throw new FormatException("cannot read --in " + in + ": " + e.getMessage(), e);
            }
        }
        requirePrompts();
        requireOther();
        return Datasets.open(in.toString(), "train", RowForm.ASKED);
    }

    private static boolean isStream(Path path) {
        return Files.exists(path)
                && !Files.isDirectory(path)
                && (path.startsWith("/dev/fd") || !Files.isRegularFile(path));
    }

    private void requirePrompts() {
        if (!Files.isRegularFile(in)) {
            throw new FormatException("--in " + in + (Files.isDirectory(in) ? " is a folder" : " is no file")
                    + ", expected a .jsonl file with an object a line, as {\"prompt\": \"What is it?\"}");
        }
    }

    private void answerOne(LanguageModel model, GenerationOptions options) {
        PrintWriter stdout = spec.commandLine().getOut();
        Generation answer = model.generate(prompt, options, images.toArray(Path[]::new));
        answer.stream(piece -> {
            stdout.print(piece);
            stdout.flush();
            if (Engine.isOutputLost()) {
                answer.cancel();
            }
        });
        stdout.println();
        stdout.flush();
    }

    private void answerFile(LanguageModel model, GenerationOptions options, Dataset prompts) {
        PrintWriter stdout = spec.commandLine().getOut();
        if (out.equals(STANDARD) || out.equals(Path.of("/dev/stdout"))) {
            try {
                answerRows(model, options, prompts, answer -> {
                    stdout.print(JsonWriter.line(json(answer)) + "\n");
                    stdout.flush();
                    return !Engine.isOutputLost();
                });
            } catch (IOException e) {
                throw new UncheckedIOException(e); // a print writer throws none
            }
            return;
        }
        AtomicFile.write(
                out,
                channel -> answerRows(model, options, prompts, answer -> {
                    write(channel, answer);
                    return true;
                }));
        stdout.println(prompts.size() + (prompts.size() == 1 ? " answer is" : " answers are") + " in " + out);
    }

    /** Where answers go; false where it takes no more. */
    private interface Sink {
        boolean take(Answer answer) throws IOException;
    }

    /** Rows are asked a little ahead, so that the batch is full, and no more, since each holds its pictures. */
    private void answerRows(LanguageModel model, GenerationOptions options, Dataset prompts, Sink sink)
            throws IOException {
        Deque<Generation> asked = new ArrayDeque<>();
        boolean more = true;
        for (int row = 0; more && row < prompts.size(); row++) {
            if (asked.size() == 2L * batchSize) {
                more = sink.take(asked.remove().answer());
            }
            asked.add(ask(model, options, prompts.get(row)));
        }
        while (more && !asked.isEmpty()) {
            more = sink.take(asked.remove().answer());
        }
        asked.forEach(Generation::cancel);
    }

    /** A row's mistakes are told with its name. */
    static Generation ask(LanguageModel model, GenerationOptions options, Conversation row) {
        try {
            if (!row.lost().isEmpty()) {
                throw new IllegalArgumentException(row.lost().get(0)
                        + " is nothing that Gemma 3 reads, expected \"text\" or \"image\"; take it out");
            }
            return model.generate(row.messages(), row.images(), options);
        } catch (IllegalArgumentException e) {
            throw new FormatException(row.id() + ": " + e.getMessage(), e);
        } catch (FormatException e) { // of a picture, which has the row in its name or is a file of its own
            throw e.getMessage().startsWith(row.id()) ? e : new FormatException(row.id() + ": " + e.getMessage(), e);
        }
    }

    static void write(FileChannel channel, Answer answer) throws IOException {
        write(channel, json(answer));
    }

    static void write(FileChannel channel, Map<String, Object> object) throws IOException {
        AtomicFile.writeFully(
                channel, ByteBuffer.wrap((JsonWriter.line(object).strip() + "\n").getBytes(StandardCharsets.UTF_8)));
    }

    static Map<String, Object> json(Answer answer) {
        Usage used = answer.usage();
        Map<String, Object> usage = new LinkedHashMap<>();
        usage.put("prompt_tokens", used.promptTokens());
        usage.put("completion_tokens", used.completionTokens());
        usage.put("total_tokens", used.totalTokens());
        Map<String, Object> json = new LinkedHashMap<>();
        json.put("text", answer.text());
        json.put("token_ids", new ArrayList<Object>(answer.tokenIds()));
        json.put("finish_reason", answer.finishReason().name().toLowerCase(Locale.ROOT));
        json.put("usage", usage);
        return json;
    }

    private void requireOther() {
        try {
            if (Files.exists(out) && Files.isSameFile(in, out)) {
                throw usage("--out " + out + " is the file to read; name another");
            }
        } catch (IOException e) {
            throw new FormatException("cannot look at " + in + ": " + e.getMessage(), e);
        }
    }

    private ParameterException usage(String message) {
        return new ParameterException(spec.commandLine(), message);
    }
}
