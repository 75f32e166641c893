package lapidary.cli;

import java.util.HashSet;
import java.util.Set;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;

/** Options that are given twice: a second value would start a second group of options and lose the first. */
final class Repeats {
    private Repeats() {}

    static void refuse(CommandSpec spec) {
        refuse(spec, Set.of());
    }

    /** @param allowed options whose values add up */
    static void refuse(CommandSpec spec, Set<String> allowed) {
        Set<String> seen = new HashSet<>();
        for (String argument : spec.commandLine().getParseResult().originalArgs()) {
            String name = argument.split("=", 2)[0];
            if (spec.optionsMap().containsKey(name) && !allowed.contains(name) && !seen.add(name)) {
                throw new ParameterException(spec.commandLine(), name + " is given twice; which one counts?");
            }
        }
    }
}
