package lapidary.infer;

import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import lapidary.gemma3.KvCache;

/**
 * What finished requests have read, for requests that begin alike: the next turn of a chat, or another question about the same
 * picture. The least recently used goes. A cache serves one request at a time, and one that holds much else is copied, so
 * that a chat does not lose what it has read to another that begins with the same words. Once as many have been kept as may be,
 * so many are: what they take depends on the last requests alone, not on how many there were. They never take more than the
 * given bytes together.
 */
final class Prefixes implements AutoCloseable {
    /** @param read the tokens that the cache holds, with their pictures */
    private record Kept(Adapter adapter, Prompt read, KvCache cache) {}

    /** Tokens; fewer, such as the four with which the template begins every prompt, are read again. */
    private static final int WORTH_COPYING = 16;

    /** A cache is copied where it would lose more than one in so many of the common tokens. */
    private static final int LITTLE = 8;

    private final int limit;
    private final long maxBytes;
    private final Deque<Kept> kept = new ArrayDeque<>(); // the most recently used first

    /**
     * @param limit how many are kept at most
     * @param maxBytes of the device's memory, all together
     */
    Prefixes(int limit, long maxBytes) {
        this.limit = limit;
        this.maxBytes = maxBytes;
    }

    /** A cache with the longest beginning of a sequence's prompt, and no more; null where none has one that is worth it. */
    KvCache take(Sequence sequence) {
        Kept best = null;
        int longest = 0;
        for (Kept candidate : kept) {
            if (candidate.adapter() == sequence.adapter()) {
                int common = sequence.prompt().commonWith(candidate.read());
                // The last token is read again: its logits are what the answer begins with.
                common = sequence.prompt()
                        .outsideImages(Math.min(common, sequence.prompt().tokens() - 1));
                if (common > longest) {
                    best = candidate;
                    longest = common;
                }
            }
        }
        if (best == null) {
            return null;
        }
        boolean holdsLittleElse = (best.read().tokens() - longest) * LITTLE <= longest;
        if (!holdsLittleElse) {
            return longest < WORTH_COPYING ? null : best.cache().copy(longest);
        }
        if (!best.cache().truncate(longest)) {
            return null;
        }
        kept.remove(best);
        return best.cache();
    }

    /** Takes over the cache of a sequence that is over. */
    void keep(Sequence sequence, KvCache cache) {
        if (cache.bytes() > maxBytes) { // it would push out all others, and then itself
            cache.close();
            return;
        }
        Prompt prompt = sequence.prompt();
        int tokens = cache.length();
        int[] ids = Arrays.copyOf(prompt.ids(), tokens);
        for (int t = prompt.tokens(); t < tokens; t++) {
            ids[t] = sequence.tokenIds().get(t - prompt.tokens());
        }
        kept.push(new Kept(
                sequence.adapter(), new Prompt(ids, Arrays.copyOf(prompt.types(), tokens), prompt.pixels()), cache));
        long bytes = kept.stream().mapToLong(entry -> entry.cache().bytes()).sum();
        while (kept.size() > limit || bytes > maxBytes) {
            KvCache oldest = kept.removeLast().cache();
            bytes -= oldest.bytes();
            oldest.close();
        }
    }

    /** Frees what was read with an adapter. */
    void forget(Adapter adapter) {
        kept.removeIf(entry -> {
            if (entry.adapter() == adapter) {
                entry.cache().close();
                return true;
            }
            return false;
        });
    }

    @Override
    public void close() {
        kept.forEach(entry -> entry.cache().close());
        kept.clear();
    }
}
