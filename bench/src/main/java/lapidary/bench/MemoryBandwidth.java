package lapidary.bench;

import java.util.Arrays;
import java.util.Locale;

/**
 * How fast this machine reads memory: {@code MemoryBandwidth [THREADS]}, two threads where none are named. Each compares two arrays
 * of 256 MiB that no cache holds, which the JVM does with the widest loads there are (a sum in a Java loop waits for its own
 * additions), again and again without waiting for the others: the figures are of two seconds and of the best fifth of a second
 * among them, in GB/s (10^9 bytes a second). {@code -XX:+UseTransparentHugePages} tells what huge pages allow.
 */
public final class MemoryBandwidth {
    private static final int LONGS = 32 << 20;

    private final long[][] memory;

    private MemoryBandwidth(int threads) {
        memory = new long[2 * threads][LONGS];
        for (long[] part : memory) {
            Arrays.fill(part, 3);
        }
    }

    /** @param threads that read at once */
    static MemoryBandwidth of(int threads) {
        return new MemoryBandwidth(threads);
    }

    public static void main(String[] args) throws InterruptedException {
        int threads = args.length > 0 ? Integer.parseInt(args[0]) : 2;
        MemoryBandwidth bandwidth = of(threads);
        double[] speeds = new double[10];
        for (int i = 0; i < speeds.length; i++) {
            speeds[i] = bandwidth.over(0.2);
        }
        System.out.printf(
                Locale.ROOT,
                "memory %.1f GB/s, at best %.1f GB/s, %d threads%n",
                Arrays.stream(speeds).average().orElseThrow() / 1e9,
                Arrays.stream(speeds).max().orElseThrow() / 1e9,
                threads);
    }

    /** Bytes a second, over about so many seconds. */
    double over(double seconds) throws InterruptedException {
        Thread[] readers = new Thread[memory.length / 2];
        double[] speeds = new double[readers.length];
        for (int t = 0; t < readers.length; t++) {
            int number = t;
            speeds[t] = Double.NaN; // what a thread that fails leaves
            readers[t] = Thread.ofPlatform().start(() -> speeds[number] = read(number, seconds));
        }
        for (Thread reader : readers) {
            reader.join();
        }
        return Arrays.stream(speeds).sum();
    }

    /** Bytes a second of one thread. */
    private double read(int number, double seconds) {
        long begun = System.nanoTime();
        long rounds = 0;
        double taken = 0;
        for (; taken < seconds; rounds++) {
            if (!Arrays.equals(memory[2 * number], memory[2 * number + 1])) {
                throw new IllegalStateException("memory was not read whole"); // or the loop would be dropped
            }
            taken = (System.nanoTime() - begun) / 1e9;
        }
        return rounds * 2.0 * LONGS * Long.BYTES / taken;
    }
}
