package lapidary.cli;

import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import picocli.CommandLine.MissingParameterException;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.UnmatchedArgumentException;

/** What picocli finds wrong with a command line, in a user's words: the option, what was given, what it takes, an example. */
final class UsageText {
    private static final Set<Class<?>> WHOLE = Set.of(int.class, Integer.class, long.class, Long.class);
    private static final Set<Class<?>> REAL = Set.of(double.class, Double.class);
    private static final Pattern DEFAULT = Pattern.compile("\\(default: (\\d[\\d.e+-]*)[),;.]");
    private static final Pattern INVALID = Pattern.compile("Invalid value for option '--[^']+'(?: \\([^)]*\\))?: (.*)");

    private UsageText() {}

    static String of(ParameterException error) {
        if (error instanceof UnmatchedArgumentException unmatched) {
            return unmatched(unmatched);
        }
        if (error instanceof MissingParameterException missing
                && missing.getMissing().size() == 1
                && missing.getMissing().get(0) instanceof OptionSpec option
                && missing.getMessage().startsWith("Missing required parameter")) {
            String numbers = numbers(option);
            return option.longestName() + " needs a value: " + (numbers.isEmpty() ? option.paramLabel() : numbers);
        }
        if (!(error.getArgSpec() instanceof OptionSpec option)) {
            return error.getMessage();
        }
        String name = option.longestName();
        String numbers = numbers(option);
        Matcher invalid = INVALID.matcher(String.valueOf(error.getMessage()));
        if (error.getValue() == null || !invalid.matches()) {
            return error.getMessage();
        }
        String given = name + " " + Printable.line(error.getValue()) + ": ";
        return given + (numbers.isEmpty() ? invalid.group(1) : "expected " + numbers);
    }

    /** What an option takes that takes a number; else nothing. */
    private static String numbers(OptionSpec option) {
        boolean isWhole = WHOLE.contains(option.type());
        return isWhole || REAL.contains(option.type())
                ? (isWhole ? "a whole number" : "a number") + ", as in " + option.longestName() + " "
                        + example(option, isWhole)
                : "";
    }

    /** The default, where that is an example. */
    private static String example(OptionSpec option, boolean isWhole) {
        Matcher common = DEFAULT.matcher(String.join(" ", option.description()));
        boolean isGood = common.find() && Double.parseDouble(common.group(1)) > 0;
        return isGood ? common.group(1) : isWhole ? "100" : "0.1";
    }

    /** A command that is none is what is wrong, else options where there are any; a value that follows one is not told of. */
    private static String unmatched(UnmatchedArgumentException error) {
        String first = error.getUnmatched().getFirst();
        boolean isCommand = !error.getCommandLine().getSubcommands().isEmpty() && !first.startsWith("-");
        List<String> options = isCommand
                ? List.of()
                : error.getUnmatched().stream()
                        .filter(argument -> argument.startsWith("-"))
                        .map(argument -> Printable.line(argument.split("=", 2)[0]))
                        .toList();
        List<String> near = NearestName.of(options.isEmpty() ? first : options.getFirst(), error.getCommandLine());
        String meant = near.isEmpty() ? "" : "; did you mean " + String.join(" or ", near) + "?";
        if (!options.isEmpty()) {
            return (options.size() == 1 ? "unknown option " : "unknown options ") + String.join(", ", options) + meant;
        }
        if (isCommand) {
            return "there is no command " + Printable.line(first) + meant;
        }
        String words = error.getUnmatched().stream().map(Printable::line).collect(Collectors.joining(" "));
        return "no option before it takes this: " + words;
    }
}
