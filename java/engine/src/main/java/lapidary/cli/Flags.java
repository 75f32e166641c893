package lapidary.cli;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Stack;
import picocli.CommandLine.IParameterPreprocessor;
import picocli.CommandLine.Model.ArgSpec;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;

/**
 * Gives options that are true when they stand alone the value that follows them: picocli does so where it is "true" or "false",
 * and takes the other words for true and false, and mistakes, for something else.
 */
final class Flags implements IParameterPreprocessor {
    @Override
    public boolean preprocess(Stack<String> stack, CommandSpec spec, ArgSpec argument, Map<String, Object> info) {
        List<String> arguments = new ArrayList<>(stack); // the next argument is the last element
        Collections.reverse(arguments);
        List<String> joined = joined(arguments, spec);
        Collections.reverse(joined);
        stack.clear();
        stack.addAll(joined);
        return false; // and picocli goes on with what the stack has now
    }

    static List<String> joined(List<String> arguments, CommandSpec spec) {
        List<String> joined = new ArrayList<>();
        for (int i = 0; i < arguments.size(); i++) {
            String argument = arguments.get(i);
            OptionSpec option = spec.optionsMap().get(argument);
            boolean takesOne = option != null
                    && option.arity().min() == 0
                    && option.arity().max() == 1
                    && (option.type() == boolean.class || option.type() == Boolean.class);
            if (takesOne && i + 1 < arguments.size() && isValue(arguments.get(i + 1), spec)) {
                argument += "=" + arguments.get(++i);
            }
            joined.add(argument);
        }
        return joined;
    }

    /** Where a command takes files and folders besides options, only what may be nothing else. */
    private static boolean isValue(String next, CommandSpec spec) {
        return !next.startsWith("-")
                && (spec.positionalParameters().isEmpty()
                        || BooleanConverter.of(next).isPresent());
    }
}
