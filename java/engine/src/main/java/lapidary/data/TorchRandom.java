package lapidary.data;

/**
 * The random numbers of torch's CPU generator: MT19937, seeded as {@code torch.Generator().manual_seed(seed)}.
 *
 * @see <a href="http://www.math.sci.hiroshima-u.ac.jp/m-mat/MT/MT2002/emt19937ar.html">Matsumoto and Nishimura, MT19937</a>
 */
public final class TorchRandom {
    private static final int N = 624;
    private static final int M = 397;

    private final int[] state = new int[N];
    private int next = N;

    /** Only the low 32 bits of {@code seed} count, as in torch. */
    public TorchRandom(long seed) {
        state[0] = (int) seed;
        for (int i = 1; i < N; i++) {
            state[i] = 1812433253 * (state[i - 1] ^ (state[i - 1] >>> 30)) + i;
        }
    }

    /** The next 32 random bits. */
    public int nextInt() {
        if (next == N) {
            twist();
        }
        int y = state[next++];
        y ^= y >>> 11;
        y ^= (y << 7) & 0x9d2c5680;
        y ^= (y << 15) & 0xefc60000;
        return y ^ (y >>> 18);
    }

    private void twist() {
        for (int i = 0; i < N; i++) {
            int y = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff);
            state[i] = state[(i + M) % N] ^ (y >>> 1) ^ ((y & 1) == 0 ? 0 : 0x9908b0df);
        }
        next = 0;
    }

    /** {@code torch.randperm(n)} of a fresh generator with this seed: the order in which the reference visits {@code n} rows. */
    public static int[] randperm(int n, long seed) {
        if (n < 0) {
            throw new IllegalArgumentException("randperm of " + n + ", expected 0 or more");
        }
        TorchRandom random = new TorchRandom(seed);
        int[] out = new int[n];
        for (int i = 0; i < n; i++) {
            out[i] = i;
        }
        for (int i = 0; i < n - 1; i++) {
            int with = i + Integer.remainderUnsigned(random.nextInt(), n - i);
            int kept = out[i];
            out[i] = out[with];
            out[with] = kept;
        }
        return out;
    }
}
