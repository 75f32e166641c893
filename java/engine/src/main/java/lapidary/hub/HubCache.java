package lapidary.hub;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.ThreadLocalRandom;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;

/**
 * The folder of downloads that huggingface_hub and this program share.
 *
 * <pre>
 * models--org--name/refs/main               commit that the branch had when it was asked last
 * models--org--name/blobs/&lt;etag&gt;            content; &lt;etag&gt;.lapidary.incomplete while it is on its way
 * models--org--name/snapshots/&lt;commit&gt;/...  links to blobs under the files' own names
 * models--org--name/trees/&lt;commit&gt;.json     what the commit consists of
 * .locks/models--org--name/...              one writer a blob
 * </pre>
 *
 * Python locks with flock, which does not see Java's locks, so unfinished files and locks have names of their own; a
 * finished file appears by a rename.
 */
final class HubCache {
    private static final String TAG = "Signature: 8a477f597d28d172789f06886806bc55\n"
            + "# This file is a cache directory tag created by huggingface_hub.\n"
            + "# For information about cache directory tags, see:\n"
            + "#\thttps://bford.info/cachedir/\n";
    private static final int TREE_FORMAT = 1;
    private static final long LOCK_POLL_MS = 100;

    private final Path root;

    HubCache(Path root) {
        this.root = root;
    }

    Path root() {
        return root;
    }

    Path repo(RepoId repo) {
        return root.resolve(repo.folder());
    }

    Path snapshot(RepoId repo, String commit) {
        return repo(repo).resolve("snapshots").resolve(commit);
    }

    Path blob(RepoId repo, String etag) {
        return repo(repo).resolve("blobs").resolve(etag);
    }

    Path incomplete(RepoId repo, String etag) {
        return repo(repo).resolve("blobs").resolve(etag + ".lapidary.incomplete");
    }

    /** The commit that a branch or tag had when it was asked last. */
    Optional<String> commit(RepoId repo, String revision) {
        if (RepoFile.isCommit(revision)) {
            return Optional.of(revision);
        }
        Path ref = repo(repo).resolve("refs").resolve(revision);
        if (!Files.isRegularFile(ref)) {
            return Optional.empty();
        }
        String commit = new String(Json.readBytes(ref, 1 << 10), StandardCharsets.UTF_8).strip();
        if (!RepoFile.isCommit(commit)) {
            throw new FormatException(ref + " holds \"" + Text.oneLine(commit)
                    + "\", expected a commit of 40 hexadecimal digits; delete the file");
        }
        return Optional.of(commit);
    }

    void rememberCommit(RepoId repo, String revision, String commit) throws IOException {
        if (revision.equals(commit) || commit(repo, revision).equals(Optional.of(commit))) {
            return;
        }
        writeBeside(repo(repo).resolve("refs").resolve(revision), commit);
    }

    /** Files of a commit, where they were listed before. */
    Optional<List<RepoFile>> tree(RepoId repo, String commit) {
        Path file = repo(repo).resolve("trees").resolve(commit + ".json");
        if (!Files.isRegularFile(file)) {
            return Optional.empty();
        }
        try {
            Json tree = Json.read(file);
            if (tree.integer("format_version") != TREE_FORMAT) {
                return Optional.empty();
            }
            Json files = tree.get("files");
            return Optional.of(files.keys().stream()
                    .map(path -> {
                        Json entry = files.get(path);
                        return new RepoFile(
                                path,
                                entry.integer("lfs_size", entry.integer("size")),
                                entry.string("blob_id"),
                                entry.string("lfs_sha256", ""));
                    })
                    .toList());
        } catch (FormatException | HubException e) {
            return Optional.empty(); // asked anew; the answer replaces it
        }
    }

    /** @param xet the Hub's hashes of its chunked storage by path, kept for huggingface_hub */
    void rememberTree(RepoId repo, String commit, List<RepoFile> files, Map<String, String> xet) throws IOException {
        Map<String, Object> entries = new TreeMap<>();
        for (RepoFile file : files) {
            Map<String, Object> entry = new LinkedHashMap<>();
            entry.put("size", file.size());
            entry.put("blob_id", file.blobId());
            if (!file.sha256().isEmpty()) {
                entry.put("lfs_sha256", file.sha256());
                entry.put("lfs_size", file.size());
            }
            if (xet.containsKey(file.path())) {
                entry.put("xet_hash", xet.get(file.path()));
            }
            entries.put(file.path(), entry);
        }
        Map<String, Object> tree = new LinkedHashMap<>();
        tree.put("format_version", TREE_FORMAT);
        tree.put("files", entries);
        writeBeside(repo(repo).resolve("trees").resolve(commit + ".json"), JsonWriter.line(tree));
    }

    /** Marks the folder for programs that make backups. */
    void tag() throws IOException {
        Files.createDirectories(root);
        Path tag = root.resolve("CACHEDIR.TAG");
        if (!Files.exists(tag)) {
            writeBeside(tag, TAG);
        }
    }

    private static void writeBeside(Path file, String text) throws IOException {
        Files.createDirectories(file.getParent());
        Path part = file.resolveSibling(file.getFileName() + "."
                + Long.toHexString(ThreadLocalRandom.current().nextLong()) + ".tmp");
        try {
            Files.writeString(part, text);
            Files.move(part, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(part);
        }
    }

    /** Whether the snapshot has {@code file}, whole as far as its size tells. */
    boolean has(RepoId repo, String commit, RepoFile file) {
        return isWhole(snapshot(repo, commit).resolve(file.path()), file.size());
    }

    boolean isWhole(Path path, long size) {
        try {
            return Files.isRegularFile(path) && Files.size(path) == size;
        } catch (IOException e) {
            return false;
        }
    }

    /** Makes the snapshot's name for a blob. Where the disk has no links, the content itself goes there. */
    void link(RepoId repo, String commit, RepoFile file, String etag) throws IOException {
        Path pointer = snapshot(repo, commit).resolve(file.path());
        Path blob = blob(repo, etag);
        Files.createDirectories(pointer.getParent());
        if (isWhole(pointer, file.size())) {
            return;
        }
        Files.deleteIfExists(pointer);
        try {
            Files.createSymbolicLink(pointer, pointer.getParent().relativize(blob));
        } catch (FileAlreadyExistsException e) {
            if (!isWhole(pointer, file.size())) {
                throw e;
            }
        } catch (UnsupportedOperationException e) {
            Files.move(blob, pointer, StandardCopyOption.ATOMIC_MOVE);
        } catch (FileSystemException e) {
            String reason = String.valueOf(e.getReason());
            if (!reason.contains("Operation not permitted") && !reason.contains("not supported")) { // FAT's words
                throw e;
            }
            Files.move(blob, pointer, StandardCopyOption.ATOMIC_MOVE);
        }
    }

    /** Waits until no other writer of this kind, in this process or another, works on the blob. */
    FileLock lock(RepoId repo, String etag) throws IOException {
        Path file = root.resolve(".locks").resolve(repo.folder()).resolve(etag + ".lapidary.lock");
        Files.createDirectories(file.getParent());
        FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
        try {
            while (true) {
                Optional<FileLock> lock = tryLock(channel);
                if (lock.isPresent()) {
                    return lock.get();
                }
                Thread.sleep(LOCK_POLL_MS);
            }
        } catch (InterruptedException e) {
            channel.close();
            Thread.currentThread().interrupt();
            throw new HubException("stopped while another program downloads the same file", e);
        } catch (IOException | RuntimeException e) {
            channel.close();
            throw e;
        }
    }

    private static Optional<FileLock> tryLock(FileChannel channel) throws IOException {
        try {
            return Optional.ofNullable(channel.tryLock());
        } catch (OverlappingFileLockException e) {
            return Optional.empty(); // another thread of this process has it
        }
    }

    static void unlock(FileLock lock) throws IOException {
        lock.acquiredBy().close();
    }

    /** The configs of a data set's README as an earlier download saw them; see {@link DatasetFiles}. */
    Optional<JsonNode> card(RepoId repo, String commit) {
        Path file = cardFile(repo, commit);
        return Files.isRegularFile(file) ? Optional.of(Json.read(file).node()) : Optional.empty();
    }

    void rememberCard(RepoId repo, String commit, JsonNode card) throws IOException {
        writeBeside(cardFile(repo, commit), JsonWriter.line(card));
    }

    private Path cardFile(RepoId repo, String commit) {
        return repo(repo).resolve("trees").resolve(commit + ".lapidary-card.json");
    }
}
