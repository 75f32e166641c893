package lapidary.cli;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import lapidary.data.Conversation;
import lapidary.data.Dataset;
import lapidary.data.Datasets;
import lapidary.data.RowForm;
import lapidary.data.Split;
import lapidary.device.Device;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.gemma3.ChatTemplate;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.infer.Answer;
import lapidary.infer.Generation;
import lapidary.infer.GenerationOptions;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;
import lapidary.infer.TokenLoss;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engine evaluate}: how well a model answers a split. */
@Command(
        name = "evaluate",
        header = "Answers a split of a data set: exact match, and the loss of the right answers.",
        description = {
            "",
            "  engine evaluate --model_name_or_path gemma-3-4b-it --adapter_name_or_path out --dataset_name data",
            "",
            "The last answer of each row is the right one. It is compared with what the model answers to the messages before"
                    + " it, white space at the ends apart; unless options say otherwise, with the likeliest token each"
                    + " time. The loss is the mean over the right answers' tokens, the end of the turn included, in nats."
        },
        sortOptions = false,
        usageHelpWidth = 120,
        usageHelpAutoWidth = true,
        mixinStandardHelpOptions = true)
final class Evaluate implements Callable<Integer> {
    private static final String SPLIT = "--dataset_test_split";

    @Spec
    private CommandSpec spec;

    @Option(
            names = "--dataset_name",
            paramLabel = "PATH|NAME",
            description =
                    "Parquet or JSON lines as train takes them: a file, a folder of shards, a glob, or a name on the"
                            + " Hub.")
    private String dataset;

    @Option(
            names = SPLIT,
            paramLabel = "NAME",
            description = "Split to answer, or a slice: test[:100] (default: test).")
    private String split = "test";

    @Option(names = "--max_samples", paramLabel = "N", description = "Answer the first N rows only (default: all).")
    private int maxSamples = Integer.MAX_VALUE;

    @Option(
            names = "--out",
            paramLabel = "ANSWERS.jsonl",
            description = "Each row's answer, the right one, whether they match, and its loss.")
    private Path out;

    @Option(names = "--batch_size", paramLabel = "N", description = "Answers that are made together (default: 8).")
    private int batchSize = LoadOptions.DEFAULT.batchSize();

    @Mixin
    private final InferOptions infer = new InferOptions();

    private int rows;
    private int matches;
    private double loss;
    private long tokens;

    /** A row that has been asked. */
    private record Asked(String right, Generation generation, TokenLoss loss) {}

    @Override
    public Integer call() {
        Repeats.refuse(spec);
        if (dataset == null) {
            throw new ParameterException(spec.commandLine(), "evaluate needs --dataset_name");
        }
        if (maxSamples < 1) {
            throw new ParameterException(
                    spec.commandLine(), "--max_samples is " + maxSamples + ", expected at least 1");
        }
        infer.check(spec.commandLine(), batchSize);
        Split wanted = Splits.parse(SPLIT, split, spec.commandLine());
        String found = HubOptions.dataset(dataset, "", wanted.name(), spec.commandLine());
        try (Dataset data =
                        Datasets.open(found, Splits.of(wanted, dataset, found).toString(), SPLIT, RowForm.ANSWERED);
                Device device = infer.openDevice();
                LanguageModel model = infer.open(device)) {
            GenerationOptions options = infer.options(GenerationOptions.GREEDY);
            if (out == null) {
                evaluate(model, options, data, null);
            } else {
                AtomicFile.write(out, channel -> evaluate(model, options, data, channel));
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        PrintWriter stdout = spec.commandLine().getOut();
        stdout.printf(
                Locale.ROOT,
                "exact match of the last answer %.2f %% (%d of %d), loss %.4f per token (%d tokens)%n",
                100.0 * matches / rows,
                matches,
                rows,
                loss / tokens,
                tokens);
        stdout.flush();
        return 0;
    }

    private void evaluate(LanguageModel model, GenerationOptions options, Dataset data, FileChannel channel)
            throws IOException {
        Deque<Asked> asked = new ArrayDeque<>();
        for (int row = 0; row < Math.min(data.size(), maxSamples); row++) {
            if (asked.size() == 2L * batchSize) {
                settle(asked.remove(), channel);
            }
            asked.add(ask(model, options, data.get(row)));
        }
        while (!asked.isEmpty()) {
            settle(asked.remove(), channel);
        }
    }

    private static Asked ask(LanguageModel model, GenerationOptions options, Conversation row) {
        List<Message> messages = row.messages();
        Message last = messages.get(messages.size() - 1);
        if (!last.role().equals("assistant") && !last.role().equals("model")) {
            throw new FormatException(row.id() + ": the last message is of role \"" + last.role()
                    + "\", expected the assistant's, which is the right answer");
        }
        int asked = Math.max(0, row.images().size() - places(last));
        Conversation question = new Conversation(
                row.id(), messages.subList(0, messages.size() - 1), row.images().subList(0, asked), row.lost());
        Generation generation = Generate.ask(model, options, question);
        try {
            return new Asked(text(last).strip(), generation, model.loss(messages, row.images(), asked));
        } catch (IllegalArgumentException e) {
            throw new FormatException(row.id() + ": " + e.getMessage(), e);
        }
    }

    private void settle(Asked row, FileChannel channel) throws IOException {
        Answer answer = row.generation().answer();
        boolean match = answer.text().strip().equals(row.right());
        rows++;
        matches += match ? 1 : 0;
        loss += row.loss().sum();
        tokens += row.loss().tokens();
        if (channel != null) {
            Map<String, Object> json = Generate.json(answer);
            json.put("right", row.right());
            json.put("exact_match", match);
            json.put("loss", row.loss().sum() / row.loss().tokens());
            Generate.write(channel, json);
        }
    }

    /** Pictures that a message has places for. */
    private static int places(Message message) {
        int places = 0;
        for (Content part : message.content()) {
            places += part instanceof Content.Text words ? ChatTemplate.places(words.text()) : 1;
        }
        return places;
    }

    private static String text(Message message) {
        StringBuilder text = new StringBuilder();
        for (Content part : message.content()) {
            if (part instanceof Content.Text words) {
                text.append(words.text());
            }
        }
        return text.toString();
    }
}
