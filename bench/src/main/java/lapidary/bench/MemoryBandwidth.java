package lapidary.bench;

import java.util.Arrays;
import java.util.Locale;
import java.util.concurrent.CountDownLatch;

/**
 * How fast this machine reads memory: {@code MemoryBandwidth [THREADS]}, two threads where none are named. Each sums an array of
 * 256 MiB that no cache holds; the figure is of the best of nine rounds, in GB/s (10^9 bytes a second).
 */
public final class MemoryBandwidth {
    private static final int INTS = 64 << 20;
    private static final int ROUNDS = 9;

    private MemoryBandwidth() {}

    public static void main(String[] args) throws InterruptedException {
        int threads = args.length > 0 ? Integer.parseInt(args[0]) : 2;
        int[][] memory = new int[threads][INTS];
        for (int[] part : memory) {
            Arrays.fill(part, 3);
        }
        double best = 0;
        int sums = 0;
        for (int round = 0; round < ROUNDS; round++) {
            int[] results = new int[threads];
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
                    results[number] = sum(memory[number]);
                });
            }
            long begun = System.nanoTime();
            begin.countDown();
            for (Thread reader : readers) {
                reader.join();
            }
            double seconds = (System.nanoTime() - begun) / 1e9;
            best = Math.max(best, (double) threads * INTS * Integer.BYTES / seconds);
            sums += Arrays.stream(results).sum(); // or the loops would be dropped
        }
        System.out.printf(Locale.ROOT, "memory %.1f GB/s, %d threads (%d)%n", best / 1e9, threads, sums);
    }

    private static int sum(int[] values) {
        int sum = 0;
        for (int value : values) {
            sum += value;
        }
        return sum;
    }
}
