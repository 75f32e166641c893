package lapidary.tensor;

import java.util.Arrays;

/** Lengths of a tensor's axes, outermost first; no axes for a scalar. */
public final class Shape {
    private final long[] axes;
    private final long elements;

    private Shape(long[] axes) {
        this.axes = axes;
        long product = 1;
        for (long axis : axes) {
            if (axis < 0) {
                throw new IllegalArgumentException("negative axis in " + Arrays.toString(axes));
            }
            product = Math.multiplyExact(product, axis);
        }
        this.elements = product;
    }

    public static Shape of(long... axes) {
        return new Shape(axes.clone());
    }

    public int rank() {
        return axes.length;
    }

    public long axis(int i) {
        return axes[i];
    }

    public long[] toArray() {
        return axes.clone();
    }

    public long elements() {
        return elements;
    }

    /** Length of the last axis; 1 for a scalar. */
    public long last() {
        return axes.length == 0 ? 1 : axes[axes.length - 1];
    }

    /** Product of all axes but the last. */
    public long rows() {
        long rows = 1;
        for (int i = 0; i < axes.length - 1; i++) {
            rows *= axes[i];
        }
        return rows;
    }

    /** The same with another last axis. */
    public Shape withLast(long last) {
        long[] changed = axes.clone();
        changed[changed.length - 1] = last;
        return new Shape(changed);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Shape shape && Arrays.equals(axes, shape.axes);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(axes);
    }

    @Override
    public String toString() {
        return Arrays.toString(axes);
    }
}
