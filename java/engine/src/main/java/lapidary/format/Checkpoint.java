package lapidary.format;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;

/**
 * The tensors of a model folder: {@code model.safetensors}, or else the shards that
 * {@code model.safetensors.index.json} names. (With both, the single file wins, as in transformers.)
 *
 * <p>The index is from outside, so a shard is a bare file name of that folder, and following its links must not
 * lead out of the folder. One exception makes the Hugging Face cache work: in {@code .../snapshots/<revision>} a link may
 * lead to the {@code blobs} folder beside {@code snapshots}. Index and shards must agree on every tensor: one that is
 * missing, stands in two shards or is not in the index is refused.
 */
public final class Checkpoint implements AutoCloseable {
    private static final String SINGLE = "model.safetensors";
    private static final String INDEX = "model.safetensors.index.json";

    private final Path folder;
    private final List<Safetensors> files;
    private final Map<String, TensorEntry> entries;

    private Checkpoint(Path folder, List<Safetensors> files, Map<String, TensorEntry> entries) {
        this.folder = folder;
        this.files = files;
        this.entries = Collections.unmodifiableMap(entries);
    }

    /** Whether a model folder has weights, of whatever state. */
    public static boolean isThere(Path modelDir) {
        return Files.exists(modelDir.resolve(SINGLE)) || Files.exists(modelDir.resolve(INDEX));
    }

    /** Maps all files of {@code modelDir} and checks their headers; no data are read. */
    public static Checkpoint open(Path modelDir) {
        if (!Files.isDirectory(modelDir)) {
            throw new FormatException(
                    Files.exists(modelDir)
                            ? modelDir + " is a file, expected a model folder"
                            : "no such model folder: " + modelDir);
        }
        if (Files.exists(modelDir.resolve(SINGLE))) {
            Safetensors file = Safetensors.open(modelDir.resolve(SINGLE));
            return new Checkpoint(modelDir, List.of(file), file.entries());
        }
        if (Files.exists(modelDir.resolve(INDEX))) {
            return openShards(modelDir, modelDir.resolve(INDEX));
        }
        throw new FormatException(modelDir + " has neither " + SINGLE + " nor " + INDEX + foundInstead(modelDir));
    }

    private static Checkpoint openShards(Path folder, Path index) {
        Map<String, String> weightMap = readIndex(index);
        Map<String, Safetensors> shards = new LinkedHashMap<>();
        try {
            for (String shard : new LinkedHashSet<>(weightMap.values())) {
                shards.put(shard, Safetensors.open(shardPath(folder, index, shard)));
            }
            Map<String, TensorEntry> entries = LinkedHashMap.newLinkedHashMap(weightMap.size());
            shards.forEach((shard, file) -> file.entries().forEach((name, entry) -> {
                if (entries.putIfAbsent(name, entry) != null) {
                    throw new FormatException(index + ": tensor \"" + name + "\" stands in two shards, "
                            + entries.get(name).file().getFileName() + " and " + shard + "; remove one of them");
                }
                checkListed(index, weightMap, name, shard);
            }));
            weightMap.forEach((name, shard) -> {
                if (!entries.containsKey(name)) {
                    throw new FormatException(index + ": tensor \"" + name + "\" should be in " + shard
                            + ", which lacks it; fetch index and shards again from one revision");
                }
            });
            return new Checkpoint(folder, List.copyOf(shards.values()), entries);
        } catch (RuntimeException | Error e) {
            shards.values().forEach(Safetensors::close);
            throw e;
        }
    }

    private static void checkListed(Path index, Map<String, String> weightMap, String name, String shard) {
        String listed = weightMap.get(name);
        if (listed == null) {
            throw new FormatException(index + " does not list tensor \"" + name + "\" of " + shard
                    + "; fetch index and shards again from one revision");
        }
        if (!listed.equals(shard)) {
            throw new FormatException(index + ": tensor \"" + name + "\" should be in " + listed + ", but stands in "
                    + shard + "; fetch index and shards again from one revision");
        }
    }

    private static Map<String, String> readIndex(Path index) {
        Json map = Json.read(index).get("weight_map");
        Map<String, String> out = new LinkedHashMap<>();
        for (String name : map.keys()) {
            out.put(name, map.string(name));
        }
        if (out.isEmpty()) {
            throw map.error("names no tensor");
        }
        return out;
    }

    private static Path shardPath(Path folder, Path index, String shard) {
        if (shard.isEmpty()
                || shard.equals(".")
                || shard.equals("..")
                || shard.chars().anyMatch(c -> c == '/' || c == '\\' || c == ':' || c < 0x20)) {
            throw new FormatException(index + ": shard \"" + Json.oneLine(shard)
                    + "\" is not a plain file name; shards must lie in the model folder itself");
        }
        Path path = folder.resolve(shard);
        if (!Files.exists(path)) {
            throw new FormatException(index + " names shard " + shard + ", which is missing in " + folder
                    + "; fetch the missing files of the model");
        }
        try {
            Path real = path.toRealPath();
            Path home = folder.toRealPath();
            if (!real.startsWith(home) && !inHubCache(home, real)) {
                throw new FormatException(path + " is a link out of the model folder, to " + real
                        + "; put the file itself into " + folder);
            }
        } catch (IOException e) {
            throw new FormatException("cannot read " + path + ": " + Json.why(e), e);
        }
        return path;
    }

    /**
     * {@code repo/snapshots/<revision>/...} may link to {@code repo/blobs/...}, and a blob there to one that repositories share
     * in {@code blobs} beside them: how huggingface_hub stores models.
     */
    private static boolean inHubCache(Path home, Path real) throws IOException {
        for (Path at = home; at != null; at = at.getParent()) {
            Path name = at.getFileName();
            if (name != null && name.toString().equals("snapshots") && Files.isDirectory(at.resolveSibling("blobs"))) {
                Path repo = at.getParent();
                Path shared = repo.resolveSibling("blobs");
                return real.startsWith(repo.resolve("blobs").toRealPath())
                        || (Files.isRegularFile(shared.resolve(".huggingface-shared-blobs"))
                                && real.startsWith(shared.toRealPath()));
            }
        }
        return false;
    }

    private static String foundInstead(Path folder) {
        try (Stream<Path> files = Files.list(folder)) {
            List<String> weights = files.map(f -> f.getFileName().toString())
                    .filter(f -> f.endsWith(".bin")
                            || f.endsWith(".pt")
                            || f.endsWith(".pth")
                            || f.endsWith(".gguf")
                            || f.endsWith(".safetensors"))
                    .sorted()
                    .limit(5)
                    .toList();
            return weights.isEmpty()
                    ? "; is it a model folder, and is its download complete?"
                    : "; it has " + String.join(", ", weights) + ", which this program does not read as a model";
        } catch (IOException e) {
            return "";
        }
    }

    public Path folder() {
        return folder;
    }

    /** Names of all tensors, shard by shard in the order of the data: reading in this order is sequential. */
    public Set<String> names() {
        return entries.keySet();
    }

    /** The tensor called {@code name}, which must be there. */
    public TensorEntry entry(String name) {
        TensorEntry entry = entries.get(name);
        if (entry == null) {
            throw new FormatException(folder + " has no tensor \"" + name + "\"");
        }
        return entry;
    }

    /** See {@link Safetensors#checkUnchanged}. */
    public void checkUnchanged() {
        files.forEach(Safetensors::checkUnchanged);
    }

    /** Unmaps all files: the data of their entries must not be used any more. */
    @Override
    public void close() {
        List<RuntimeException> failures = new ArrayList<>();
        for (Safetensors file : files) {
            try {
                file.close();
            } catch (RuntimeException e) {
                failures.add(e);
            }
        }
        if (!failures.isEmpty()) {
            throw failures.get(0);
        }
    }
}
