package lapidary.export;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Whether an adapter was made for the base that it is put on, as far as names tell. PEFT does not look; shapes tell sizes of a
 * model apart, but not its pre-trained from its instructed form.
 */
final class BaseName {
    /** A model of the Hub as its cache keeps it. */
    private static final Pattern SNAPSHOT = Pattern.compile("(?:.*/)?models--(?:[^/]+--)?([^/]+)/snapshots/[^/]+");

    private static final int SHOWN = 120; // characters

    private BaseName() {}

    /**
     * @param named base_model_name_or_path of adapter_config.json, empty for none
     * @param given the base's folder
     * @return a line for people where the names differ
     */
    static Optional<String> note(String named, Path given) {
        if (named.isBlank() || name(named).equals(name(real(given))) || isSame(named, given)) {
            return Optional.empty();
        }
        String shown = named.replaceAll("\\p{Cntrl}", "?");
        return Optional.of("note: adapter_config.json names another base, "
                + (shown.length() > SHOWN ? shown.substring(0, SHOWN) + "..." : shown) + ", than " + given
                + "; shapes fit, but on other weights the adapter is not what was trained");
    }

    private static String real(Path folder) {
        try {
            return folder.toRealPath().toString();
        } catch (IOException e) { // whoever reads the model tells of it
            return folder.toAbsolutePath().normalize().toString();
        }
    }

    private static boolean isSame(String named, Path given) {
        try {
            Path path = Path.of(named);
            return name(given.toAbsolutePath().normalize().toString()).equals(name(named))
                    || Files.exists(path) && Files.isSameFile(path, given);
        } catch (InvalidPathException | IOException e) {
            return false;
        }
    }

    /** The last part of a model's name or path. */
    private static String name(String path) {
        String whole = path.strip().replaceAll("/+$", "");
        Matcher snapshot = SNAPSHOT.matcher(whole);
        String last = snapshot.matches() ? snapshot.group(1) : whole.substring(whole.lastIndexOf('/') + 1);
        return last.toLowerCase(Locale.ROOT);
    }
}
