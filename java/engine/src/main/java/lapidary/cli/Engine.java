package lapidary.cli;

import picocli.CommandLine;
import picocli.CommandLine.Command;

/** The {@code engine} command: a subcommand per class of this package. Exit codes: 0 done, 2 usage, 1 anything else. */
@Command(
        name = "engine",
        description = "Fine-tunes Gemma 3, text and images, on the JVM.",
        mixinStandardHelpOptions = true)
public final class Engine {
    private Engine() {}

    public static void main(String[] args) {
        System.exit(new CommandLine(new Engine()).execute(args));
    }
}
