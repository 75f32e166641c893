package lapidary.cli;

import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.stream.StreamSupport;
import lapidary.train.SaveOptions;
import picocli.CommandLine.Option;

/** When {@code engine train} writes checkpoints, and which one it goes on from. */
final class CheckpointOptions {
    static final String RESUME = "--resume_from_checkpoint";

    @Option(
            names = "--save_strategy",
            paramLabel = "WHEN",
            description =
                    "Write checkpoints: no, steps, epoch, or best: at an evaluation that is the best so far (default:"
                            + " steps).")
    private String strategy = "steps";

    @Option(
            names = "--save_steps",
            paramLabel = "N",
            description = "Steps between checkpoints; below 1 a share of all steps (default: 500).")
    private double steps = 500;

    @Option(
            names = "--save_total_limit",
            paramLabel = "N",
            description = "Keep N checkpoints, the best among them and else the newest; 0 for all (default: 0).")
    private int totalLimit;

    @Option(
            names = RESUME,
            paramLabel = "true|DIR",
            arity = "0..1",
            fallbackValue = "true",
            description = "Go on from a checkpoint: true for the newest in the output folder (default: false).")
    private String resume = "";

    /** @throws IllegalArgumentException naming the option that is out of range */
    SaveOptions options() {
        String from = resume;
        if (!from.isEmpty() && !Files.exists(Path.of(from))) {
            try {
                from = new BooleanConverter().convert(from).toString();
            } catch (picocli.CommandLine.TypeConversionException e) {
                from = resume; // a folder that is not there: told when it is looked for
            }
        }
        return new SaveOptions(SaveOptions.Strategy.of(strategy), steps, totalLimit, from);
    }

    /** The name of the checkpoint after most steps in a folder, of whatever program. */
    static Optional<String> newestIn(Path output) {
        try (DirectoryStream<Path> found = Files.newDirectoryStream(output, "checkpoint-[0-9]*")) {
            return StreamSupport.stream(found.spliterator(), false)
                    .filter(Files::isDirectory)
                    .map(path -> path.getFileName().toString())
                    .filter(name -> name.matches("checkpoint-[0-9]+"))
                    .max(Comparator.comparingInt(String::length).thenComparing(Comparator.naturalOrder()));
        } catch (IOException e) {
            return Optional.empty(); // not there, or not readable: told by who writes to it
        }
    }

    /** Whether the run goes on from a checkpoint in this folder that is named. */
    boolean isFrom(Path output) {
        Path parent = Path.of(resume).toAbsolutePath().normalize().getParent();
        return output.toAbsolutePath().normalize().equals(parent);
    }

    /** The command that goes on where a run stopped, quoted for a shell. */
    static String resumeCommand(List<String> arguments) {
        List<String> command = new ArrayList<>(List.of("engine"));
        for (int i = 0; i < arguments.size(); i++) {
            String argument = arguments.get(i);
            if (argument.equals(RESUME)) {
                i += i + 1 < arguments.size() && !arguments.get(i + 1).startsWith("-") ? 1 : 0;
            } else if (!argument.startsWith(RESUME + "=")) {
                command.add(quoted(argument));
            }
        }
        command.add(RESUME);
        command.add("true");
        return String.join(" ", command);
    }

    private static String quoted(String argument) {
        return argument.matches("[A-Za-z0-9_@%+=:,./-]+") ? argument : "'" + argument.replace("'", "'\\''") + "'";
    }
}
