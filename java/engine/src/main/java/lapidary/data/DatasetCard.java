package lapidary.data;

import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.PathMatcher;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.PatternSyntaxException;
import lapidary.format.FormatException;
import lapidary.format.Json;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;
import org.snakeyaml.engine.v2.exceptions.YamlEngineException;

/**
 * What the head of a data set's README.md says about its splits: the Hub's {@code configs} with {@code data_files}.
 *
 * @param readme the file
 * @param splits patterns of files by split, in the order of the file; empty where it says nothing
 * @see <a href="https://huggingface.co/docs/hub/datasets-manual-configuration">Manual configuration</a>
 */
record DatasetCard(Path readme, Map<String, List<String>> splits) {
    private static final long MAX_BYTES = 16L << 20; // of a README

    /**
     * Reads the card of a folder, of whose configs the default one counts. A head that is no YAML says nothing: it is the Hub's to
     * complain about.
     */
    static DatasetCard read(Path folder) {
        Path readme = folder.resolve("README.md");
        if (!Files.isRegularFile(readme)) {
            return new DatasetCard(readme, Map.of());
        }
        String text = Json.utf8(readme.toString(), Json.readBytes(readme, MAX_BYTES));
        String[] parts = text.replace("\r\n", "\n").split("(?m)^---[ \t]*$", 3);
        if (parts.length < 3 || !parts[0].isBlank()) {
            return new DatasetCard(readme, Map.of());
        }
        Object head;
        try {
            LoadSettings settings = LoadSettings.builder()
                    .setLabel(readme.toString())
                    .setAllowDuplicateKeys(true)
                    .setMaxAliasesForCollections(50)
                    .setCodePointLimit((int) MAX_BYTES)
                    .build();
            head = new Load(settings).loadFromString(parts[1]);
        } catch (YamlEngineException
                | StackOverflowError e) { // brackets in brackets are read by recursion, without a limit
            return new DatasetCard(readme, Map.of());
        }
        return new DatasetCard(readme, splits(defaultConfig(head)));
    }

    private static Map<?, ?> defaultConfig(Object head) {
        List<Map<?, ?>> configs = new ArrayList<>();
        if (head instanceof Map<?, ?> map && map.get("configs") instanceof List<?> list) {
            list.forEach(config -> configs.addAll(config instanceof Map<?, ?> m ? List.of(m) : List.of()));
        }
        return configs.stream()
                .filter(config -> configs.size() == 1
                        || Boolean.TRUE.equals(config.get("default"))
                        || "default".equals(config.get("config_name")))
                .findFirst()
                .orElse(Map.of());
    }

    /** {@code data_files} is a pattern, a list of patterns, an object by split, or a list of {split, path}. */
    private static Map<String, List<String>> splits(Map<?, ?> config) {
        Map<String, List<String>> splits = new LinkedHashMap<>();
        String folder = config.get("data_dir") instanceof String dir ? dir.replaceAll("/+$", "") + "/" : "";
        Object files = config.get("data_files");
        if (files instanceof Map<?, ?> bySplit) {
            bySplit.forEach((split, patterns) -> add(splits, split, patterns, folder));
        } else if (files != null) {
            for (Object entry : files instanceof List<?> list ? list : List.of(files)) {
                if (entry instanceof Map<?, ?> map) {
                    add(splits, map.get("split") == null ? "train" : map.get("split"), map.get("path"), folder);
                } else {
                    add(splits, "train", entry, folder);
                }
            }
        }
        return splits;
    }

    private static void add(Map<String, List<String>> splits, Object split, Object patterns, String folder) {
        Collection<?> all = patterns instanceof List<?> list ? list : patterns == null ? List.of() : List.of(patterns);
        for (Object pattern : all) {
            if (pattern instanceof String text) {
                splits.computeIfAbsent(String.valueOf(split), key -> new ArrayList<>())
                        .add(folder + text);
            }
        }
    }

    /**
     * Which of {@code files}, sorted, belong to a split; nothing where the card does not say what splits there are.
     *
     * @throws FormatException the card has splits, but not this one, or no file of it is there
     */
    Optional<List<Path>> files(List<Path> files, String split) {
        if (splits.isEmpty()) {
            return Optional.empty();
        }
        List<String> patterns = splits.get(split);
        if (patterns == null) {
            throw new FormatException(readme + " has no split \"" + split + "\", only " + splits.keySet());
        }
        List<Path> found = new ArrayList<>();
        for (String pattern : patterns) {
            files.stream()
                    .filter(file -> matches(pattern, file) && !found.contains(file))
                    .forEach(found::add);
        }
        if (found.isEmpty()) {
            throw new FormatException(readme + " keeps split \"" + split + "\" in " + patterns
                    + ", but no such data file is there; fetch the missing files of the data set");
        }
        return Optional.of(found);
    }

    /** The splits that a file belongs to. */
    List<String> splitsOf(Path file) {
        return splits.entrySet().stream()
                .filter(split -> split.getValue().stream().anyMatch(pattern -> matches(pattern, file)))
                .map(Map.Entry::getKey)
                .toList();
    }

    /** As fsspec's glob: two stars span folders, none included. */
    private boolean matches(String pattern, Path file) {
        Path folder = readme.toAbsolutePath().getParent().normalize();
        Path relative = folder.relativize(file.toAbsolutePath().normalize());
        String glob = pattern.replaceFirst("^\\./", "")
                .replace("\\", "\\\\")
                .replace("{", "\\{")
                .replace("}", "\\}");
        try {
            for (String form : List.of(glob, glob.replace("**/", ""))) {
                PathMatcher matcher = FileSystems.getDefault().getPathMatcher("glob:" + form);
                if (matcher.matches(relative)) {
                    return true;
                }
            }
            return false;
        } catch (PatternSyntaxException e) {
            throw new FormatException(readme + " has the malformed pattern \"" + pattern + "\"", e);
        }
    }
}
