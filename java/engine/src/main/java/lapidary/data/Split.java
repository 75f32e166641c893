package lapidary.data;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A split and which of its rows, as Hugging Face's datasets writes it: {@code train}, {@code train[:1000]},
 * {@code train[10%:]}, {@code train[-100:]}, {@code train[20%:40%]}.
 *
 * <p>A share of the rows is rounded to the nearest whole number, halves to the even one. Bounds below 0 count from the end, and
 * bounds beyond an end are that end.
 *
 * @param name the split
 * @param from first row, or percent, or {@link #OPEN}
 * @param to behind the last, or {@link #OPEN}
 * @param percent whether the bounds are shares
 * @see <a href="https://huggingface.co/docs/datasets/loading#slice-splits">Slice splits</a>
 */
public record Split(String name, long from, long to, boolean percent) {
    /** No bound. */
    static final long OPEN = Long.MIN_VALUE;

    private static final Pattern SLICE =
            Pattern.compile("([^\\[\\]+]+)\\[(?:(-?[\\d_]{1,15})(%)?)?:(?:(-?[\\d_]{1,15})(%)?)?]");

    /**
     * @throws IllegalArgumentException it is neither a name nor a name with a slice
     */
    public static Split parse(String text) {
        Matcher slice = SLICE.matcher(text);
        if (!slice.matches()) {
            if (text.isBlank() || text.matches(".*[\\[\\]+%()].*")) {
                throw wrong(text);
            }
            return new Split(text, OPEN, OPEN, false);
        }
        boolean percent = slice.group(3) != null || slice.group(5) != null;
        long from = bound(slice.group(2), text);
        long to = bound(slice.group(4), text);
        boolean mixed = percent && (from != OPEN && slice.group(3) == null || to != OPEN && slice.group(5) == null);
        boolean beyond = percent && (from != OPEN && Math.abs(from) > 100 || to != OPEN && Math.abs(to) > 100);
        if (mixed || beyond) {
            throw wrong(text);
        }
        return new Split(slice.group(1), from, to, percent);
    }

    private static long bound(String digits, String text) {
        if (digits == null) {
            return OPEN;
        }
        try {
            return Long.parseLong(digits.replace("_", ""));
        } catch (NumberFormatException e) {
            throw wrong(text);
        }
    }

    private static IllegalArgumentException wrong(String text) {
        return new IllegalArgumentException("split is \"" + text
                + "\", expected a name, alone or with a slice like train[:1000], train[10%:] or train[10%:20%]");
    }

    /** Whether it is all of the split. */
    public boolean isWhole() {
        return from == OPEN && to == OPEN;
    }

    /** The same rows of a split of another name. */
    public Split named(String other) {
        return new Split(other, from, to, percent);
    }

    /** First row of {@code rows}. */
    int first(int rows) {
        return from == OPEN ? 0 : row(from, rows);
    }

    /** Behind the last row of {@code rows}. */
    int end(int rows) {
        return to == OPEN ? rows : row(to, rows);
    }

    private int row(long bound, int rows) {
        long at = percent ? (long) Math.rint(bound * (double) rows / 100) : bound;
        return (int) Math.min(at < 0 ? Math.max(rows + at, 0) : at, rows);
    }

    @Override
    public String toString() {
        String unit = percent ? "%" : "";
        return isWhole()
                ? name
                : name + "[" + (from == OPEN ? "" : from + unit) + ":" + (to == OPEN ? "" : to + unit) + "]";
    }
}
