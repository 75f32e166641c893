package lapidary.cli;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.Stack;
import java.util.TreeSet;
import lapidary.format.FormatException;
import picocli.CommandLine.IParameterPreprocessor;
import picocli.CommandLine.Model.ArgSpec;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.ParameterException;

/**
 * Makes one command line of {@code --config}'s file and the arguments: what the arguments say counts, then what the file
 * says. Names that TRL has and {@code train} has not are judged on the way, see {@link TrlKey}.
 */
final class TrainArguments implements IParameterPreprocessor {
    private static final String CONFIG = "--config";
    private static final Set<String> NOT_IN_FILE = Set.of("config", "demo", "help", "version");

    @Override
    public boolean preprocess(Stack<String> stack, CommandSpec spec, ArgSpec argument, Map<String, Object> info) {
        Train train = (Train) spec.userObject();
        List<String> typed = new ArrayList<>(stack); // the next argument is the last element
        Collections.reverse(typed);
        Set<String> idle = new TreeSet<>();
        List<String> kept = withoutTrlFlags(typed, spec, idle);
        List<String> all = new ArrayList<>();
        String config = config(typed);
        if (!config.isEmpty()) {
            try {
                ConfigFile file = ConfigFile.read(Path.of(config));
                Set<String> given = names(typed);
                given.addAll(names(kept)); // --use_cpu is a --device there
                train.take(file, given);
                all.addAll(fromFile(file, given, spec, idle));
            } catch (FormatException | InvalidPathException e) {
                throw new ParameterException(spec.commandLine(), CONFIG + ": " + e.getMessage(), e);
            }
        }
        all.addAll(Flags.joined(kept, spec));
        train.say(idle);
        stack.clear();
        for (int i = all.size() - 1; i >= 0; i--) {
            stack.push(all.get(i));
        }
        return false; // and picocli goes on with what the stack has now
    }

    private static Set<String> names(List<String> arguments) {
        Set<String> names = new HashSet<>();
        arguments.forEach(argument -> names.add(argument.split("=", 2)[0]));
        return names;
    }

    /** The file, or nothing; where no file follows picocli says so. */
    private static String config(List<String> arguments) {
        for (int i = 0; i < arguments.size(); i++) {
            if (arguments.get(i).startsWith(CONFIG + "=")) {
                return arguments.get(i).substring(CONFIG.length() + 1);
            }
            if (arguments.get(i).equals(CONFIG) && i + 1 < arguments.size()) {
                return arguments.get(i + 1);
            }
        }
        return "";
    }

    private static List<String> withoutTrlFlags(List<String> arguments, CommandSpec spec, Set<String> idle) {
        List<String> kept = new ArrayList<>();
        for (int i = 0; i < arguments.size(); i++) {
            String[] parts = arguments.get(i).split("=", 2);
            String name = parts[0].startsWith("--") ? parts[0].substring(2).replace('-', '_') : "";
            TrlKey key = TrlKey.ALL.get(name);
            boolean isCpu = name.equals("use_cpu");
            if (key == null && !isCpu || spec.optionsMap().containsKey(parts[0])) {
                kept.add(arguments.get(i));
                continue;
            }
            List<String> values = new ArrayList<>(parts.length > 1 ? List.of(parts[1]) : List.of());
            while (parts.length == 1 && i + 1 < arguments.size() && isValue(arguments.get(i + 1))) {
                values.add(arguments.get(++i));
            }
            values = values.isEmpty() ? List.of("true") : values;
            if (isCpu) {
                cpu(values, names(arguments), spec).ifPresent(kept::add);
                continue;
            }
            String why = refusal(name, key, values);
            if (!why.isEmpty()) {
                throw new ParameterException(spec.commandLine(), "--" + why);
            }
            note(name, key, idle);
        }
        return kept;
    }

    private static boolean isValue(String argument) {
        return !argument.startsWith("-") || argument.matches("-[0-9.].*");
    }

    private static Optional<String> cpu(List<String> values, Set<String> typed, CommandSpec spec) {
        String value = values.get(0);
        boolean isWanted = BooleanConverter.of(value)
                .orElseThrow(() -> new ParameterException(
                        spec.commandLine(), "--use_cpu is " + Printable.line(value) + ", expected true or false"));
        return isWanted && !typed.contains("--device") ? Optional.of("--device=cpu") : Optional.empty();
    }

    /** Lists first: they are open to what follows, but for an option. */
    private static List<String> fromFile(ConfigFile file, Set<String> typed, CommandSpec spec, Set<String> idle) {
        List<String> lists = new ArrayList<>();
        List<String> arguments = new ArrayList<>();
        Map<String, String> wrong = new LinkedHashMap<>(); // all at once, or each would cost a try
        for (Map.Entry<String, ConfigFile.Entry> each : file.entries().entrySet()) {
            String name = each.getKey();
            ConfigFile.Entry entry = each.getValue();
            OptionSpec option =
                    NOT_IN_FILE.contains(name) ? null : spec.optionsMap().get("--" + name);
            TrlKey key = TrlKey.ALL.get(name);
            if (option != null) {
                if (!entry.isNull() && !typed.contains("--" + name)) {
                    (option.isMultiValue() ? lists : arguments)
                            .add("--" + name + "=" + value(file, name, entry, option));
                }
            } else if (name.equals("use_cpu")) {
                Set<String> said = new HashSet<>(typed);
                said.addAll(file.entries().containsKey("device") ? Set.of("--device") : Set.of());
                if (!entry.isNull() && !typed.contains("--use_cpu")) {
                    cpu(entry.values(), said, spec).ifPresent(arguments::add);
                }
            } else if (key != null) {
                String why = typed.contains("--" + name) ? "" : refusal(name, key, entry.values());
                if (!why.isEmpty()) {
                    wrong.put(name, why);
                } else if (!entry.isNull()) {
                    note(name, key, idle);
                }
            } else {
                wrong.put(name, unknown(name, spec));
            }
        }
        if (!wrong.isEmpty()) {
            throw file.wrong(wrong);
        }
        lists.addAll(arguments);
        return lists;
    }

    private static String value(ConfigFile file, String name, ConfigFile.Entry entry, OptionSpec option) {
        if (entry.kind() == ConfigFile.Kind.NESTED && !name.endsWith("_kwargs")) {
            throw file.wrong(
                    name,
                    name
                            + (entry.values().get(0).startsWith("[")
                                    ? " has a list or mapping in its list"
                                    : " is a mapping, expected one value"));
        }
        if (entry.kind() == ConfigFile.Kind.LIST && !option.isMultiValue()) {
            throw file.wrong(name, name + " is a list, expected one value");
        }
        if (entry.kind() == ConfigFile.Kind.LIST && entry.values().stream().anyMatch(value -> value.contains(","))) {
            throw file.wrong(name, name + " has an item with a comma in it, expected names");
        }
        return String.join(",", entry.values());
    }

    private static String unknown(String name, CommandSpec spec) {
        Set<String> known = new TreeSet<>(TrlKey.ALL.keySet());
        known.add("use_cpu");
        spec.optionsMap().keySet().stream()
                .filter(option -> option.startsWith("--"))
                .map(option -> option.substring(2))
                .filter(option -> !NOT_IN_FILE.contains(option))
                .forEach(known::add);
        if (NOT_IN_FILE.contains(name)) {
            return name + " goes on the command line, not into a file";
        }
        List<String> near = NearestName.of(name, known);
        return "unknown option " + Printable.line(name)
                + (near.isEmpty() ? "; see engine train --help" : "; did you mean " + String.join(" or ", near) + "?");
    }

    /** Why not, beginning with the name; empty where the values are taken. A token is not shown. */
    private static String refusal(String name, TrlKey key, List<String> values) {
        for (String value : values) {
            String word = value.toLowerCase(Locale.ROOT);
            boolean isTaken = key.accepts().test(word)
                    || BooleanConverter.of(word)
                            .filter(is -> key.accepts().test(is.toString()))
                            .isPresent();
            if (!isTaken) {
                String shown = name.endsWith("token")
                                || name.equals("env")
                                || key.reason().startsWith("it is called")
                        ? ""
                        : " " + Printable.line(value.length() > 60 ? value.substring(0, 60) + "..." : value);
                return name + shown + " is not supported: " + key.reason();
            }
        }
        return "";
    }

    private static void note(String name, TrlKey key, Set<String> idle) {
        if (key.isSaid()) {
            idle.add(name);
        }
    }
}
