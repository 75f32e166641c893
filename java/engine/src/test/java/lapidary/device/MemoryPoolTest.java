package lapidary.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

final class MemoryPoolTest {
    /** The Java heap's memory as a device, with a limit. */
    private static class Limited implements MemoryPool.Source {
        private final long limit;
        private final boolean freshZero;
        private long out;
        private int allocations;

        Limited(long limit) {
            this(limit, true);
        }

        Limited(long limit, boolean freshZero) {
            this.limit = limit;
            this.freshZero = freshZero;
        }

        @Override
        public MemorySegment allocate(long bytes) {
            if (out + bytes > limit) {
                throw new OutOfMemoryException("no more than " + limit, bytes, out, null);
            }
            out += bytes;
            allocations++;
            MemorySegment fresh = Arena.ofAuto().allocate(bytes);
            return freshZero ? fresh : fresh.fill((byte) 1);
        }

        @Override
        public void free(MemorySegment memory) {
            out -= memory.byteSize();
        }

        @Override
        public boolean isFreshZero() {
            return freshZero;
        }

        @Override
        public void clear(MemorySegment memory) {
            memory.fill((byte) 0);
        }
    }

    @ParameterizedTest
    @ValueSource(longs = {0, 1, 63, 64, 65, 1000, 4097, 1 << 20, (1 << 20) + 1, 123456789})
    void aClassHoldsTheRequestWithAnEighthOfSlackAtMost(long bytes) {
        long size = MemoryPool.sizeClass(bytes);
        assertTrue(size >= bytes && size >= 64, size + " for " + bytes);
        assertTrue(size <= Math.max(64, bytes + bytes / 8 + 64), size + " for " + bytes);
        assertEquals(size, MemoryPool.sizeClass(size), "a class is its own class");
    }

    @Test
    void classesAreNumberedInTheirOrder() {
        long size = MemoryPool.sizeClass(1);
        while (size < Long.MAX_VALUE / 4) {
            long next = MemoryPool.sizeClass(size + 1);
            assertTrue(MemoryPool.numberOf(size) < MemoryPool.numberOf(next), size + " and " + next);
            size = next;
        }
    }

    @Test
    void whatComesBackIsUsedAgain() {
        Limited source = new Limited(1 << 20);
        MemoryPool pool = new MemoryPool(source);
        MemorySegment first = pool.allocate(1000);
        pool.release(first);
        assertEquals(first.address(), pool.allocate(990).address());
        assertEquals(MemoryPool.sizeClass(1000), source.out);
    }

    /** Batches differ in length: what the longest one used serves the others, and nothing is asked of the system for them. */
    @Test
    void aShorterStepIsServedByWhatALongerOneUsed() {
        Limited source = new Limited(Long.MAX_VALUE);
        MemoryPool pool = new MemoryPool(source);
        int longest = 210;
        for (int length : new int[] {longest, 150, 190, 160, longest}) {
            List<MemorySegment> blocks = new ArrayList<>();
            for (int width : new int[] {512, 512, 2048, 512, 64, 2048}) {
                blocks.add(pool.allocateForAWhile(2L * length * width));
            }
            blocks.forEach(pool::release);
        }
        assertEquals(6, source.allocations);
    }

    @Test
    void whatLastsGetsNoBlockThatIsMuchTooLarge() {
        Limited source = new Limited(Long.MAX_VALUE);
        MemoryPool pool = new MemoryPool(source);
        pool.release(pool.allocate(1400));
        assertTrue(pool.allocate(1000).byteSize() <= 1125);
        assertEquals(MemoryPool.sizeClass(1400), pool.allocateForAWhile(1000).byteSize());
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void zeroedBlocksAreZero(boolean freshZero) {
        Limited source = new Limited(1 << 20, freshZero);
        MemoryPool pool = new MemoryPool(source);
        for (int i = 0; i < 3; i++) {
            MemorySegment block = pool.allocateZeroed(1000);
            assertEquals(-1, block.mismatch(MemorySegment.ofArray(new byte[(int) block.byteSize()])));
            pool.release(block.fill((byte) 7));
        }
        if (!freshZero) { // zeros are written anyway, so that the same block serves again
            assertEquals(1, source.allocations);
        }
    }

    /** Where the system's is, and not the pool's. */
    @Test
    void whatTakesMemoryBesideThePoolFindsRoom() {
        Limited source = new Limited(4096);
        MemoryPool pool = new MemoryPool(source);
        pool.release(pool.allocate(3072));
        assertEquals(2048, pool.withRoom(2048, () -> source.allocate(2048)).byteSize());
        pool.allocate(1024);
        OutOfMemoryException error =
                assertThrows(OutOfMemoryException.class, () -> pool.withRoom(2048, () -> source.allocate(2048)));
        assertEquals(
                "out of memory: 2048 bytes requested, 1024 in use, peak 3072; no more than 4096", error.getMessage());
        assertEquals(2048, error.requested());
        assertEquals(1024, error.inUse());
        error = assertThrows(OutOfMemoryException.class, () -> pool.withRoom(0, () -> source.allocate(2048)));
        assertEquals("out of memory: 1024 in use, peak 3072; no more than 4096", error.getMessage());
    }

    @Test
    void closingFreesWhatCanBeFreed() {
        Limited source = new Limited(1 << 20) {
            @Override
            public void free(MemorySegment memory) {
                super.free(memory);
                throw new DeviceException("block of " + memory.byteSize());
            }
        };
        MemoryPool pool = new MemoryPool(source);
        List<MemorySegment> blocks = List.of(pool.allocate(1024), pool.allocate(2048));
        blocks.forEach(pool::release);
        DeviceException error = assertThrows(DeviceException.class, pool::close);
        assertEquals("block of 2048", error.getMessage());
        assertEquals(1, error.getSuppressed().length);
        assertEquals(0, source.out);
    }

    @Test
    void exhaustionNamesRequestInUseAndPeak() {
        MemoryPool pool = new MemoryPool(new Limited(4096));
        pool.allocate(3072);
        var error = assertThrows(DeviceException.class, () -> pool.allocate(2048));
        assertTrue(error.getMessage().contains("2048 bytes requested"), error.getMessage());
        assertTrue(error.getMessage().contains("3072 in use"), error.getMessage());
    }

    /** A device that is lost has not run out of memory: there is no advice to give. */
    @Test
    void otherFailuresAreLeftAsTheyAre() {
        MemoryPool pool = new MemoryPool(new Limited(4096) {
            @Override
            public MemorySegment allocate(long bytes) {
                throw new DeviceException("lost");
            }
        });
        var error = assertThrows(DeviceException.class, () -> pool.allocate(2048));
        assertEquals("lost", error.getMessage());
    }

    @Test
    void cachedBlocksMakeRoomForABigRequest() {
        MemoryPool pool = new MemoryPool(new Limited(4096));
        pool.release(pool.allocate(3000));
        assertEquals(4096, pool.allocate(4096).byteSize());
    }

    @Test
    void changingSizesDoNotPileUp() {
        Limited source = new Limited(Long.MAX_VALUE);
        MemoryPool pool = new MemoryPool(source);
        Random random = new Random(1);
        for (int step = 0; step < 500; step++) {
            List<MemorySegment> blocks = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                blocks.add(
                        step % 2 == 0
                                ? pool.allocate(1 + random.nextInt(100_000))
                                : pool.allocateForAWhile(1 + random.nextInt(100_000)));
            }
            blocks.forEach(pool::release);
        }
        assertEquals(0, pool.inUse());
        assertTrue(source.out <= 1.3 * pool.peak(), source.out + " held for a peak of " + pool.peak());
        pool.close();
        assertEquals(0, source.out);
    }
}
