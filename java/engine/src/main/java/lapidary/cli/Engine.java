package lapidary.cli;

import java.io.PrintWriter;
import java.util.List;
import lapidary.device.DeviceException;
import lapidary.format.FormatException;
import lapidary.hub.HubException;
import lapidary.infer.InferenceException;
import lapidary.train.TrainingException;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.ParameterException;

/** The {@code engine} command: a subcommand per class of this package. Exit codes: 0 done, 2 usage, 1 anything else. */
@Command(
        name = "engine",
        header = "Fine-tunes Gemma 3, text and images, on the JVM.",
        synopsisSubcommandLabel = "COMMAND",
        mixinStandardHelpOptions = true,
        versionProvider = Info.Version.class,
        footer = {"", "Start here:  engine train --demo", "Help on one: engine COMMAND --help"})
public final class Engine implements Runnable {
    private static final String DEBUG = "LAPIDARY_DEBUG";

    private static final List<Class<?>> COMMANDS = List.of(
            Train.class,
            Check.class,
            Generate.class,
            ChatCommand.class,
            Evaluate.class,
            Quantize.class,
            Merge.class,
            Adapter.class,
            Export.class,
            Serve.class,
            Info.class,
            Tokenize.class,
            Login.class,
            Download.class,
            Upload.class,
            CommandLine.HelpCommand.class);

    @CommandLine.Spec
    private CommandLine.Model.CommandSpec spec;

    public static void main(String[] args) {
        CommandLine root = commandLine(asked(args));
        int code;
        try {
            code = root.execute(args);
        } catch (Error e) { // picocli hands over exceptions alone
            code = onFailure(e, root);
        }
        if (code == 0 && isOutputLost()) {
            System.err.println(
                    "engine: standard output took not all that was printed: the program that reads it is gone, or the"
                            + " disk is full");
            code = 1;
        }
        System.exit(code);
    }

    /** Whether something that was printed and flushed did not arrive, of which Java's streams tell nobody who does not ask. */
    static boolean isOutputLost() {
        return System.out.checkError();
    }

    /** The command line's root with every command, and the error handling of this program. */
    static CommandLine commandLine() {
        return commandLine(COMMANDS);
    }

    /** Reading the annotations of one command takes a twentieth of a second less than reading those of all. */
    private static List<Class<?>> asked(String[] args) {
        for (Class<?> command : COMMANDS) {
            if (args.length > 0
                    && command != CommandLine.HelpCommand.class
                    && command.getAnnotation(Command.class).name().equals(args[0])) {
                return List.of(command);
            }
        }
        return COMMANDS;
    }

    private static CommandLine commandLine(List<Class<?>> commands) {
        CommandLine root = new CommandLine(new Engine());
        commands.forEach(root::addSubcommand);
        Numbers.readBy(root);
        root.getSubcommands().values().forEach(command -> {
            if (!(command.getCommandSpec().preprocessor() instanceof TrainArguments)) { // which sees to them, too
                command.getCommandSpec().preprocessor(new Flags());
            }
        });
        return root.setParameterExceptionHandler(Engine::onUsageError)
                .setExecutionExceptionHandler((error, commandLine, parsed) -> onFailure(error, commandLine));
    }

    @Override
    public void run() {
        throw new ParameterException(spec.commandLine(), "which command? See engine --help");
    }

    private static int onUsageError(ParameterException error, String[] args) {
        PrintWriter err = error.getCommandLine().getErr();
        String message = UsageText.of(error);
        String origin = error.getCommandLine().getCommand() instanceof Train train ? train.origin(message) : "";
        err.println("engine: " + oneLine(message) + origin);
        err.flush();
        return 2;
    }

    /** Says what went wrong; returns the code to end with. */
    static int onFailure(Throwable error, CommandLine commandLine) {
        PrintWriter err = commandLine.getErr();
        boolean expected = error instanceof FormatException
                || error instanceof TrainingException
                || error instanceof HubException
                || error instanceof InferenceException
                || error instanceof DeviceException
                || error instanceof IllegalArgumentException;
        if (error instanceof OutOfMemoryError) {
            err.println("engine: the Java heap is too small (" + error.getMessage()
                    + "); give it more with LAPIDARY_JAVA_OPTS=-Xmx4g");
        } else if (expected) {
            err.println("engine: " + oneLine(error.getMessage()));
        } else {
            err.println("engine: internal error: " + oneLine(String.valueOf(error)) + " (run with " + DEBUG
                    + "=1 for where)");
        }
        if (System.getenv(DEBUG) != null) {
            error.printStackTrace(err);
        }
        err.flush();
        return 1;
    }

    private static String oneLine(String message) {
        return Printable.line(String.valueOf(message));
    }
}
