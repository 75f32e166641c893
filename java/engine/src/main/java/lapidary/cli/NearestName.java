package lapidary.cli;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import picocli.CommandLine;

/** What a misspelt option or command was probably meant to be. */
final class NearestName {
    private NearestName() {}

    /** The nearest name, or the several that are equally near; none where nothing is near. */
    static List<String> of(String got, CommandLine commandLine) {
        Collection<String> known = got.startsWith("-")
                ? commandLine.getCommandSpec().optionsMap().keySet()
                : commandLine.getSubcommands().keySet();
        return of(got.split("=", 2)[0], known);
    }

    /** @param known in the order in which options are told of */
    static List<String> of(String got, Collection<String> known) {
        String begun = got.replace('-', '_') + "_";
        Optional<String> longer = known.stream()
                .filter(name -> name.replace('-', '_').startsWith(begun))
                .findFirst();
        if (longer.isPresent()) { // the first words of several: what a command has first is what it is mostly given
            return List.of(longer.get());
        }
        int limit = Math.max(2, got.length() / 3);
        int best = known.stream().mapToInt(name -> distance(got, name)).min().orElse(Integer.MAX_VALUE);
        if (best > limit) {
            return List.of();
        }
        List<String> near = new ArrayList<>();
        for (String name : known) {
            if (distance(got, name) == best) {
                near.add(name);
            }
        }
        near.sort(Comparator.naturalOrder());
        return near;
    }

    /** Levenshtein distance, a hyphen and an underscore being the same; or words left out, where that is all. */
    private static int distance(String a, String b) {
        String x = a.replace('-', '_');
        String y = b.replace('-', '_');
        int left = wordsLeftOut(x, y);
        return left > 0 ? left : letters(x, y);
    }

    /** How many words of {@code full} are missing; 0 where that is not the difference. */
    private static int wordsLeftOut(String given, String full) {
        String[] some = given.split("_");
        String[] all = full.split("_");
        int found = 0;
        for (String word : all) {
            found += found < some.length && word.equals(some[found]) ? 1 : 0;
        }
        return found == some.length ? all.length - some.length : 0;
    }

    private static int letters(String x, String y) {
        int[] previous = new int[y.length() + 1];
        for (int j = 0; j <= y.length(); j++) {
            previous[j] = j;
        }
        for (int i = 1; i <= x.length(); i++) {
            int[] current = new int[y.length() + 1];
            current[0] = i;
            for (int j = 1; j <= y.length(); j++) {
                int change = previous[j - 1] + (x.charAt(i - 1) == y.charAt(j - 1) ? 0 : 1);
                current[j] = Math.min(change, Math.min(previous[j], current[j - 1]) + 1);
            }
            previous = current;
        }
        return previous[y.length()];
    }
}
