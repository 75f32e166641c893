package lapidary.hub;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** A repository of {@link FakeHub}: its commits, newest last, and what each consists of. */
public final class FakeRepo {
    /** One state. */
    public record State(String id, String title, Map<String, byte[]> files) {}

    private final List<State> states = new ArrayList<>();
    private final Map<String, String> tags = new LinkedHashMap<>();
    public boolean isPrivate;
    public boolean isGated;
    public Map<String, Object> card = Map.of();

    FakeRepo() {
        commit("initial commit", Map.of());
    }

    /** Adds files to those there are. */
    public synchronized String commit(String title, Map<String, byte[]> added) {
        Map<String, byte[]> files = new TreeMap<>();
        if (!states.isEmpty()) {
            files.putAll(head().files());
        }
        files.putAll(added);
        String id = sha(
                "SHA-1",
                (title + states.size() + added.keySet() + System.identityHashCode(this))
                        .getBytes(StandardCharsets.UTF_8));
        states.add(new State(id, title, files));
        return id;
    }

    public synchronized State head() {
        return states.get(states.size() - 1);
    }

    public synchronized List<State> states() {
        return List.copyOf(states);
    }

    public synchronized void tag(String name, String commit) {
        tags.put(name, commit);
    }

    /** The state of a branch, tag or commit; {@code null} where there is none. */
    public synchronized State at(String revision) {
        if (revision.equals("main")) {
            return head();
        }
        String id = tags.getOrDefault(revision, revision);
        return states.stream()
                .filter(state -> state.id().equals(id))
                .findFirst()
                .orElse(null);
    }

    /** As .gitattributes of the Hub and its size limit decide. */
    static boolean isLarge(String path, long size) {
        return size > 0
                && (path.endsWith(".safetensors")
                        || path.endsWith(".parquet")
                        || path.endsWith(".bin")
                        || size > 10 << 20);
    }

    static String blobId(String path, byte[] content) {
        byte[] stored = content;
        if (isLarge(path, content.length)) {
            stored = ("version https://git-lfs.github.com/spec/v1\noid sha256:" + sha("SHA-256", content) + "\nsize "
                            + content.length + "\n")
                    .getBytes(StandardCharsets.UTF_8);
        }
        byte[] head = ("blob " + stored.length + "\0").getBytes(StandardCharsets.UTF_8);
        byte[] all = new byte[head.length + stored.length];
        System.arraycopy(head, 0, all, 0, head.length);
        System.arraycopy(stored, 0, all, head.length, stored.length);
        return sha("SHA-1", all);
    }

    static String sha(String algorithm, byte[] content) {
        return HexFormat.of().formatHex(Download.digest(algorithm).digest(content));
    }
}
