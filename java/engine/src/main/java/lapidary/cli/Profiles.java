package lapidary.cli;

import java.util.List;
import lapidary.data.Profile;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;

/** What {@code --compat} says. */
final class Profiles {
    private Profiles() {}

    static Profile of(String compat, CommandLine command) {
        return switch (compat) {
            case "default" -> Profile.DEFAULT;
            case "trl" -> Profile.TRL;
            default -> throw new ParameterException(
                    command, "--compat " + compat + " is neither of " + List.of("default", "trl"));
        };
    }
}
