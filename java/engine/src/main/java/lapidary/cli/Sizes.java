package lapidary.cli;

import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;

/** Sizes as people write them: 5GB, 500MB. */
final class Sizes {
    private static final Pattern SIZE = Pattern.compile("(\\d{1,6})\\s*([KMGT]?)B", Pattern.CASE_INSENSITIVE);

    private Sizes() {}

    static long bytes(String option, String size, CommandLine commandLine) {
        long bytes = bytesOrNone(option, size, commandLine);
        if (bytes == 0) {
            throw refusal(option, size, commandLine);
        }
        return bytes;
    }

    /** Takes 0B, too. */
    static long bytesOrNone(String option, String size, CommandLine commandLine) {
        Matcher matcher = SIZE.matcher(size.strip());
        if (!matcher.matches()) {
            throw refusal(option, size, commandLine);
        }
        long units = Long.parseLong(matcher.group(1));
        return switch (matcher.group(2).toUpperCase(Locale.ROOT)) {
            case "K" -> units * 1_000;
            case "M" -> units * 1_000_000;
            case "G" -> units * 1_000_000_000;
            case "T" -> units * 1_000_000_000_000L;
            default -> units;
        };
    }

    private static ParameterException refusal(String option, String size, CommandLine commandLine) {
        return new ParameterException(commandLine, option + " " + size + ": expected a size like 5GB or 500MB");
    }
}
