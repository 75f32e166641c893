package lapidary.tokenizer;

import java.util.Arrays;

/** A growing list of ids. */
final class Ids {
    private int[] ids;
    private int count;

    Ids(int capacity) {
        ids = new int[Math.max(capacity, 8)];
    }

    void add(int id) {
        if (count == ids.length) {
            ids = Arrays.copyOf(ids, 2 * count);
        }
        ids[count++] = id;
    }

    void add(int[] more, int from, int to) {
        int n = to - from;
        if (count + n > ids.length) {
            ids = Arrays.copyOf(ids, Math.max(2 * ids.length, count + n));
        }
        System.arraycopy(more, from, ids, count, n);
        count += n;
    }

    int[] toArray() {
        return Arrays.copyOf(ids, count);
    }
}
