package lapidary.image;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * What the vision tower reads of one picture: F32 [3, height, width], row-major, made where it is needed. Two of them are
 * equal if all that they give is.
 */
public interface Pixels {

    /** Values that there are: 3 * height * width. */
    int length();

    /** Bytes of Java's heap that wait for the values to be asked for. */
    long heapBytes();

    /**
     * Writes values.
     *
     * @param from the first of them
     * @param floats native memory that gets as many as it has room for
     * @throws IndexOutOfBoundsException where there are not so many
     */
    void values(int from, MemorySegment floats);

    /** All values. */
    default float[] values() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment floats = arena.allocate(ValueLayout.JAVA_FLOAT, length());
            values(0, floats);
            return floats.toArray(ValueLayout.JAVA_FLOAT);
        }
    }
}
