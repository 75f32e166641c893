package lapidary.cli;

import lapidary.format.FormatException;
import picocli.CommandLine;
import picocli.CommandLine.Command;

/** The {@code engine} command: a subcommand per class of this package. Exit codes: 0 done, 2 usage, 1 anything else. */
@Command(
        name = "engine",
        description = "Fine-tunes Gemma 3, text and images, on the JVM.",
        mixinStandardHelpOptions = true,
        subcommands = {Tokenize.class})
public final class Engine {
    private Engine() {}

    public static void main(String[] args) {
        System.exit(run(args));
    }

    /** Runs a command and returns its exit code. A bad file is told in one line. */
    static int run(String... args) {
        return new CommandLine(new Engine())
                .setExecutionExceptionHandler(Engine::tell)
                .execute(args);
    }

    private static int tell(Exception e, CommandLine command, CommandLine.ParseResult parsed) throws Exception {
        if (e instanceof FormatException) {
            command.getErr().println("engine: " + e.getMessage());
            return 1;
        }
        throw e;
    }
}
