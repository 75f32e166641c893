package lapidary.device;

import java.lang.foreign.MemorySegment;

/**
 * What a kernel sees of a tensor: dense row-major elements in this device's memory. Kernels live above tensors, so this
 * is all that they know of them.
 */
public interface Operand {
    /** The elements; {@link MemorySegment#NULL} for an operand that is left out. Throws where the memory was given back. */
    MemorySegment segment();

    DType dtype();

    /** Number of elements; 0 for an operand that is left out. */
    long elements();

    /** Product of all axes but the last; 1 for a scalar. */
    long rows();

    /** Length of the last axis; 1 for a scalar. */
    long last();

    /** For messages, e.g. {@code BF16 [4, 2560]}. */
    String describe();

    default boolean isNone() {
        return segment().address() == 0;
    }
}
