package lapidary.device;

import java.lang.foreign.MemorySegment;

/** A matrix in memory of this room's own. */
record Dense(MemorySegment segment, DType dtype, long rows, long last) implements Operand {
    @Override
    public long elements() {
        return rows * last;
    }

    @Override
    public String describe() {
        return dtype + " [" + rows + ", " + last + "]";
    }
}
