package lapidary.op;

/**
 * Philox4x32-10 by the paper's description, with 64-bit arithmetic: the oracle for masks of dropout.
 *
 * @see <a href="https://doi.org/10.1145/2063384.2063405">Parallel random numbers: as easy as 1, 2, 3</a>
 */
final class Philox {
    private static final long[] MULTIPLIER = {0xD2511F53L, 0xCD9E8D57L};
    private static final int[] WEYL = {0x9E3779B9, 0xBB67AE85};

    private Philox() {}

    /** Four words of a counter of four words and a key of two. */
    static int[] draw(int[] counter, int[] key) {
        int[] c = counter.clone();
        for (int round = 0; round < 10; round++) {
            long left = MULTIPLIER[0] * Integer.toUnsignedLong(c[0]);
            long right = MULTIPLIER[1] * Integer.toUnsignedLong(c[2]);
            c = new int[] {
                (int) (right >>> 32) ^ c[1] ^ (key[0] + round * WEYL[0]),
                (int) right,
                (int) (left >>> 32) ^ c[3] ^ (key[1] + round * WEYL[1]),
                (int) left
            };
        }
        return c;
    }

    /** The 16 bits of element i as {@code kernels.h} lays counters out. */
    static int half(long i, long seed, long stream) {
        long group = i / 8;
        int[] counter = {(int) group, (int) (group >>> 32), (int) stream, (int) (stream >>> 32)};
        int word = draw(counter, new int[] {(int) seed, (int) (seed >>> 32)})[(int) (i % 8 / 2)];
        return (i % 2 == 0 ? word : word >>> 16) & 0xffff;
    }
}
