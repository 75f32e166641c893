package lapidary.cli;

import java.io.BufferedReader;
import java.io.Console;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.charset.Charset;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import lapidary.device.Device;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.image.ImageDecoder;
import lapidary.image.ImageSource;
import lapidary.image.Rgb;
import lapidary.infer.Answer;
import lapidary.infer.Chat;
import lapidary.infer.Generation;
import lapidary.infer.InferenceException;
import lapidary.infer.LanguageModel;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code engine chat}: a conversation in the terminal. */
@Command(
        name = "chat",
        header = "A conversation in the terminal, with pictures and adapters.",
        description = {
            "",
            "  engine chat --model_name_or_path gemma-3-4b-it --adapter_name_or_path out",
            "",
            "/image FILE    shows a picture with your next message",
            "/adapter DIR   answers with another adapter from now on; without DIR, with none",
            "/history       prints the conversation",
            "/reset         begins a new one",
            "/quit          ends, as Ctrl-D does. Ctrl-C stops an answer."
        },
        sortOptions = false,
        usageHelpWidth = 120,
        usageHelpAutoWidth = true,
        mixinStandardHelpOptions = true)
final class ChatCommand implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    @Option(names = "--system", paramLabel = "TEXT", description = "What the model is told before the conversation.")
    private String system;

    @Mixin
    private final InferOptions infer = new InferOptions();

    private final List<Path> images = new ArrayList<>(); // of the next message
    private volatile Generation answering;
    private PrintWriter out;

    @Override
    public Integer call() {
        Repeats.refuse(spec);
        infer.check(spec.commandLine());
        out = spec.commandLine().getOut();
        try (Device device = infer.openDevice();
                LanguageModel model = infer.open(device)) {
            Chat chat = model.chat(infer.options(model.defaults()));
            begin(chat);
            stopAnswersOnInterrupt();
            converse(model, chat);
        }
        return 0;
    }

    private void begin(Chat chat) {
        chat.reset();
        images.clear();
        if (system != null) {
            chat.system(system);
        }
    }

    private void stopAnswersOnInterrupt() {
        Interrupts.handle(() -> {
            Generation now = answering;
            if (now != null) {
                now.cancel();
            } else {
                out.println();
                out.println("(/quit or Ctrl-D ends)");
                prompt();
            }
        });
    }

    private void converse(LanguageModel model, Chat chat) {
        Charset charset = System.console() == null
                ? Charset.defaultCharset()
                : System.console().charset();
        BufferedReader in = new BufferedReader(new InputStreamReader(StandardInput.open(), charset));
        try {
            prompt();
            for (String line = in.readLine(); line != null && !line.strip().equals("/quit"); line = in.readLine()) {
                try {
                    take(line.strip(), model, chat);
                } catch (IllegalArgumentException | FormatException | InferenceException e) {
                    out.println("! " + Printable.line(e.getMessage()));
                }
                prompt();
                if (Engine.isOutputLost()) {
                    return;
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void prompt() {
        Console console = System.console();
        if (console != null && console.isTerminal()) {
            out.print("> ");
        }
        out.flush();
    }

    private void take(String line, LanguageModel model, Chat chat) {
        if (line.isEmpty()) {
            return;
        }
        if (!line.startsWith("/")) {
            answer(chat, line);
            return;
        }
        String[] parts = line.split("\\s+", 2);
        String argument = parts.length == 2 ? parts[1] : "";
        switch (parts[0]) {
            case "/image" -> addImage(model, argument);
            case "/adapter" -> changeAdapter(model, argument);
            case "/history" -> printHistory(chat);
            case "/reset" -> {
                begin(chat);
                out.println("(a new conversation)");
            }
            default -> throw new IllegalArgumentException(
                    parts[0] + " is none of /image FILE, /adapter DIR, /history, /reset, /quit");
        }
    }

    private void answer(Chat chat, String words) {
        answering = chat.send(words, images.toArray(Path[]::new));
        images.clear();
        try {
            Answer answer = answering.stream(piece -> {
                out.print(Printable.of(piece));
                out.flush();
                if (Engine.isOutputLost()) {
                    answering.cancel();
                }
            });
            out.println(
                    switch (answer.finishReason()) {
                        case STOP -> "";
                        case LENGTH -> " (cut at " + answer.usage().completionTokens() + " tokens)";
                        case CANCELLED -> " (stopped)";
                    });
        } finally {
            answering = null;
        }
    }

    /** Looks at the picture now, so that a mistake is told before the words are typed. */
    private void addImage(LanguageModel model, String file) {
        if (!model.takesImages()) {
            throw new IllegalArgumentException("this model has words alone: its config.json has no vision_config");
        }
        if (file.isEmpty()) {
            throw new IllegalArgumentException("/image needs a file");
        }
        Path path = Path.of(file);
        Rgb picture = ImageDecoder.decode(ImageSource.of(path));
        images.add(path);
        out.printf(
                "(picture %d of your next message: %s, %d x %d)%n",
                images.size(), path.getFileName(), picture.width(), picture.height());
    }

    private void changeAdapter(LanguageModel model, String folder) {
        if (folder.isEmpty()) {
            model.use(LanguageModel.BASE);
            out.println("(no adapter)");
            return;
        }
        Path path = Path.of(folder);
        if (!Files.isDirectory(path)) {
            throw new IllegalArgumentException("no such folder: " + folder);
        }
        model.attach(InferOptions.ADAPTER, path);
        model.use(InferOptions.ADAPTER);
        out.println("(adapter " + folder + ")");
    }

    private void printHistory(Chat chat) {
        for (Message message : chat.history()) {
            StringBuilder text = new StringBuilder();
            for (Content part : message.content()) {
                text.append(
                        part instanceof Content.Image image
                                ? "[" + image.source().name() + "] "
                                : ((Content.Text) part).text());
            }
            out.println(message.role() + ": " + Printable.of(text.toString()));
        }
    }
}
