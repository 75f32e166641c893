package lapidary.cli;

import java.nio.file.Files;
import java.nio.file.Path;
import lapidary.data.Split;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;

/** What {@code --dataset_train_split} and {@code --dataset_test_split} say. */
final class Splits {
    private Splits() {}

    static Split parse(String text, CommandLine command) {
        return parse("--dataset_train_split", text, command);
    }

    /** The same of another option. */
    static Split parse(String option, String text, CommandLine command) {
        try {
            return Split.parse(text);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, option + ": " + e.getMessage(), e);
        }
    }

    /** Files that the Hub's rules have chosen for a split are all of it, whatever they are called. */
    static Split of(Split wanted, String given, String found) {
        boolean chosen = !found.equals(given) && !Files.isDirectory(Path.of(found));
        return chosen ? wanted.named("train") : wanted;
    }
}
