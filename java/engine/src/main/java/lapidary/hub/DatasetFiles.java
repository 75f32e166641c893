package lapidary.hub;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.PathMatcher;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.PatternSyntaxException;
import java.util.stream.Stream;
import lapidary.data.Datasets;
import lapidary.format.FormatException;

/**
 * Which files of a data set's repository are those of a split: what the head of its README says ({@code configs} with
 * {@code data_files} or {@code data_dir}), else the rules of {@link Datasets}.
 */
final class DatasetFiles {
    private static final String DEFAULT = "default";

    private DatasetFiles() {}

    /**
     * @param snapshot where the files are or will be
     * @param config the name of a config, or empty for the default one
     * @throws HubException there are none that this program reads
     */
    static List<RepoFile> choose(Commit commit, Path snapshot, String config, String split) {
        List<JsonNode> configs = configs(commit.card());
        if (configs.isEmpty()) {
            if (!config.isEmpty() && !config.equals(DEFAULT)) {
                throw new HubException("data set " + commit.repo() + " has no configs, so --dataset_config " + config
                        + " names none; leave it away");
            }
            return byRules(commit, commit.files(), snapshot, split);
        }
        JsonNode chosen = config(commit, configs, config);
        String folder = chosen.path("data_dir").asText("");
        List<RepoFile> below = commit.files().stream()
                .filter(file ->
                        folder.isEmpty() || folder.equals(".") || file.path().startsWith(slash(folder)))
                .toList();
        if (chosen.path("data_files").isMissingNode()
                || chosen.path("data_files").isNull()) {
            return byRules(commit, below, snapshot, split);
        }
        return byPatterns(commit, below, folder, chosen, split);
    }

    private static List<JsonNode> configs(JsonNode card) {
        List<JsonNode> configs = new ArrayList<>();
        card.path("configs").forEach(config -> {
            if (config.isObject()) {
                configs.add(config);
            }
        });
        return configs;
    }

    private static JsonNode config(Commit commit, List<JsonNode> configs, String asked) {
        for (JsonNode config : configs) {
            boolean isDefault = config.path(DEFAULT).asBoolean() || name(config).equals(DEFAULT);
            if (asked.isEmpty()
                    ? isDefault || configs.size() == 1
                    : name(config).equals(asked)) {
                return config;
            }
        }
        String names =
                Text.oneLine(configs.stream().map(DatasetFiles::name).toList().toString());
        throw new HubException(
                asked.isEmpty()
                        ? "data set " + commit.repo() + " has several configs and no default; choose one of " + names
                                + " with --dataset_config"
                        : "data set " + commit.repo() + " has no config \"" + asked + "\", only " + names);
    }

    private static String name(JsonNode config) {
        return config.path("config_name").asText(DEFAULT);
    }

    private static String slash(String folder) {
        return folder.replaceFirst("^\\./", "").replaceAll("/+$", "") + "/";
    }

    private static List<RepoFile> byRules(Commit commit, List<RepoFile> files, Path snapshot, String split) {
        Map<Path, RepoFile> data = new LinkedHashMap<>();
        files.stream()
                .filter(file -> Datasets.isDataFile(Path.of(file.path())))
                .sorted(Comparator.comparing(
                        file -> snapshot.resolve(file.path()).toString()))
                .forEach(file -> data.put(snapshot.resolve(file.path()), file));
        if (data.isEmpty()) {
            throw new HubException("data set " + commit.repo() + " has no Parquet or JSON lines"
                    + (commit.offline() ? " in the cache" : "") + others(files)
                    + "; convert it, for example with load_dataset(...).to_parquet(...)");
        }
        try {
            return Datasets.ofSplit(snapshot, List.copyOf(data.keySet()), split).stream()
                    .map(data::get)
                    .toList();
        } catch (FormatException e) {
            throw new HubException(
                    "data set " + commit.repo() + ": " + e.getMessage().replace(snapshot + "/", ""), e);
        }
    }

    private static String others(List<RepoFile> files) {
        List<String> endings = files.stream()
                .map(file -> ModelFiles.ending(file.path()))
                .filter(ending -> List.of("tar", "csv", "tsv", "txt", "arrow", "zip", "py", "gz", "zst")
                        .contains(ending))
                .distinct()
                .sorted()
                .toList();
        return endings.isEmpty() ? "" : ", but files of the kinds " + endings;
    }

    private static List<RepoFile> byPatterns(
            Commit commit, List<RepoFile> files, String folder, JsonNode config, String split) {
        Map<String, List<String>> splits = splits(config.path("data_files"));
        List<String> patterns = splits.getOrDefault(split, List.of());
        if (patterns.isEmpty()) {
            throw new HubException("data set " + commit.repo() + " has no split \"" + split + "\" in config \""
                    + Text.oneLine(name(config)) + "\", only "
                    + Text.oneLine(splits.keySet().toString())
                    + "; ask for one of these");
        }
        List<RepoFile> chosen = new ArrayList<>();
        for (String pattern : patterns) {
            String inRepo = folder.isEmpty() ? pattern : slash(folder) + pattern;
            if (pattern.contains("://")) {
                throw new HubException("data set " + commit.repo() + " keeps split \"" + split + "\" elsewhere, at "
                        + Text.oneLine(pattern) + "; only files of the repository itself are fetched");
            }
            List<RepoFile> matching = files.stream()
                    .filter(file -> matches(commit, inRepo, file.path()))
                    .filter(file -> !chosen.contains(file))
                    .sorted(Comparator.comparing(RepoFile::path))
                    .toList();
            chosen.addAll(matching);
        }
        List<RepoFile> data = chosen.stream()
                .filter(file -> Datasets.isDataFile(Path.of(file.path())))
                .toList();
        if (data.isEmpty() || data.size() < chosen.size()) {
            throw new HubException("data set " + commit.repo() + " keeps split \"" + split + "\" in "
                    + (chosen.isEmpty()
                            ? Text.oneLine(patterns.toString()) + ", which matches no file"
                                    + (commit.offline() ? " in the cache" : "")
                            : chosen.stream()
                                            .filter(file -> !data.contains(file))
                                            .findFirst()
                                            .orElseThrow()
                                            .path() + ", which is neither Parquet nor JSON lines"));
        }
        return data;
    }

    /** {@code data_files} is a pattern, a list of patterns, an object by split, or a list of {split, path}. */
    private static Map<String, List<String>> splits(JsonNode dataFiles) {
        Map<String, List<String>> splits = new LinkedHashMap<>();
        if (dataFiles.isObject()) {
            dataFiles.properties().forEach(entry -> splits.put(entry.getKey(), strings(entry.getValue())));
            return splits;
        }
        for (JsonNode entry : dataFiles.isArray() ? dataFiles : List.of(dataFiles)) {
            String split = entry.isObject() ? entry.path("split").asText("train") : "train";
            splits.computeIfAbsent(split, key -> new ArrayList<>())
                    .addAll(strings(entry.isObject() ? entry.path("path") : entry));
        }
        return splits;
    }

    private static List<String> strings(JsonNode node) {
        List<String> strings = new ArrayList<>();
        for (JsonNode entry : node.isArray() ? node : List.of(node)) {
            if (entry.isTextual()) {
                strings.add(entry.textValue());
            }
        }
        return strings;
    }

    /** As fsspec's glob: two stars span folders, none included. */
    private static boolean matches(Commit commit, String pattern, String path) {
        String glob = pattern.replaceFirst("^\\./", "")
                .replace("\\", "\\\\")
                .replace("{", "\\{")
                .replace("}", "\\}");
        try {
            for (String form : List.of(glob, glob.replace("**/", ""))) {
                PathMatcher matcher = FileSystems.getDefault().getPathMatcher("glob:" + form);
                if (matcher.matches(Path.of(path))) {
                    return true;
                }
            }
            return false;
        } catch (PatternSyntaxException e) {
            throw new HubException(
                    "the README of data set " + commit.repo() + " has the pattern \"" + Text.oneLine(pattern)
                            + "\", which is malformed",
                    e);
        }
    }

    /**
     * How {@link Datasets#open} is told of {@code files}: the snapshot's folder where its rules find just these, else a pattern
     * that names them.
     */
    static String name(Path snapshot, List<RepoFile> files, String split) {
        List<Path> wanted =
                files.stream().map(file -> snapshot.resolve(file.path())).toList();
        if (found(snapshot, split).equals(wanted)) {
            return snapshot.toString();
        }
        if (wanted.size() == 1) {
            return wanted.get(0).toString();
        }
        List<String> names = files.stream()
                .map(file -> file.path().replaceAll("[\\\\*?\\[\\]{},]", "\\\\$0"))
                .toList();
        return snapshot + "/{" + String.join(",", names) + "}";
    }

    private static List<Path> found(Path snapshot, String split) {
        try (Stream<Path> walk = Files.walk(snapshot)) {
            List<Path> all = walk.filter(Files::isRegularFile)
                    .filter(path -> Datasets.isDataFile(snapshot.relativize(path)))
                    .sorted(Comparator.comparing(Path::toString))
                    .toList();
            return all.isEmpty() ? List.of() : Datasets.ofSplit(snapshot, all, split);
        } catch (FormatException e) {
            return List.of();
        } catch (java.io.IOException e) {
            throw new HubException("cannot list " + snapshot + ": " + Text.oneLine(e.toString()), e);
        }
    }
}
