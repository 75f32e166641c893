package lapidary.image;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Values of no picture. */
public record FloatPixels(float[] all) implements Pixels {
    @Override
    public int length() {
        return all.length;
    }

    @Override
    public long heapBytes() {
        return (long) Float.BYTES * all.length;
    }

    @Override
    public void values(int from, MemorySegment floats) {
        int n = (int) (floats.byteSize() / Float.BYTES);
        MemorySegment.copy(all, from, floats, ValueLayout.JAVA_FLOAT, 0, n);
    }
}
