package lapidary.device;

import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.function.Supplier;

/**
 * Size classes over a device's raw memory: what a frame gives back is kept for the next request of its class, eight
 * classes to a power of two, so that at most an eighth of a block is slack. Not thread-safe: a device has one driver.
 */
public final class MemoryPool implements AutoCloseable {
    /** Raw allocation of a device. The memory is 64-byte aligned. */
    public interface Source {
        /**
         * @throws OutOfMemoryException where there is no memory left
         * @throws DeviceException for any other reason, such as that the device is lost
         */
        MemorySegment allocate(long bytes);

        void free(MemorySegment memory);

        /** Whether fresh memory is zero without anybody writing to it. */
        boolean isFreshZero();

        /** Writes zeros. */
        void clear(MemorySegment memory);

        /** Gives back to the system what was freed and is still kept, where anything is. */
        default void trim() {}
    }

    /** Cached blocks may hold this share of the peak in use before the largest go back to the system. */
    private static final double CACHE_SHARE = 0.25;

    private static final long SMALLEST = 64;

    private final Source source;
    private final boolean keeps;
    private final List<ArrayDeque<MemorySegment>> cached = new ArrayList<>(); // by number of their class
    private long inUse;
    private long cachedBytes;
    private long peak;

    public MemoryPool(Source source) {
        this(source, true);
    }

    private MemoryPool(Source source, boolean keeps) {
        this.source = source;
        this.keeps = keeps;
    }

    /**
     * A pool that keeps nothing: every block comes from the source, as long as it was asked for, and goes back at once. For
     * tools that watch what is read and written past the end of a block, or after its release.
     */
    static MemoryPool ofExactBlocks(Source source) {
        return new MemoryPool(source, false);
    }

    /**
     * A block of at least {@code bytes}, its content unspecified. The segment is as long as its class.
     *
     * @throws OutOfMemoryException with request, bytes in use and peak where memory is exhausted
     */
    public MemorySegment allocate(long bytes) {
        return allocate(bytes, 0.125);
    }

    /**
     * A block for a while, such as a training step's: one that is free serves though it is half as large again. Lengths
     * differ from step to step, and fresh memory is dear, a page at a time on the CPU: with an eighth, a step of short texts
     * took 1.5 times as long (2 vCPU AMD EPYC, November 2026), in a process that was larger.
     *
     * @throws OutOfMemoryException as {@link #allocate} does
     */
    public MemorySegment allocateForAWhile(long bytes) {
        return allocate(bytes, 0.5);
    }

    private MemorySegment allocate(long bytes, double slack) {
        long size = sizeFor(bytes);
        MemorySegment block = takeCached(size, slack).orElseGet(() -> fromSource(size, bytes));
        inUse += block.byteSize();
        peak = Math.max(peak, inUse);
        return block;
    }

    /** A block whose bytes are all zero; fresh from the system where its pages cost nothing until written. */
    public MemorySegment allocateZeroed(long bytes) {
        if (!source.isFreshZero()) {
            MemorySegment block = allocate(bytes);
            source.clear(block);
            return block;
        }
        MemorySegment block = fromSource(sizeFor(bytes), bytes);
        inUse += block.byteSize();
        peak = Math.max(peak, inUse);
        return block;
    }

    /** Takes back what {@link #allocate} gave. */
    public void release(MemorySegment block) {
        long size = block.byteSize();
        inUse -= size;
        if (!keeps) {
            source.free(block);
            return;
        }
        cachedBytes += size;
        int number = numberOf(size);
        while (cached.size() <= number) {
            cached.add(new ArrayDeque<>());
        }
        cached.get(number).push(block);
        while (cachedBytes > Math.max(CACHE_SHARE * peak, peak - inUse)) {
            freeLargest();
        }
    }

    /** Bytes handed out and not yet returned. */
    public long inUse() {
        return inUse;
    }

    /** Most bytes ever handed out at once, or since {@link #restartPeak}. */
    public long peak() {
        return peak;
    }

    /** Forgets the peak so far: it is what is handed out now. */
    public void restartPeak() {
        peak = inUse;
    }

    /** Returns all cached blocks to the system. */
    public void trim() {
        while (cachedBytes > 0) {
            freeLargest();
        }
        source.trim();
    }

    /**
     * Does what takes memory from where the pool's comes from; where there is none, again, once all cached blocks are back
     * with the system.
     *
     * @param work may be done anew after an {@link OutOfMemoryException}
     * @param requested bytes that it asks for; 0 where it does not say
     * @throws OutOfMemoryException with request, bytes in use and peak where memory is exhausted
     */
    <T> T withRoom(long requested, Supplier<T> work) {
        try {
            return work.get();
        } catch (OutOfMemoryException first) {
            trim();
        }
        try {
            return work.get();
        } catch (OutOfMemoryException second) {
            throw exhausted(requested, second);
        }
    }

    /** With request, bytes in use and peak before what the failure itself says. */
    OutOfMemoryException exhausted(long requested, OutOfMemoryException failure) {
        return new OutOfMemoryException(
                "out of memory: " + (requested > 0 ? requested + " bytes requested, " : "") + inUse + " in use, peak "
                        + peak + "; " + failure.getMessage(),
                requested,
                inUse,
                failure);
    }

    /** As {@link #trim}, and what cannot be freed keeps nothing else from being freed. */
    @Override
    public void close() {
        Closing closing = new Closing();
        while (cachedBytes > 0) {
            closing.then(this::freeLargest);
        }
        closing.then(source::trim).end();
    }

    private Optional<MemorySegment> takeCached(long size, double slack) {
        long largest = size + (long) (size * slack);
        int last = Math.min(numberOf(largest), cached.size() - 1);
        for (int number = numberOf(size); number <= last; number++) {
            MemorySegment fit = cached.get(number).peek();
            if (fit != null) {
                return fit.byteSize() <= largest ? Optional.of(taken(number)) : Optional.empty();
            }
        }
        return Optional.empty();
    }

    private MemorySegment taken(int number) {
        MemorySegment block = cached.get(number).pop();
        cachedBytes -= block.byteSize();
        return block;
    }

    private MemorySegment fromSource(long size, long requested) {
        return withRoom(requested, () -> source.allocate(size));
    }

    private void freeLargest() {
        int number = cached.size() - 1;
        while (cached.get(number).isEmpty()) {
            number--;
        }
        source.free(taken(number));
    }

    private long sizeFor(long bytes) {
        return keeps ? sizeClass(bytes) : Math.max(bytes, 1);
    }

    static long sizeClass(long bytes) {
        if (bytes <= SMALLEST) {
            return SMALLEST;
        }
        long step = Math.max(SMALLEST, Long.highestOneBit(bytes - 1) >> 3);
        return Math.ceilDiv(bytes, step) * step;
    }

    /** A class's place among all, eight to a power of two, though the smallest powers have fewer. */
    static int numberOf(long size) {
        if (size <= SMALLEST) {
            return 0;
        }
        int power = Long.SIZE - 1 - Long.numberOfLeadingZeros(size - 1);
        long step = Math.max(SMALLEST, (1L << power) >> 3);
        return 8 * (power - 6) + (int) Math.ceilDiv(size - (1L << power), step);
    }
}
