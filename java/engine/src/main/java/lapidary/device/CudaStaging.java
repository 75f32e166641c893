package lapidary.device;

import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;

/**
 * A ring of pinned host memory that all copies pass through. Bytes for the device are put into it and their copy is queued,
 * so that the caller's memory is free at once and the device is not waited for until the ring is full.
 */
final class CudaStaging implements AutoCloseable {
    private static final long ALIGNMENT = 256;

    /** A part of the ring that the device has not read yet, as far as is known. */
    private record Part(long from, long to, MemorySegment event) {}

    private final CudaRuntime cuda;
    private final MemorySegment stream;
    private final MemorySegment ring;
    private final long piece;
    private final ArrayDeque<Part> queued = new ArrayDeque<>(); // oldest first, which is also their order in the ring
    private final ArrayDeque<MemorySegment> events = new ArrayDeque<>(); // at rest
    private long next;

    /** @param bytes of the ring; a quarter of it passes at once, so that filling and copying overlap */
    CudaStaging(CudaRuntime cuda, MemorySegment stream, long bytes) {
        this.cuda = cuda;
        this.stream = stream;
        this.ring = cuda.pinned(bytes);
        this.piece = bytes / 4 / ALIGNMENT * ALIGNMENT;
    }

    /** Queues a copy to the device; the host's memory may change as soon as this returns. */
    void copyIn(MemorySegment device, Device.Source host) {
        for (long at = 0; at < device.byteSize(); at += piece) {
            long n = Math.min(piece, device.byteSize() - at);
            long from = reserve(n);
            MemorySegment pinned = ring.asSlice(from, n);
            host.write(at, pinned);
            cuda.copyIn(device.asSlice(at, n), pinned, stream);
            MemorySegment event = events.isEmpty() ? cuda.event() : events.pop();
            cuda.record(event, stream);
            queued.add(new Part(from, next, event));
        }
    }

    /** Copies to the host, after all that is queued before. */
    void copyOut(MemorySegment host, MemorySegment device) {
        for (long at = 0; at < host.byteSize(); at += piece) {
            long n = Math.min(piece, host.byteSize() - at);
            MemorySegment pinned = ring.asSlice(reserve(n), n);
            cuda.copyOut(pinned, device.asSlice(at, n), stream);
            cuda.synchronize(stream);
            host.asSlice(at, n).copyFrom(pinned);
        }
        queued.forEach(part -> events.push(part.event()));
        queued.clear();
    }

    /** Where {@code n} bytes are that nothing queued reads; waits for the oldest copies where it must. */
    private long reserve(long n) {
        long size = Math.ceilDiv(n, ALIGNMENT) * ALIGNMENT;
        if (next + size > ring.byteSize()) {
            // The rest of the ring stays unused this time round; what is still queued there is older than the
            // beginning.
            while (!queued.isEmpty() && queued.peek().from() >= next) {
                awaitOldest();
            }
            next = 0;
        }
        while (!queued.isEmpty()
                && queued.peek().from() < next + size
                && queued.peek().to() > next) {
            awaitOldest();
        }
        long from = next;
        next += size;
        return from;
    }

    private void awaitOldest() {
        Part oldest = queued.remove();
        cuda.await(oldest.event());
        events.push(oldest.event());
    }

    @Override
    public void close() {
        queued.forEach(part -> events.push(part.event()));
        Closing closing = new Closing();
        events.forEach(event -> closing.then(() -> cuda.destroy(event)));
        closing.then(() -> cuda.unpin(ring)).end();
    }
}
