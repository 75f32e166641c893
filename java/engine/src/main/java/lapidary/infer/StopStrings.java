package lapidary.infer;

import java.util.List;

/** Text on its way out: what might be the beginning of a stop string is held back until it is clear that it is not. */
final class StopStrings {
    private final List<String> stops;
    private final StringBuilder held = new StringBuilder();
    private boolean reached;

    StopStrings(List<String> stops) {
        this.stops = stops;
    }

    /** Whether there is nothing to stop at. */
    boolean isEmpty() {
        return stops.isEmpty();
    }

    /** What may be shown now that {@code piece} has come; after the end of a stop string, nothing more. */
    String add(String piece) {
        if (reached) {
            return "";
        }
        held.append(piece);
        int first = held.length();
        for (String stop : stops) {
            int at = held.indexOf(stop);
            if (at >= 0 && at < first) {
                first = at;
                reached = true;
            }
        }
        return take(reached ? first : held.length() - longestBeginning());
    }

    /** Whether a stop string would be complete if {@code piece} came; it is not taken. */
    boolean isIn(String piece) {
        return !piece.isEmpty() && stops.stream().anyMatch(stop -> (held + piece).contains(stop));
    }

    /** What is still held back, once no more text comes. */
    String end() {
        return reached ? "" : take(held.length());
    }

    boolean isReached() {
        return reached;
    }

    /** Length of the longest end of the held text that begins a stop string. */
    private int longestBeginning() {
        int longest = 0;
        for (String stop : stops) {
            for (int n = Math.min(stop.length() - 1, held.length()); n > longest; n--) {
                if (stop.startsWith(held.substring(held.length() - n))) {
                    longest = n;
                }
            }
        }
        return longest;
    }

    private String take(int n) {
        String text = held.substring(0, n);
        held.delete(0, n);
        return text;
    }
}
