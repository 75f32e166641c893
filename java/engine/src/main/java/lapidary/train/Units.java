package lapidary.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.TreeMap;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import lapidary.data.Samples;
import lapidary.format.FormatException;

/**
 * What a batch counts: rows of the data set, or with {@code --packing} sets of rows that together fill {@code --max_length}.
 *
 * @param rows of each unit, numbers of the data set's rows
 * @param checked what a look at every row has found, or null where there was none yet
 */
record Units(int[][] rows, Checked checked) {
    private static final int NAMED = 8; // rows that a notice names

    boolean isChecked() {
        return checked != null;
    }

    int size() {
        return rows.length;
    }

    /** Every row a unit; none has been looked at. */
    static Units all(int rows) {
        return new Units(
                IntStream.range(0, rows).mapToObj(row -> new int[] {row}).toArray(int[][]::new), null);
    }

    /**
     * The units of a run. Where rows may be left out, or are packed, this looks at all of them first.
     *
     * @throws FormatException a row is bad and may not be left out, or none is left
     */
    static Units of(
            SftConfig config, int rows, Supplier<Samples> samples, CheckCache.Place place, TrainingListener listener) {
        return of(
                config,
                new Use(config.datasetName(), "rows", "train", config.packing()),
                rows,
                samples,
                place,
                listener);
    }

    /** The same of held-out rows, which are never packed. */
    static Units heldOut(
            SftConfig config, int rows, Supplier<Samples> samples, CheckCache.Place place, TrainingListener listener) {
        EvalOptions evaluation = config.evaluation();
        String data = evaluation.dataset().isEmpty()
                ? config.datasetName() + ", split " + evaluation.split()
                : evaluation.dataset();
        return of(config, new Use(data, "held-out rows", "evaluate", false), rows, samples, place, listener);
    }

    /** What rows are for; {@code data}, {@code rows} and {@code verb} are words for messages. */
    private record Use(String data, String rows, String verb, boolean packing) {}

    private static Units of(
            SftConfig config,
            Use use,
            int rows,
            Supplier<Samples> samples,
            CheckCache.Place place,
            TrainingListener listener) {
        if (!use.packing() && !config.data().mayDrop()) {
            return all(rows);
        }
        Checked checked = Checked.look(
                samples.get(),
                config.data().dropBad(),
                Runtime.getRuntime().availableProcessors(),
                () -> true,
                done -> listener.onCheck(done, rows),
                place);
        tell("bad", rows, use, checked.bad(), listener);
        tell("too long", rows, use, checked.tooLong(), listener);
        if (checked.accepted().length == 0) {
            throw new FormatException(
                    use.data() + ": none of its " + checked.rows() + " rows is left to " + use.verb() + " on");
        }
        return new Units(sets(config, use.packing(), checked.accepted(), checked.tokens()), checked);
    }

    private static void tell(String what, int rows, Use use, List<Integer> which, TrainingListener listener) {
        if (!which.isEmpty()) {
            listener.onNotice(String.format(
                    Locale.ROOT,
                    "%,d of %,d %s are %s and left out: %s%s (engine check says why)",
                    which.size(),
                    rows,
                    use.rows(),
                    what,
                    which.subList(0, Math.min(NAMED, which.size())),
                    which.size() > NAMED ? " and more" : ""));
        }
    }

    /**
     * What is trained on together: each row by itself, or packed.
     *
     * @param tokens of each of the rows
     */
    static int[][] sets(SftConfig config, boolean packing, int[] rows, int[] tokens) {
        return packing
                ? pack(rows, tokens, config.data().maxLength())
                : Arrays.stream(rows).mapToObj(row -> new int[] {row}).toArray(int[][]::new);
    }

    /**
     * Sets of rows of at most {@code capacity} tokens: the longest row first, each into the fullest set that has room for it.
     *
     * @see <a href="https://arxiv.org/abs/2404.10830">Fewer truncations improve language modeling</a>: best-fit-decreasing
     */
    static int[][] pack(int[] rows, int[] tokens, int capacity) {
        List<Integer> order =
                new ArrayList<>(IntStream.range(0, rows.length).boxed().toList());
        order.sort(Comparator.comparing((Integer i) -> -tokens[i])); // stable: equal ones stay in the order of the data
        List<List<Integer>> sets = new ArrayList<>();
        TreeMap<Integer, List<List<Integer>>> byRoom = new TreeMap<>(); // those with so many tokens of room
        for (int i : order) {
            var fullest = byRoom.ceilingEntry(tokens[i]);
            List<Integer> set;
            int room = capacity;
            if (fullest == null) {
                set = new ArrayList<>();
                sets.add(set);
            } else {
                room = fullest.getKey();
                set = fullest.getValue().removeFirst();
                if (fullest.getValue().isEmpty()) {
                    byRoom.remove(room);
                }
            }
            set.add(rows[i]);
            byRoom.computeIfAbsent(room - tokens[i], key -> new ArrayList<>()).add(set);
        }
        return sets.stream()
                .map(set -> set.stream().mapToInt(row -> row).sorted().toArray())
                .sorted(Comparator.comparing((int[] set) -> set[0]))
                .toArray(int[][]::new);
    }
}
