package lapidary.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PrefetchTest {
    @AfterEach
    void noThreadIsLeft() {
        List<String> left = Thread.getAllStackTraces().keySet().stream()
                .map(Thread::getName)
                .filter(name -> name.startsWith("prefetch-"))
                .toList();
        assertEquals(List.of(), left);
    }

    @ParameterizedTest
    @CsvSource({"1,1", "1,4", "4,1", "3,5", "8,64"})
    void keepsTheOrder(int threads, int ahead) {
        List<Integer> items = IntStream.range(0, 200).boxed().toList();
        try (Prefetch<Integer, Integer> results =
                new Prefetch<>(items.iterator(), PrefetchTest::slowly, threads, ahead)) {
            for (int i : items) {
                assertTrue(results.hasNext());
                assertEquals(i * i, results.next());
            }
            assertFalse(results.hasNext());
            assertThrows(NoSuchElementException.class, results::next);
        }
    }

    /** Takes longer for some items, so that threads overtake each other. */
    private static int slowly(int item) {
        long rounds = item % 7 == 0 ? 200_000 : 10;
        double x = item;
        for (long i = 0; i < rounds; i++) {
            x = Math.sqrt(x * x + 1e-9);
        }
        return x < 0 ? -1 : item * item;
    }

    @Test
    void beginsNoMoreThanItMay() throws InterruptedException {
        AtomicInteger begun = new AtomicInteger();
        Iterator<Integer> endless = IntStream.iterate(0, i -> i + 1).iterator();
        CountDownLatch five = new CountDownLatch(5);
        try (Prefetch<Integer, Integer> results = new Prefetch<>(
                endless,
                i -> {
                    begun.incrementAndGet();
                    five.countDown();
                    return i;
                },
                2,
                5)) {
            assertTrue(five.await(30, TimeUnit.SECONDS));
            assertEquals(5, begun.get());
            for (int i = 0; i < 100; i++) {
                assertEquals(i, results.next());
                assertTrue(begun.get() <= i + 6, "began " + begun.get() + " after " + (i + 1));
            }
        }
    }

    @Test
    void aFailureComesAtItsTurn() {
        try (Prefetch<Integer, Integer> results = new Prefetch<>(
                List.of(1, 2, 3, 4, 5).iterator(),
                i -> {
                    if (i == 3) {
                        throw new IllegalArgumentException("item " + i);
                    }
                    if (i == 5) {
                        throw new AssertionError("item " + i);
                    }
                    return i;
                },
                4,
                4)) {
            assertEquals(1, results.next());
            assertEquals(2, results.next());
            assertEquals(
                    "item 3",
                    assertThrows(IllegalArgumentException.class, results::next).getMessage());
            assertEquals(4, results.next());
            assertEquals(
                    "item 5", assertThrows(AssertionError.class, results::next).getMessage());
            assertFalse(results.hasNext());
        }
    }

    @Test
    void closingWaitsForWhatRunsAndDropsTheRest() {
        AtomicInteger begun = new AtomicInteger();
        AtomicInteger ended = new AtomicInteger();
        CountDownLatch running = new CountDownLatch(2);
        Prefetch<Integer, Integer> results = new Prefetch<>(
                IntStream.range(0, 100).boxed().iterator(),
                i -> {
                    begun.incrementAndGet();
                    running.countDown();
                    try {
                        running.await();
                        Thread.sleep(50);
                    } catch (InterruptedException e) {
                        throw new AssertionError("interrupted", e);
                    }
                    ended.incrementAndGet();
                    return i;
                },
                2,
                50);
        try {
            running.await();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
        results.close();
        assertEquals(begun.get(), ended.get());
        assertTrue(begun.get() < 50, begun + " items begun");
        assertFalse(results.hasNext());
        assertThrows(NoSuchElementException.class, results::next);
        results.close(); // twice is once
    }

    @Test
    void emptyAndWrong() {
        try (Prefetch<String, String> none = new Prefetch<>(List.<String>of().iterator(), s -> s, 1, 1)) {
            assertFalse(none.hasNext());
        }
        assertThrows(
                IllegalArgumentException.class, () -> new Prefetch<>(List.of(1).iterator(), i -> i, 0, 1));
        assertThrows(
                IllegalArgumentException.class, () -> new Prefetch<>(List.of(1).iterator(), i -> i, 1, 0));
    }
}
