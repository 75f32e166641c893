package lapidary.bench;

import java.util.Arrays;
import java.util.Locale;
import java.util.concurrent.CountDownLatch;

/**
 * How fast this machine reads memory: {@code MemoryBandwidth [THREADS]}, two threads where none are named. Each compares two arrays
 * of 256 MiB that no cache holds, which the JVM does with the widest loads there are (a sum in a Java loop waits for its own
 * additions); the figure is of the best of 15 rounds, in GB/s (10^9 bytes a second). {@code -XX:+UseTransparentHugePages} tells
 * what huge pages allow.
 */
public final class MemoryBandwidth {
    private static final int LONGS = 32 << 20;
    private static final int ROUNDS = 15;

    private MemoryBandwidth() {}

    public static void main(String[] args) throws InterruptedException {
        int threads = args.length > 0 ? Integer.parseInt(args[0]) : 2;
        long[][] memory = new long[2 * threads][LONGS];
        for (long[] part : memory) {
            Arrays.fill(part, 3);
        }
        double best = 0;
        for (int round = 0; round < ROUNDS; round++) {
            boolean[] equal = new boolean[threads];
            CountDownLatch begin = new CountDownLatch(1);
            Thread[] readers = new Thread[threads];
            for (int t = 0; t < threads; t++) {
                int number = t;
                readers[t] = Thread.ofPlatform().start(() -> {
                    try {
                        begin.await();
                    } catch (InterruptedException e) {
                        throw new IllegalStateException(e);
                    }
                    equal[number] = Arrays.equals(memory[2 * number], memory[2 * number + 1]);
                });
            }
            long begun = System.nanoTime();
            begin.countDown();
            for (Thread reader : readers) {
                reader.join();
            }
            double seconds = (System.nanoTime() - begun) / 1e9;
            best = Math.max(best, 2.0 * threads * LONGS * Long.BYTES / seconds);
            for (boolean is : equal) {
                if (!is) {
                    throw new IllegalStateException("memory was not read whole"); // or the loops would be dropped
                }
            }
        }
        System.out.printf(Locale.ROOT, "memory %.1f GB/s, %d threads%n", best / 1e9, threads);
    }
}
