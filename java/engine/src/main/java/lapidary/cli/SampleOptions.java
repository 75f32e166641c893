package lapidary.cli;

import java.util.EnumSet;
import java.util.Locale;
import java.util.Set;
import lapidary.data.DataOptions;
import lapidary.data.LengthLimit.Overlong;
import lapidary.data.LossOn;
import lapidary.data.Profile;
import lapidary.data.RowForm;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** How rows become samples: the options of {@code train} and {@code check} that say so. */
final class SampleOptions {
    @Option(
            names = "--dataset_format",
            paramLabel = "FORM",
            description = "messages, prompt_completion or mmiu; only where the columns fit several.")
    private String format = "";

    @Option(
            names = "--max_length",
            paramLabel = "N",
            description = "Tokens of a row, its pictures' included (default: 0, what the model can hold).")
    private int maxLength;

    @Option(
            names = "--max_length_policy",
            paramLabel = "WHAT",
            description = "Of longer rows: error, drop, or truncate_text, which never cuts a picture (default: error;"
                    + " with --compat trl: truncate_text).")
    private String overlong = "";

    @Option(
            names = "--assistant_only_loss",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Train on what the assistant says alone (default: false).")
    private boolean assistantOnly;

    @Option(
            names = "--completion_only_loss",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Train on completions alone (default: true for rows of prompt and completion).")
    private Boolean completionOnly;

    @Option(
            names = "--do_pan_and_scan",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Show long pictures in parts, too (default: false).")
    private boolean panAndScan;

    @Option(
            names = "--on_bad_sample",
            paramLabel = "WHAT",
            description = "error, or drop: go on without it (default: error).")
    private String onBad = "error";

    /**
     * What the options say.
     *
     * @param compat what {@code --compat} says: TRL cuts long rows unless told otherwise
     * @throws ParameterException naming the option that is wrong
     */
    DataOptions options(Profile compat, CommandLine command) {
        if (assistantOnly && completionOnly != null) {
            throw new ParameterException(
                    command, "--assistant_only_loss and --completion_only_loss each say what is trained; give one");
        }
        LossOn lossOn = assistantOnly
                ? LossOn.ASSISTANT
                : completionOnly == null ? LossOn.DEFAULT : completionOnly ? LossOn.COMPLETION : LossOn.ALL;
        boolean drop = onBad.equals("drop");
        if (!drop && !onBad.equals("error")) {
            throw new ParameterException(command, "--on_bad_sample is " + onBad + ", expected error or drop");
        }
        try {
            return new DataOptions(
                    forms(command),
                    lossOn,
                    maxLength,
                    overlong.isEmpty()
                            ? compat == Profile.TRL ? Overlong.TRUNCATE_TEXT : Overlong.ERROR
                            : one(Overlong.class, overlong, "--max_length_policy", command),
                    drop,
                    panAndScan);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, e.getMessage(), e);
        }
    }

    private Set<RowForm> forms(CommandLine command) {
        return format.isEmpty()
                ? RowForm.ANSWERED
                : EnumSet.of(one(RowForm.ANSWERED, format, "--dataset_format", command));
    }

    private static <E extends Enum<E>> E one(Class<E> type, String word, String option, CommandLine command) {
        return one(EnumSet.allOf(type), word, option, command);
    }

    private static <E extends Enum<E>> E one(Set<E> choices, String word, String option, CommandLine command) {
        return choices.stream()
                .filter(each -> word(each).equals(word))
                .findFirst()
                .orElseThrow(() -> new ParameterException(
                        command,
                        option + " is " + word + ", expected one of "
                                + choices.stream().map(SampleOptions::word).toList()));
    }

    private static String word(Enum<?> constant) {
        return constant.name().toLowerCase(Locale.ROOT);
    }
}
