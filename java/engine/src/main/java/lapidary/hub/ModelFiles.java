package lapidary.hub;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import lapidary.format.Json;
import lapidary.gemma3.ProcessorFiles;

/** Which files of a model's repository fine-tuning needs. */
final class ModelFiles {
    private static final String CONFIG = "config.json";
    private static final String SINGLE = "model.safetensors";
    private static final String INDEX = "model.safetensors.index.json";
    private static final Set<String> ENDINGS = Set.of("json", "jinja");
    private static final Set<String> OTHERS = Set.of("tokenizer.model");

    /** What a model cannot do without where its repository has it; the rest of the JSON may be missing offline. */
    private static final Set<String> ESSENTIAL = Stream.concat(
                    Stream.of(CONFIG, INDEX), ProcessorFiles.NAMES.stream().filter(name -> !OTHERS.contains(name)))
            .collect(Collectors.toUnmodifiableSet());

    private ModelFiles() {}

    /** Everything but the weights: what stands in the root folder as JSON or template, and the tokenizer. */
    static List<RepoFile> small(Commit commit, Path snapshot) {
        List<RepoFile> small = commit.files().stream()
                .filter(file -> !file.path().contains("/"))
                .filter(file -> ENDINGS.contains(ending(file.path())) || OTHERS.contains(file.path()))
                .filter(file -> file.size() <= Json.MAX_FILE)
                .filter(file -> !commit.offline()
                        || ESSENTIAL.contains(file.path())
                        || Files.exists(snapshot.resolve(file.path())))
                .toList();
        if (small.stream().noneMatch(file -> file.path().equals(CONFIG))) {
            throw new HubException(commit.repo() + " at revision " + commit.revision() + " has no " + CONFIG
                    + (commit.offline() ? " in the cache" : "")
                    + "; is it a model in the format of Transformers? (An adapter is given with --init_adapter.)");
        }
        return small;
    }

    /** The weights: one file, or the shards that the index names, which has been fetched to {@code snapshot}. */
    static List<RepoFile> weights(Commit commit, Path snapshot) {
        for (RepoFile file : commit.files()) {
            if (file.path().equals(SINGLE)) {
                return List.of(file);
            }
        }
        if (commit.files().stream().noneMatch(file -> file.path().equals(INDEX))) {
            throw new HubException(commit.repo() + " at revision " + commit.revision() + " has neither " + SINGLE
                    + " nor " + INDEX + "; weights in other formats are not read");
        }
        Json map = Json.read(snapshot.resolve(INDEX)).get("weight_map");
        Set<String> names = new LinkedHashSet<>();
        map.keys().forEach(tensor -> names.add(map.string(tensor)));
        List<RepoFile> shards = new ArrayList<>();
        for (String name : names) {
            shards.add(commit.files().stream()
                    .filter(file -> file.path().equals(name))
                    .findFirst()
                    .orElseThrow(() -> map.error("names shard \"" + Text.oneLine(name) + "\", which " + commit.repo()
                            + (commit.offline() ? " in the cache" : "") + " does not have")));
        }
        return shards;
    }

    static String ending(String path) {
        return path.contains(".") ? path.substring(path.lastIndexOf('.') + 1).toLowerCase(java.util.Locale.ROOT) : "";
    }
}
