package lapidary.data;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.CancellationException;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import lapidary.format.FormatException;
import lapidary.image.ImageSource;

/**
 * A look at every row before anything depends on it: each is read, tokenised, and its pictures decoded, on several threads.
 * What is found is the same whatever their number. Some 60 bytes of heap a row are kept.
 */
public final class Preflight {
    private Preflight() {}

    /** Hears of rows in their order, on the thread that runs the look. */
    public interface Listener {
        Listener SILENT = new Listener() {};

        /** A row that is trained on. */
        default void onSample(int row, Samples.Loaded sample) {}

        /** A row that is no good. */
        default void onBad(Bad bad) {}

        /** So many rows are done. */
        default void onProgress(int done, int rows) {}
    }

    /** A row that cannot be trained on, and why, in a line that names file and record. */
    public record Bad(int row, String reason) {}

    /** A row that was longer than allowed; {@code kept} of its tokens are trained on, 0 where it was dropped. */
    public record Overlong(int row, int tokens, int kept) {}

    /** A row that has the words and pictures of an earlier one. */
    public record Duplicate(int row, int of) {}

    /**
     * What was found.
     *
     * @param rows all that were looked at
     * @param accepted rows that are trained on, ascending
     * @param tokens of each accepted row
     * @param targets of each accepted row: labels that count
     * @param pictures of each accepted row
     * @param views of each accepted row: what the model sees of its pictures
     * @param vocabulary different tokens that the accepted rows have together
     * @param sizes how many pictures there are of each size, the most frequent first
     * @param overlong dropped or cut rows
     * @param unanswered accepted rows that do not end with what the model says
     * @param duplicates among accepted rows
     */
    public record Findings(
            int rows,
            int[] accepted,
            int[] tokens,
            int[] targets,
            int[] pictures,
            int[] views,
            int vocabulary,
            Map<Samples.Size, Integer> sizes,
            List<Bad> bad,
            List<Overlong> overlong,
            List<Integer> unanswered,
            List<Duplicate> duplicates) {
        public long allTokens() {
            return Arrays.stream(tokens).asLongStream().sum();
        }

        public long allTargets() {
            return Arrays.stream(targets).asLongStream().sum();
        }

        public long allPictures() {
            return Arrays.stream(pictures).asLongStream().sum();
        }

        /** Rows that were too long and are left out. */
        public int dropped() {
            return (int) overlong.stream().filter(each -> each.kept() == 0).count();
        }

        /** Tokens of the accepted row of which {@code percent} of them are no longer. */
        public int length(double percent) {
            int[] sorted = tokens.clone();
            Arrays.sort(sorted);
            int rank = (int) Math.ceil(percent / 100 * sorted.length);
            return sorted.length == 0 ? 0 : sorted[Math.max(0, rank - 1)];
        }

        /**
         * Share of the places in padded batches that would hold padding, rows in their order. What is trained is packed, and has
         * none of it.
         */
        public double paddingWaste(int batchSize) {
            long places = 0;
            for (int from = 0; from < tokens.length; from += batchSize) {
                int to = Math.min(tokens.length, from + batchSize);
                places += (long) (to - from)
                        * IntStream.range(from, to).map(i -> tokens[i]).max().orElse(0);
            }
            return places == 0 ? 0 : 1 - (double) allTokens() / places;
        }
    }

    /** What one row came to: what it loaded, or why it is bad. */
    private record Result(int row, Optional<Samples.Loaded> loaded, long hash, String bad) {}

    /**
     * Looks at every row.
     *
     * @param withPixels whether {@link Listener#onSample} gets the views that the model sees
     * @param threads how many rows are worked on at a time
     * @param wanted asked at each row; false ends the work
     * @throws CancellationException it was not wanted any more
     */
    public static Findings run(
            Samples samples, boolean withPixels, int threads, BooleanSupplier wanted, Listener listener) {
        Tally tally = new Tally(samples.size(), samples.processor().imageSeqLength());
        int ahead = withPixels ? 2 * threads : 16 * threads;
        try (Prefetch<Integer, Result> results = new Prefetch<>(
                IntStream.range(0, samples.size()).iterator(), row -> look(samples, row, withPixels), threads, ahead)) {
            while (results.hasNext()) {
                if (!wanted.getAsBoolean()) {
                    throw new CancellationException("the rows were not wanted any more");
                }
                tally.add(results.next(), listener);
            }
        }
        return tally.findings();
    }

    private static Result look(Samples samples, int row, boolean withPixels) {
        try {
            Samples.Loaded loaded = samples.load(row, withPixels);
            return new Result(row, Optional.of(loaded), loaded.isDropped() ? 0 : hash(loaded.sample()), "");
        } catch (FormatException e) {
            return new Result(row, Optional.empty(), 0, e.getMessage());
        }
    }

    /** Of words and encoded pictures. */
    private static long hash(Sample sample) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            ByteBuffer ids = ByteBuffer.allocate(4 * sample.inputIds().length);
            ids.asIntBuffer().put(sample.inputIds());
            digest.update(ids);
            for (ImageSource image : sample.images()) {
                byte[] bytes = image.bytes();
                digest.update(ByteBuffer.allocate(4).putInt(0, bytes.length));
                digest.update(bytes);
            }
            return ByteBuffer.wrap(digest.digest()).getLong();
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has SHA-256", e);
        } catch (IOException e) {
            throw new FormatException(sample.id() + ": cannot read a picture again: " + e.getMessage(), e);
        }
    }

    /** Adds up results in the order of the rows. */
    private static final class Tally {
        private final int rows;
        private final int[] accepted;
        private final int[] tokens;
        private final int[] targets;
        private final int[] pictures;
        private final int[] views;
        private final BitSet vocabulary = new BitSet();
        private final int imageSeqLength;
        private final long[] hashes;
        private int count;
        private final Map<Samples.Size, Integer> sizes = new HashMap<>();
        private final List<Bad> bad = new ArrayList<>();
        private final List<Overlong> overlong = new ArrayList<>();
        private final List<Integer> unanswered = new ArrayList<>();

        Tally(int rows, int imageSeqLength) {
            this.rows = rows;
            this.imageSeqLength = imageSeqLength;
            views = new int[rows];
            accepted = new int[rows];
            tokens = new int[rows];
            targets = new int[rows];
            pictures = new int[rows];
            hashes = new long[rows];
        }

        void add(Result result, Listener listener) {
            if (result.loaded().isPresent()) {
                add(result.row(), result.loaded().get(), result.hash(), listener);
            } else {
                bad.add(new Bad(result.row(), result.bad()));
                listener.onBad(bad.getLast());
            }
            listener.onProgress(result.row() + 1, rows);
        }

        private void add(int row, Samples.Loaded loaded, long hash, Listener listener) {
            int kept = loaded.isDropped() ? 0 : loaded.sample().inputIds().length;
            if (kept < loaded.tokens()) {
                overlong.add(new Overlong(row, loaded.tokens(), kept));
            }
            if (loaded.isDropped()) {
                return;
            }
            if (!loaded.endsWithAnswer()) {
                unanswered.add(row);
            }
            accepted[count] = row;
            tokens[count] = kept;
            targets[count] = loaded.sample().targets();
            pictures[count] = loaded.pictures().size();
            views[count] = views(loaded.sample());
            for (int id : loaded.sample().inputIds()) {
                vocabulary.set(id);
            }
            hashes[count++] = hash;
            loaded.pictures().forEach(size -> sizes.merge(size, 1, Integer::sum));
            listener.onSample(row, loaded);
        }

        private int views(Sample sample) {
            int soft = Arrays.stream(sample.tokenTypeIds()).sum();
            return soft == 0 ? 0 : soft / imageSeqLength;
        }

        Findings findings() {
            Map<Samples.Size, Integer> byCount = new LinkedHashMap<>();
            sizes.entrySet().stream()
                    .sorted(Map.Entry.<Samples.Size, Integer>comparingByValue()
                            .reversed()
                            .thenComparing(each -> each.getKey().toString()))
                    .forEach(each -> byCount.put(each.getKey(), each.getValue()));
            return new Findings(
                    rows,
                    Arrays.copyOf(accepted, count),
                    Arrays.copyOf(tokens, count),
                    Arrays.copyOf(targets, count),
                    Arrays.copyOf(pictures, count),
                    Arrays.copyOf(views, count),
                    vocabulary.cardinality(),
                    byCount,
                    List.copyOf(bad),
                    List.copyOf(overlong),
                    List.copyOf(unanswered),
                    duplicates());
        }

        private List<Duplicate> duplicates() {
            long[] sorted = Arrays.copyOf(hashes, count);
            Arrays.sort(sorted);
            Map<Long, Integer> twice = new TreeMap<>();
            for (int i = 1; i < count; i++) {
                if (sorted[i] == sorted[i - 1]) {
                    twice.put(sorted[i], -1);
                }
            }
            List<Duplicate> found = new ArrayList<>();
            for (int i = 0; i < count && !twice.isEmpty(); i++) {
                Integer first = twice.get(hashes[i]);
                if (first != null && first < 0) {
                    twice.put(hashes[i], accepted[i]);
                } else if (first != null) {
                    found.add(new Duplicate(accepted[i], first));
                }
            }
            return found;
        }
    }
}
