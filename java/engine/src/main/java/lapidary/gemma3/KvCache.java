package lapidary.gemma3;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * The rotated keys and values of the tokens that a decoder has read of one sequence. Global layers keep all of them, sliding
 * layers a ring of the window's length and a little more, so that the last few tokens can be taken back. Memory grows with
 * the sequence, by doubling: how much it is depends on the number of tokens alone. Owns a frame inside the model's; to be
 * closed before the model.
 */
public final class KvCache implements AutoCloseable {
    /** Tokens beyond the window that a ring keeps: how many may be taken back. */
    private static final int SLACK = 256;

    private static final int FIRST_CAPACITY = 64; // tokens

    private final Gemma3Config.Text config;
    private final Frame model;
    private final Frame frame;
    private final DType dtype;
    private final long width; // kvHeads * headDim
    private final List<Layer> layers = new ArrayList<>();
    private int length;

    /** What a layer keeps. Position p lies at p % capacity; the capacity of a ring that has come round no longer grows. */
    private static final class Layer {
        private final int window; // 0 for none
        private Tensor keys = Tensor.NONE; // [capacity, kvHeads * headDim]
        private Tensor values = Tensor.NONE;
        private int lost; // positions before it have been overwritten, for good where later ones were taken back

        Layer(int window) {
            this.window = window;
        }

        long capacity() {
            return keys.isNone() ? 0 : keys.rows();
        }

        /** The first position that the token at {@code position} sees. */
        int firstSeenFrom(int position) {
            return window == 0 ? 0 : Math.max(0, position - window + 1);
        }
    }

    KvCache(Gemma3Config.Text config, DType dtype, Frame model) {
        this.config = config;
        this.model = model;
        this.frame = model.lastingChild("cache");
        this.dtype = dtype;
        this.width = (long) config.numKeyValueHeads() * config.headDim();
        for (boolean global : config.globalLayer()) {
            layers.add(new Layer(global ? 0 : config.slidingWindow()));
        }
    }

    /** Tokens that it holds. */
    public int length() {
        return length;
    }

    /** Of the device's memory, room for further tokens included. */
    public long bytes() {
        return layers.stream()
                .mapToLong(layer -> layer.keys.bytes() + layer.values.bytes())
                .sum();
    }

    /**
     * Forgets all tokens from {@code to} on, where what comes before them is still held.
     *
     * @return whether it was; if not, nothing has changed
     */
    public boolean truncate(int to) {
        if (!holds(to)) {
            return false;
        }
        length = to;
        return true;
    }

    /** Whether it has all that the token after the first {@code to} sees of them; else it has been overwritten. */
    private boolean holds(int to) {
        if (to < 0 || to > length) {
            throw new IllegalArgumentException("[cache] " + to + " of " + length + " tokens");
        }
        return layers.stream().allMatch(layer -> layer.lost <= layer.firstSeenFrom(to));
    }

    /**
     * A cache of its own, to be closed as this one, with the first {@code tokens} tokens.
     *
     * @return null where what comes before them is no longer held
     */
    public KvCache copy(int tokens) {
        if (!holds(tokens)) {
            return null;
        }
        KvCache copy = new KvCache(config, dtype, model);
        try {
            copy.fill(this, tokens);
        } catch (RuntimeException e) {
            copy.close(); // no memory for the rest of it
            throw e;
        }
        return copy;
    }

    private void fill(KvCache source, int tokens) {
        for (int i = 0; i < layers.size(); i++) {
            Layer from = source.layers.get(i);
            Layer to = layers.get(i);
            // In a ring that has come round each position keeps its place.
            int rows = from.lost > 0 ? (int) from.capacity() : tokens;
            if (rows > 0) {
                reserve(to, rows);
                copy(to.keys.slice(0, rows), from.keys.slice(0, rows));
                copy(to.values.slice(0, rows), from.values.slice(0, rows));
            }
            to.lost = from.lost;
        }
        length = tokens;
    }

    @Override
    public void close() {
        frame.close();
    }

    /**
     * Has memory for one more token, which {@link Gemma3#decode} would otherwise ask for, layer by layer.
     *
     * @throws lapidary.device.DeviceException where there is none, and this cache is of no more use
     */
    public void makeRoom() {
        layers.forEach(layer -> reserve(layer, length + 1));
    }

    /** Reads {@code tokens} more. */
    void advance(int tokens) {
        length += tokens;
    }

    /**
     * Attention of a sequence's next tokens, which are then cached.
     *
     * @param spans I32 [tokens] of the new ones, or {@link Tensor#NONE}; an image is whole among them
     */
    Gemma3Decoder.Attends reading(Tensor spans) {
        return (tape, number, q, k, v, shape) -> {
            Layer layer = layers.get(number);
            Tensor y = tape.frame().emptyLike(q);
            int tokens = (int) q.rows();
            int from = layer.firstSeenFrom(length); // by the first of the new tokens
            if (from == length) {
                tape.frame().kernels().attentionExtend(y, q, k, v, spans, shape);
                append(layer, k, v);
                return y;
            }
            try (Frame scratch = tape.frame().child("history")) {
                int history = length - from;
                Tensor allKeys = scratch.empty(dtype, history + tokens, width);
                Tensor allValues = scratch.empty(dtype, history + tokens, width);
                copyOut(layer, from, allKeys.slice(0, history), allValues.slice(0, history));
                copy(allKeys.slice(history, history + tokens), k);
                copy(allValues.slice(history, history + tokens), v);
                Tensor allSpans = spans.isNone() ? spans : behindText(scratch, history, spans);
                scratch.kernels().attentionExtend(y, q, allKeys, allValues, allSpans, shape);
            }
            append(layer, k, v);
            return y;
        };
    }

    /** Attention of one next token of each sequence, which is then cached. */
    static Gemma3Decoder.Attends decoding(List<KvCache> caches) {
        long[] positions = caches.stream().mapToLong(KvCache::length).toArray();
        return (tape, number, q, k, v, shape) -> {
            List<Tensor> keys = new ArrayList<>();
            List<Tensor> values = new ArrayList<>();
            for (KvCache cache : caches) {
                Layer layer = cache.layers.get(number);
                cache.reserve(layer, cache.length + 1);
                keys.add(layer.keys);
                values.add(layer.values);
            }
            Tensor y = tape.frame().emptyLike(q);
            tape.frame().kernels().attentionDecode(y, keys, values, positions, q, k, v, shape);
            return y;
        };
    }

    private static Tensor behindText(Frame frame, int history, Tensor spans) {
        int[] fresh = spans.toInts();
        int[] all = new int[history + fresh.length];
        Arrays.fill(all, 0, history, -1); // an image of the past is not the new tokens'
        System.arraycopy(fresh, 0, all, history, fresh.length);
        return frame.of(all, all.length);
    }

    /** Makes room for {@code tokens} in all; what is held stays in its place, as a ring that has come round is at its limit. */
    private void reserve(Layer layer, int tokens) {
        int limit = layer.window == 0 ? Integer.MAX_VALUE : layer.window + SLACK;
        int needed = Math.min(tokens, limit);
        if (layer.capacity() < needed) {
            long doubled =
                    Math.max(FIRST_CAPACITY, Long.highestOneBit(2L * needed - 1)); // a power of two, needed or more
            long capacity = Math.min(limit, doubled);
            layer.keys = grown(layer.keys, capacity);
            layer.values = grown(layer.values, capacity);
        }
        layer.lost = Math.max(layer.lost, tokens - (int) layer.capacity());
    }

    private Tensor grown(Tensor before, long capacity) {
        Tensor after = frame.empty(dtype, capacity, width);
        if (!before.isNone()) {
            copy(after.slice(0, before.rows()), before);
            frame.release(before);
        }
        return after;
    }

    /** Of more new tokens than a ring holds, the last ones. */
    private void append(Layer layer, Tensor k, Tensor v) {
        int tokens = (int) k.rows();
        reserve(layer, length + tokens);
        for (int i = (int) Math.max(0, tokens - layer.capacity()); i < tokens; ) {
            long row = (length + i) % layer.capacity();
            long n = Math.min(tokens - i, layer.capacity() - row);
            copy(layer.keys.slice(row, row + n), k.slice(i, i + n));
            copy(layer.values.slice(row, row + n), v.slice(i, i + n));
            i += (int) n;
        }
    }

    /** Positions from {@code from} on, as many as the tensors have rows. */
    private void copyOut(Layer layer, int from, Tensor keys, Tensor values) {
        for (long i = 0; i < keys.rows(); ) {
            long row = (from + i) % layer.capacity();
            long n = Math.min(keys.rows() - i, layer.capacity() - row);
            copy(keys.slice(i, i + n), layer.keys.slice(row, row + n));
            copy(values.slice(i, i + n), layer.values.slice(row, row + n));
            i += n;
        }
    }

    private void copy(Tensor to, Tensor from) {
        frame.kernels().convert(to, from, 1);
    }
}
