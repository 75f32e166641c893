package lapidary.hub;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SortedMap;
import java.util.concurrent.CompletionService;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorCompletionService;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import lapidary.data.Datasets;
import lapidary.format.Json;

/**
 * Models and data sets by name: asks the Hub which commit a revision stands for, brings the files that are needed and not
 * there yet into the cache, and tells where they are. Without a network, or with {@code HF_HUB_OFFLINE}, the cache alone
 * answers.
 */
public final class Hub implements AutoCloseable {
    /** The branch that is meant where none is named. */
    public static final String MAIN = "main";

    private static final int PARALLEL = 8; // files at a time, as huggingface_hub does
    private static final int MOST_FILES = 1_000_000;
    private static final int MOST_PAGES = 1_100;
    private static final Pattern NEXT = Pattern.compile("<([^>]*)>\\s*;\\s*rel=\"?next\"?");

    private final HubSettings settings;
    private final HubListener listener;
    private final HubCache cache;
    private final Http http;
    private final HubErrors errors;

    public Hub(HubSettings settings, HubListener listener) {
        this.settings = settings;
        this.listener = listener;
        this.cache = new HubCache(settings.cache());
        this.http = new Http(settings, listener);
        this.errors = new HubErrors(settings);
    }

    /** This Hub, for a run that it has answered before: a connection that cannot be made is tried as often as all else. */
    public Hub expectAnswer() {
        http.expectAnswer();
        return this;
    }

    /**
     * The folder of a model at a revision, with what fine-tuning needs: configurations, tokenizer, templates and safetensors
     * weights; not the same weights in other formats.
     *
     * @param revision a branch, a tag or a commit
     * @throws HubException it cannot be had; the message says why and what helps
     */
    public Path model(RepoId repo, String revision) {
        Commit commit = resolve(repo, revision);
        Path snapshot = cache.snapshot(repo, commit.id());
        fetch(commit, ModelFiles.small(commit, snapshot));
        fetch(commit, ModelFiles.weights(commit, snapshot));
        return snapshot;
    }

    /**
     * A data set of the Hub, as {@link lapidary.data.Datasets#open} takes it: only the files of the split are fetched, and where
     * their rows name pictures by path, all zip files, as nothing says which of them hold those.
     *
     * @param config one of those that the README lists; empty for the default one
     * @throws HubException it cannot be had; the message says why and what helps
     */
    public String dataset(RepoId repo, String config, String split, String revision) {
        Commit commit = resolve(repo, revision);
        Path snapshot = cache.snapshot(repo, commit.id());
        List<RepoFile> files = DatasetFiles.choose(commit, snapshot, config, split);
        fetch(commit, files);
        if (Datasets.namesPictures(snapshot.resolve(files.get(0).path()))) {
            fetch(
                    commit,
                    commit.files().stream()
                            .filter(file -> ModelFiles.ending(file.path()).equals("zip"))
                            .toList());
        }
        return DatasetFiles.name(snapshot, files, split);
    }

    /**
     * Whose token this is.
     *
     * @throws HubException there is none, or the Hub refuses it
     */
    public Account account() {
        requireToken();
        URI uri = settings.uri("api/whoami-v2");
        Http.Reply reply = http.send(Http.Call.get(uri));
        if (!reply.isOk()) {
            throw errors.other(reply, "the question whose token it is");
        }
        Json answer = HubErrors.json(uri, reply);
        String name = "";
        if (answer.has("auth") && answer.get("auth").has("accessToken")) {
            name = answer.get("auth").get("accessToken").string("displayName", "");
        }
        return new Account(Text.oneLine(answer.string("name")), Text.oneLine(name));
    }

    /**
     * A user of the Hub.
     *
     * @param name of the user
     * @param tokenName what the user calls the token; may be empty
     */
    public record Account(String name, String tokenName) {}

    /**
     * Makes a model repository, or finds it where it exists.
     *
     * @param name {@code namespace/name}, or a name alone for the token's own user
     * @throws HubException it cannot be made, or {@code mustBePrivate} and it exists as a public one
     */
    public RepoId create(String name, boolean mustBePrivate) {
        requireToken();
        RepoId repo = RepoId.model(name.contains("/") ? name : account().name() + "/" + name);
        new Upload(http, settings, listener, repo).create(mustBePrivate);
        return repo;
    }

    /**
     * Adds files to a repository's main branch in one commit; those that are there already are not sent again.
     *
     * @param files by their paths in the repository
     * @return address of the commit, or of the repository where there was nothing to add
     * @throws HubException it cannot be done; the repository is then as it was
     */
    public String upload(RepoId repo, SortedMap<String, Path> files, String message) {
        requireToken();
        return new Upload(http, settings, listener, repo).commit(files, message);
    }

    private void requireToken() {
        if (settings.offline()) {
            throw new HubException(
                    "HF_HUB_OFFLINE is set, and --push_to_hub, upload and login talk to the Hub: unset it, or go without them");
        }
        if (!settings.token().isPresent()) {
            throw new HubException(
                    "the Hub asks who you are: log in first (engine login), or set HF_TOKEN to a token with"
                            + " write access from " + settings.endpoint() + "/settings/tokens");
        }
    }

    /** Which commit {@code revision} stands for, and what it consists of. */
    Commit resolve(RepoId repo, String revision) {
        if (revision.startsWith("-") || revision.endsWith(".lock") || !RepoFile.isSafe(revision)) {
            throw new IllegalArgumentException(
                    "revision \"" + Text.oneLine(revision) + "\" is none: expected a branch, a tag or a commit");
        }
        if (settings.offline()) {
            return known(repo, revision)
                    .orElseThrow(() -> new HubException(repo + " at revision " + revision + " is not in "
                            + cache.root() + ", and HF_HUB_OFFLINE forbids to fetch it; unset it once, or copy the"
                            + " cache here"));
        }
        try {
            return ask(repo, revision);
        } catch (HubException e) {
            if (!(e.getCause() instanceof Http.UnreachableCause)) {
                throw e;
            }
            Commit commit = known(repo, revision).orElseThrow(() -> e);
            synchronized (listener) {
                listener.onNotice(Text.shown(settings.endpoint()) + " cannot be reached; using " + repo
                        + " as it was downloaded, commit " + commit.id());
            }
            return commit;
        }
    }

    private Commit ask(RepoId repo, String revision) {
        URI uri = settings.uri(repo.api() + "/revision/" + Text.segment(revision));
        Http.Reply reply = http.send(Http.Call.get(uri));
        if (!reply.isOk()) {
            throw errors.of(reply, repo, revision, "revision " + revision);
        }
        Json info = HubErrors.json(uri, reply);
        String id = info.string("sha");
        if (!RepoFile.isCommit(id)) {
            throw info.get("sha").error("expected a commit of 40 hexadecimal digits");
        }
        JsonNode card = info.has("cardData") ? info.get("cardData").node() : JsonNodeFactory.instance.objectNode();
        Optional<List<RepoFile>> tree = cache.tree(repo, id);
        List<RepoFile> files = tree.isPresent() ? tree.get() : list(repo, id);
        remember(repo, revision, id, card);
        return new Commit(repo, revision, id, files, card, false);
    }

    /** All files of a commit, page by page. */
    private List<RepoFile> list(RepoId repo, String commit) {
        List<RepoFile> files = new ArrayList<>();
        Map<String, String> xet = new HashMap<>();
        URI uri = settings.uri(repo.api() + "/tree/" + commit + "?recursive=true&expand=false");
        for (int page = 1; ; page++) {
            Http.Reply reply = http.send(Http.Call.get(uri));
            if (!reply.isOk()) {
                throw errors.of(reply, repo, commit, "list of files");
            }
            for (Json entry : HubErrors.json(uri, reply).elements()) {
                if (entry.string("type").equals("file")) {
                    files.add(file(entry));
                    String hash = entry.string("xetHash", "");
                    if (hash.matches("[0-9a-f]{64}")) {
                        xet.put(entry.string("path"), hash);
                    }
                }
            }
            if (files.size() > MOST_FILES || page > MOST_PAGES) {
                throw new HubException(
                        repo + " has more than " + MOST_FILES + " files or " + MOST_PAGES + " pages of them");
            }
            Matcher next = NEXT.matcher(reply.header("link"));
            if (!next.find()) {
                rememberTree(repo, commit, files, xet);
                return files;
            }
            uri = http.destinations().follow(uri, next.group(1));
        }
    }

    private static RepoFile file(Json entry) {
        if (!entry.has("lfs")) {
            return new RepoFile(entry.string("path"), entry.integer("size"), entry.string("oid"), "");
        }
        Json lfs = entry.get("lfs");
        return new RepoFile(entry.string("path"), lfs.integer("size"), entry.string("oid"), lfs.string("oid"));
    }

    /** What the cache knows of a revision. */
    private Optional<Commit> known(RepoId repo, String revision) {
        Optional<String> id = cache.commit(repo, revision);
        if (id.isEmpty() || !Files.isDirectory(cache.snapshot(repo, id.get()))) {
            return Optional.empty();
        }
        JsonNode card = cache.card(repo, id.get()).orElse(JsonNodeFactory.instance.objectNode());
        List<RepoFile> files = cache.tree(repo, id.get()).orElseGet(() -> present(cache.snapshot(repo, id.get())));
        return Optional.of(new Commit(repo, revision, id.get(), files, card, true));
    }

    /** The files of a snapshot that another program made, without their checksums: they are not fetched again. */
    private static List<RepoFile> present(Path snapshot) {
        String unknown = "0".repeat(40);
        try (Stream<Path> walk = Files.walk(snapshot)) {
            List<RepoFile> files = new ArrayList<>();
            for (Path path : walk.filter(Files::isRegularFile).sorted().toList()) {
                files.add(new RepoFile(snapshot.relativize(path).toString(), Files.size(path), unknown, ""));
            }
            return files;
        } catch (IOException e) {
            throw new HubException("cannot list " + snapshot + ": " + Text.oneLine(e.toString()), e);
        }
    }

    private void remember(RepoId repo, String revision, String commit, JsonNode card) {
        try {
            cache.tag();
            cache.rememberCommit(repo, revision, commit);
            if (!card.isEmpty()) {
                cache.rememberCard(repo, commit, card);
            }
        } catch (IOException e) {
            notRemembered(e); // a cache that is read-only still serves what it has
        }
    }

    private void rememberTree(RepoId repo, String commit, List<RepoFile> files, Map<String, String> xet) {
        try {
            cache.rememberTree(repo, commit, files, xet);
        } catch (IOException e) {
            notRemembered(e);
        }
    }

    private void notRemembered(IOException e) {
        synchronized (listener) {
            listener.onNotice("cannot note in " + cache.root() + " what the Hub says: " + Text.oneLine(e.toString()));
        }
    }

    /** Brings those of {@code files} that the snapshot lacks. */
    private void fetch(Commit commit, List<RepoFile> files) {
        List<RepoFile> missing = files.stream()
                .filter(file -> !cache.has(commit.repo(), commit.id(), file))
                .toList();
        if (missing.isEmpty()) {
            return;
        }
        if (commit.offline()) {
            throw new HubException(commit.repo() + " in " + cache.root() + " lacks "
                    + missing.get(0).path()
                    + (missing.size() > 1 ? " and " + (missing.size() - 1) + " more" : "")
                    + ", and the Hub is not asked now; run once with a network and without HF_HUB_OFFLINE");
        }
        long total = missing.stream().mapToLong(RepoFile::size).sum();
        checkSpace(commit.repo(), missing, total);
        Meter meter = new Meter(listener, total);
        synchronized (listener) {
            listener.onTransfer(commit.repo().name(), missing.size(), total);
        }
        List<Runnable> downloads = new ArrayList<>();
        for (RepoFile file : missing) {
            downloads.add(new Download(http, settings, cache, commit.repo(), commit.id(), file, meter)::run);
        }
        inParallel(downloads, PARALLEL);
        synchronized (listener) {
            listener.onDone();
        }
    }

    private void checkSpace(RepoId repo, List<RepoFile> missing, long total) {
        long there = 0;
        try {
            for (RepoFile file : missing) {
                Path part = cache.incomplete(repo, file.etag());
                there += Files.exists(part) ? Math.min(Files.size(part), file.size()) : 0;
            }
            Path folder = cache.root();
            while (!Files.exists(folder)) {
                folder = folder.getParent();
            }
            long free = Files.getFileStore(folder).getUsableSpace();
            if (total - there > free) {
                throw new HubException(repo + " needs " + Text.bytes(total - there) + " in " + cache.root()
                        + ", where " + Text.bytes(free) + " are free; free some, or set HF_HUB_CACHE to a folder on"
                        + " another disk");
            }
        } catch (IOException e) {
            throw new HubException("cannot look at " + cache.root() + ": " + Text.oneLine(e.toString()), e);
        }
    }

    /** Runs all, some at a time; the first failure stops the others and is thrown. */
    static void inParallel(List<Runnable> jobs, int atATime) {
        try (ExecutorService pool = Executors.newFixedThreadPool(Math.min(atATime, Math.max(1, jobs.size())))) {
            CompletionService<Void> running = new ExecutorCompletionService<>(pool);
            jobs.forEach(job -> running.submit(job, null));
            try {
                for (int i = 0; i < jobs.size(); i++) {
                    running.take().get();
                }
            } catch (ExecutionException e) {
                pool.shutdownNow();
                if (e.getCause() instanceof RuntimeException r) {
                    throw r;
                }
                throw new IllegalStateException(e.getCause());
            } catch (InterruptedException e) {
                pool.shutdownNow();
                Thread.currentThread().interrupt();
                throw new HubException("stopped during a transfer", e);
            }
        }
    }

    @Override
    public void close() {
        http.close();
    }
}
