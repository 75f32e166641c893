package lapidary.cli;

import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import lapidary.data.Conversation;
import lapidary.data.Dataset;
import lapidary.data.Datasets;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.AtomicFile;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.image.ImageSource;
import lapidary.infer.Generation;
import lapidary.infer.GenerationOptions;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;
import lapidary.train.SaveOptions;
import lapidary.train.Sft;
import lapidary.train.SftConfig;
import lapidary.train.TrainingReport;
import picocli.CommandLine;

/**
 * {@code engine train --demo}: a tiny Gemma 3 that can caption drawn pictures, but not answer questions about them,
 * learns to from a few hundred. Model and pictures are in the jar; {@code bench/reference/make_demo.py} made them.
 */
final class Demo {
    private static final String RESOURCES = "lapidary/demo/";
    private static final int QUESTIONS_AT_ONCE = 50;
    private static final int LONGEST_ANSWER = 12;
    private static final int SHOWN = 6;

    private final Device device;
    private final Path folder;
    private final long seed;
    private final boolean resumed;
    private final CommandLine command;
    private final PrintWriter out;

    /** One held-out question: what is asked about which picture, and what is right. */
    private record Question(String text, String pictureName, ImageSource picture, String answer) {}

    /** @param resumed whether it goes on with a demo that was stopped */
    Demo(Device device, Path folder, long seed, boolean resumed, CommandLine command) {
        this.device = device;
        this.folder = folder == null ? Path.of("lapidary-demo") : folder;
        this.seed = seed;
        this.resumed = resumed;
        this.command = command;
        this.out = command.getOut();
    }

    int run() {
        unpack();
        Path model = folder.resolve("base");
        Path data = folder.resolve("data");
        Path adapter = folder.resolve("adapter");
        List<Question> questions = questions(data);
        out.printf(
                "A tiny Gemma 3 and its pictures are in %s. Asking it %d held-out questions.%n",
                folder, questions.size());
        out.flush();
        List<String> before = answers(model, null, questions);
        out.printf(Locale.ROOT, "It answers %.1f %% of them right. It learns now.%n", accuracy(questions, before));
        out.flush();
        SftConfig config = SftConfig.builder(model, data.toString(), adapter)
                .dtype(DType.F32)
                .learningRate(4e-3)
                .maxSteps(400)
                .perDeviceTrainBatchSize(16)
                .gradientCheckpointing(false)
                .loraAlpha(16)
                .loraDropout(0.05)
                .loraModulesToSave(List.of("lm_head", "embed_tokens"))
                .loggingSteps(10)
                .seed(seed)
                .saving(new SaveOptions(SaveOptions.Strategy.NO, 1, 1, resumed ? "true" : ""))
                .build();
        if (isStopped(config)) {
            return 0;
        }
        List<String> after = answers(model, adapter, questions);
        for (int i = 0; i < Math.min(SHOWN, questions.size()); i++) {
            Question question = questions.get(i);
            out.printf(
                    "  %s: %s  %s  (right: %s)%n",
                    question.pictureName(), question.text(), after.get(i), question.answer());
        }
        out.printf(
                Locale.ROOT,
                "held-out accuracy: before %.1f %%, after %.1f %% (of the first question about each picture)%n",
                accuracy(questions, before),
                accuracy(questions, after));
        out.printf("The adapter is in %s. Ask it yourself, /image FILE shows a picture:%n", adapter);
        out.printf("  ./engine chat --model_name_or_path %s --adapter_name_or_path %s%n", model, adapter);
        out.flush();
        return 0;
    }

    /** Trains; whether it was stopped before its end, with a checkpoint as of every run. */
    private boolean isStopped(SftConfig config) {
        ConsoleProgress progress = new ConsoleProgress(out);
        Sft sft = new Sft(config, device, progress).overwriting();
        try (Interruption interruption = new Interruption(sft::stop, out)) {
            progress.onceStarted(interruption::started);
            try {
                TrainingReport report = sft.run();
                progress.finish(report);
                if (report.stopped()) {
                    Train.tellStopped(report, command);
                    interruption.end(0);
                }
                return report.stopped();
            } catch (RuntimeException | Error e) {
                if (interruption.isRequested()) {
                    interruption.end(Engine.onFailure(e, command)); // the process ends with that
                    return true;
                }
                throw e;
            }
        }
    }

    private void unpack() {
        for (String name : new String(resource("index.txt"), StandardCharsets.UTF_8)
                .lines()
                .toList()) {
            byte[] content = resource(name);
            AtomicFile.write(folder.resolve(name), channel -> AtomicFile.writeFully(channel, ByteBuffer.wrap(content)));
        }
    }

    private static byte[] resource(String name) {
        try (InputStream in = Demo.class.getClassLoader().getResourceAsStream(RESOURCES + name)) {
            if (in == null) {
                throw new IllegalStateException("the jar does not carry " + RESOURCES + name);
            }
            return in.readAllBytes();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** The first question of each held-out conversation. */
    private static List<Question> questions(Path data) {
        List<Question> questions = new ArrayList<>();
        try (Dataset test = Datasets.open(data.toString(), "test")) {
            for (int row = 0; row < test.size(); row++) {
                Conversation conversation = test.get(row);
                ImageSource picture = conversation.images().get(0);
                questions.add(new Question(
                        text(conversation.messages().get(0)),
                        shortName(picture),
                        kept(picture),
                        text(conversation.messages().get(1))));
            }
        }
        return questions;
    }

    /** The picture in memory, as the data set is closed before it is asked about. */
    private static ImageSource kept(ImageSource picture) {
        try {
            return ImageSource.of(picture.name(), picture.bytes());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** The picture's own name, where the source's says in parentheses what it is called in the file that holds it. */
    private static String shortName(ImageSource picture) {
        String name = picture.name();
        return name.endsWith(")") ? name.substring(name.lastIndexOf('(') + 1, name.length() - 1) : name;
    }

    private static String text(Message message) {
        StringBuilder text = new StringBuilder();
        for (Content part : message.content()) {
            if (part instanceof Content.Text words) {
                text.append(words.text());
            }
        }
        return text.toString().strip();
    }

    private List<String> answers(Path modelFolder, Path adapterFolder, List<Question> questions) {
        LoadOptions options = LoadOptions.DEFAULT.withDtype(DType.F32).withBatchSize(QUESTIONS_AT_ONCE);
        List<String> answers = new ArrayList<>();
        try (LanguageModel model = LanguageModel.load(modelFolder, options, device)) {
            if (adapterFolder != null) {
                model.attach("trained", adapterFolder);
                model.use("trained");
            }
            List<Generation> generations = new ArrayList<>();
            for (Question question : questions) {
                generations.add(model.generate(
                        List.of(new Message(
                                "user",
                                List.of(new Content.Image(question.picture()), new Content.Text(question.text())))),
                        GenerationOptions.GREEDY.withMaxNewTokens(LONGEST_ANSWER)));
            }
            generations.forEach(
                    generation -> answers.add(generation.answer().text().strip()));
        }
        return answers;
    }

    private static double accuracy(List<Question> questions, List<String> answers) {
        int right = 0;
        for (int i = 0; i < questions.size(); i++) {
            right += questions.get(i).answer().equals(answers.get(i)) ? 1 : 0;
        }
        return 100.0 * right / questions.size();
    }
}
