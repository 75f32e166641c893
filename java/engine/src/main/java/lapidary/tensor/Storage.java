package lapidary.tensor;

import java.lang.foreign.MemorySegment;

/** The memory behind a tensor and its views, and the frame that owns it. */
final class Storage {
    private final MemorySegment memory;

    /** Whether the memory is the pool's; what was borrowed from the host is not given back to it. */
    private final boolean pooled;

    private Frame owner;
    private Frame closedBy; // null while the memory is held

    Storage(MemorySegment memory, boolean pooled, Frame owner) {
        this.memory = memory;
        this.pooled = pooled;
        this.owner = owner;
    }

    MemorySegment memory() {
        if (closedBy != null) {
            throw new IllegalStateException("tensor used after its frame " + closedBy.path() + " gave it back");
        }
        return memory;
    }

    boolean isPooled() {
        return pooled;
    }

    Frame owner() {
        return owner;
    }

    void moveTo(Frame frame) {
        owner = frame;
    }

    void close(Frame frame) {
        closedBy = frame;
    }
}
