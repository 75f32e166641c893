package lapidary.hub;

import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpHeaders;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Brings one file of a commit into the cache: resumed where it was broken off, checked by size and checksum. */
final class Download {
    private static final Pattern RANGE = Pattern.compile("bytes (\\d{1,18})-(\\d{1,18})/(\\d{1,18}|\\*)");
    private static final Pattern ETAG = Pattern.compile("[0-9A-Za-z][0-9A-Za-z_.-]{0,127}");
    private static final int CHUNK = 1 << 20; // bytes read at once to add up a checksum

    private final Http http;
    private final HubErrors errors;
    private final HubCache cache;
    private final Patience patience;
    private final RepoId repo;
    private final String commit;
    private final RepoFile file;
    private final URI uri;
    private final Meter meter;

    Download(Http http, HubSettings settings, HubCache cache, RepoId repo, String commit, RepoFile file, Meter meter) {
        this.http = http;
        this.errors = new HubErrors(settings);
        this.cache = cache;
        this.patience = settings.patience();
        this.repo = repo;
        this.commit = commit;
        this.file = file;
        this.uri = settings.uri(repo.page() + "/resolve/" + commit + "/" + Text.path(file.path()));
        this.meter = meter;
    }

    /** Afterwards the snapshot has the file. */
    void run() {
        String etag = etag();
        try {
            FileLock lock = cache.lock(repo, etag);
            try {
                Path blob = cache.blob(repo, etag);
                if (cache.isWhole(blob, file.size())) {
                    meter.add(file.size());
                } else {
                    bring(cache.incomplete(repo, etag));
                    Files.move(
                            cache.incomplete(repo, etag),
                            blob,
                            StandardCopyOption.ATOMIC_MOVE,
                            StandardCopyOption.REPLACE_EXISTING);
                }
                cache.link(repo, commit, file, etag);
            } finally {
                HubCache.unlock(lock);
            }
        } catch (IOException e) {
            throw notWritten(e);
        }
    }

    /** Asks what the content is called, and whether it is what the listing says. */
    private String etag() {
        Http.Reply head = http.send(Http.Call.head(uri));
        if (!head.isOk() && !head.isRedirect()) {
            throw errors.of(head, repo, commit, file.path());
        }
        if (!head.header("x-repo-commit").equals(commit)) {
            throw new HubException(Text.shown(head.uri()) + " does not answer as the Hub does (x-repo-commit is \""
                    + Text.oneLine(head.header("x-repo-commit")) + "\", expected " + commit
                    + "); check HF_ENDPOINT, or a proxy in between");
        }
        String linked = head.header("x-linked-etag");
        String etag = (linked.isEmpty() ? head.header("etag") : linked)
                .replaceFirst("^W/", "")
                .replace("\"", "");
        String size = head.header("x-linked-size");
        if (size.isEmpty() && !head.isRedirect()) {
            size = head.header("content-length");
        }
        if (!size.isEmpty() && !size.equals(Long.toString(file.size()))) {
            throw new HubException(file.path() + " of " + repo + " has " + Text.oneLine(size)
                    + " bytes by its own answer and " + file.size() + " by the listing of commit " + commit);
        }
        if (etag.isEmpty()) {
            return file.etag();
        }
        if (!ETAG.matcher(etag).matches()) {
            throw new HubException(Text.shown(head.uri()) + " gives the etag \"" + Text.oneLine(etag)
                    + "\", which is no name for a file");
        }
        return etag;
    }

    private void bring(Path part) throws IOException {
        Files.createDirectories(part.getParent());
        for (boolean last = false; ; last = true) {
            transfer(part);
            String found = checksum(part);
            if (found.equals(file.etag())) {
                try (FileChannel channel = FileChannel.open(part, StandardOpenOption.WRITE)) {
                    channel.force(true);
                }
                return;
            }
            Files.delete(part);
            meter.add(-file.size());
            if (last) {
                throw new HubException(file.path() + " of " + repo + " arrives damaged: its "
                        + (file.sha256().isEmpty() ? "git SHA-1" : "SHA-256") + " is " + found + ", expected "
                        + file.etag() + ", twice; a proxy or the server changes it");
            }
        }
    }

    /** Asks for what is missing until the size is right. */
    private void transfer(Path part) throws IOException {
        long best = -1;
        try (FileChannel out =
                FileChannel.open(part, StandardOpenOption.CREATE, StandardOpenOption.WRITE, StandardOpenOption.READ)) {
            if (out.size() > file.size()) {
                out.truncate(0);
            }
            out.position(out.size());
            meter.add(out.size());
            int failures = 0;
            while (out.size() < file.size()) {
                failures = out.size() > best ? 1 : failures + 1;
                best = Math.max(best, out.size());
                attempt(out, failures);
            }
        }
    }

    private void attempt(FileChannel out, int failures) throws IOException {
        long have = out.size();
        Http.Call call = Http.Call.get(uri);
        Http.Reply reply;
        try {
            reply = http.once(have > 0 ? call.with("range", "bytes=" + have + "-") : call, new Part(out, have));
        } catch (LocalFailure e) {
            throw e.cause();
        } catch (IOException e) {
            if (failures > patience.retries()) {
                throw Http.unreachable(uri, e);
            }
            http.pause(failures, uri, e);
            return;
        }
        if (reply.status() == 200 || reply.status() == 206) {
            if (out.size() < file.size() && failures > patience.retries()) {
                throw new HubException(Text.shown(reply.uri()) + " ends after " + out.size() + " of " + file.size()
                        + " bytes, again and again");
            }
            return;
        }
        if (reply.status() == 416 && have > 0) {
            meter.add(-have);
            out.truncate(0);
            return;
        }
        if (!Http.isLater(reply) || failures > patience.retries()) {
            throw errors.of(reply, repo, commit, file.path());
        }
        http.pause(failures, reply);
    }

    /** The checksum that the listing gives, of what is on the disk. */
    private String checksum(Path part) throws IOException {
        MessageDigest digest = digest(file.sha256().isEmpty() ? "SHA-1" : "SHA-256");
        if (file.sha256().isEmpty()) {
            digest.update(("blob " + file.size() + "\0").getBytes(StandardCharsets.US_ASCII));
        }
        byte[] chunk = new byte[CHUNK];
        try (InputStream in = Files.newInputStream(part)) {
            for (int n = in.read(chunk); n >= 0; n = in.read(chunk)) {
                digest.update(chunk, 0, n);
            }
        }
        return HexFormat.of().formatHex(digest.digest());
    }

    static MessageDigest digest(String algorithm) {
        try {
            return MessageDigest.getInstance(algorithm);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every JDK has " + algorithm, e);
        }
    }

    private HubException notWritten(IOException e) {
        String reason = e instanceof FileSystemException f && f.getReason() != null ? f.getReason() : e.getMessage();
        return new HubException(
                "cannot write " + file.path() + " of " + repo + " below " + cache.root() + ": "
                        + Text.oneLine(String.valueOf(reason))
                        + "; free some space there, or set HF_HUB_CACHE to a folder that can be written to",
                e);
    }

    /** The disk's failure, not the network's: trying again does not help. */
    private static final class LocalFailure extends IOException {
        private static final long serialVersionUID = 1;

        LocalFailure(IOException cause) {
            super(cause);
        }

        IOException cause() {
            return (IOException) getCause();
        }
    }

    /** Appends what arrives to the unfinished file. */
    private final class Part implements Http.Sink {
        private final FileChannel out;
        private final long have;

        Part(FileChannel out, long have) {
            this.out = out;
            this.have = have;
        }

        @Override
        public void begin(int status, HttpHeaders headers) throws IOException {
            String encoding = headers.firstValue("content-encoding").orElse("identity");
            if (!encoding.equals("identity")) {
                throw new HubException(Text.shown(uri) + " sends the file in the encoding " + Text.oneLine(encoding)
                        + ", which was not asked for; is there a proxy in between?");
            }
            if (status == 206) {
                Matcher range =
                        RANGE.matcher(headers.firstValue("content-range").orElse(""));
                if (!range.matches() || Long.parseLong(range.group(1)) != have) {
                    truncate(); // so that the next run does not ask for a range
                    throw new HubException(Text.shown(uri) + " was asked for the bytes from " + have + " and sends \""
                            + Text.oneLine(headers.firstValue("content-range").orElse(""))
                            + "\"; run again, to begin anew");
                }
            } else if (have > 0) { // the server begins anew
                truncate();
            }
        }

        private void truncate() throws IOException {
            try {
                meter.add(-have);
                out.truncate(0);
                out.position(0);
            } catch (IOException e) {
                throw new LocalFailure(e);
            }
        }

        @Override
        public void write(ByteBuffer bytes) throws IOException {
            int n = bytes.remaining();
            try {
                if (out.position() + n > file.size()) {
                    throw new HubException(Text.shown(uri) + " sends more than the " + file.size() + " bytes that "
                            + file.path() + " has");
                }
                while (bytes.hasRemaining()) {
                    out.write(bytes);
                }
            } catch (IOException e) {
                throw new LocalFailure(e);
            }
            meter.add(n);
        }
    }
}
