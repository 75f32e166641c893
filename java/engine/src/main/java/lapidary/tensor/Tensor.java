package lapidary.tensor;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.function.Consumer;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.Operand;

/**
 * A dense row-major array in a device's memory, owned by one {@link Frame}. Views made by {@link #reshape} and
 * {@link #slice} share its memory and die with it; using one after its frame closed throws, naming the frame.
 */
public final class Tensor implements Operand {
    /** Stands for an operand that is left out. */
    public static final Tensor NONE = new Tensor(null, DType.F32, Shape.of(0), 0, true);

    private static final long PIECE = 16 << 20;

    private final Storage storage;
    private final DType dtype;
    private final Shape shape;
    private final long offset;
    private final boolean whole;
    private MemorySegment segment; // once it was asked for

    Tensor(Storage storage, DType dtype, Shape shape, long offset, boolean whole) {
        this.storage = storage;
        this.dtype = dtype;
        this.shape = shape;
        this.offset = offset;
        this.whole = whole;
    }

    @Override
    public MemorySegment segment() {
        if (storage == null) {
            return MemorySegment.NULL;
        }
        MemorySegment memory = storage.memory(); // throws where it was given back
        if (segment == null) {
            segment = memory.asSlice(offset, bytes());
        }
        return segment;
    }

    @Override
    public DType dtype() {
        return dtype;
    }

    public Shape shape() {
        return shape;
    }

    @Override
    public long elements() {
        return shape.elements();
    }

    @Override
    public long rows() {
        return shape.rows();
    }

    @Override
    public long last() {
        return shape.last();
    }

    @Override
    public boolean isNone() {
        return storage == null;
    }

    @Override
    public String describe() {
        return storage == null ? "nothing" : dtype + " " + shape;
    }

    public long bytes() {
        return shape.elements() * dtype.bytes();
    }

    /** The same elements under other axes. */
    public Tensor reshape(long... axes) {
        Shape other = Shape.of(axes);
        if (other.elements() != shape.elements()) {
            throw new IllegalArgumentException("[reshape] " + shape + " has " + shape.elements() + " elements, " + other
                    + " has " + other.elements());
        }
        return new Tensor(storage, dtype, other, offset, whole);
    }

    /** Rows {@code [from, to)} of the first axis. */
    public Tensor slice(long from, long to) {
        if (from < 0 || from > to || shape.rank() == 0 || to > shape.axis(0)) {
            throw new IllegalArgumentException("[slice] rows " + from + " to " + to + " of " + shape);
        }
        long[] axes = shape.toArray();
        long row = axes[0] == 0 ? 0 : bytes() / axes[0];
        axes[0] = to - from;
        return new Tensor(storage, dtype, Shape.of(axes), offset + from * row, whole && to - from == shape.axis(0));
    }

    /** Identity of the memory: equal for a tensor and its reshapes, which share one gradient. */
    public Object identity() {
        return storage;
    }

    /** Whether this is a tensor as it was allocated, or a reshape of it, and not a slice. */
    public boolean isWhole() {
        return whole;
    }

    /** The only element of a tensor of one F32, on the host. */
    public float item() {
        if (elements() != 1) {
            throw new IllegalArgumentException("[item] " + describe() + " has more than one element");
        }
        return toFloats()[0];
    }

    /** All elements on the host; BF16 and F16 widened. */
    public float[] toFloats() {
        MemorySegment host = toHost();
        float[] values = new float[Math.toIntExact(elements())];
        for (int i = 0; i < values.length; i++) {
            values[i] = switch (dtype) {
                case F32 -> host.getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i);
                case BF16 -> Float.intBitsToFloat(host.getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i) << 16);
                case F16 -> Float.float16ToFloat(host.getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i));
                case I32, I16, U8 -> throw new IllegalArgumentException(
                        "[toFloats] " + describe() + " holds whole numbers");
            };
        }
        return values;
    }

    /** Copies all elements of an F32 tensor into a host array of that length. */
    public void copyTo(float[] values) {
        if (dtype != DType.F32 || values.length != elements()) {
            throw new IllegalArgumentException(
                    "[copyTo] " + describe() + " into " + values.length + " values, expected F32 of that length");
        }
        MemorySegment.copy(toHost(), ValueLayout.JAVA_FLOAT_UNALIGNED, 0, values, 0, values.length);
    }

    /** All elements of an I32 tensor on the host. */
    public int[] toInts() {
        if (dtype != DType.I32) {
            throw new IllegalArgumentException("[toInts] " + describe() + " is not I32");
        }
        return toHost().toArray(ValueLayout.JAVA_INT_UNALIGNED);
    }

    /** The bytes on the host: a copy, or the memory itself where the device shares it; not to be written to. */
    public MemorySegment toHost() {
        MemorySegment source = segment();
        if (storage.owner().device().sharesHostMemory()) {
            return source;
        }
        MemorySegment host = MemorySegment.ofArray(new byte[Math.toIntExact(bytes())]);
        storage.owner().device().copyOut(host, source);
        return host;
    }

    /** Hands the bytes to {@code out} on the host, in pieces where they have to be copied: any length fits. */
    public void toHost(Consumer<MemorySegment> out) {
        Device device = storage.owner().device();
        MemorySegment source = segment();
        if (device.sharesHostMemory()) {
            out.accept(source);
            return;
        }
        byte[] piece = new byte[(int) Math.min(PIECE, bytes())];
        for (long at = 0; at < bytes(); at += piece.length) {
            MemorySegment host = MemorySegment.ofArray(piece).asSlice(0, Math.min(piece.length, bytes() - at));
            device.copyOut(host, source.asSlice(at, host.byteSize()));
            out.accept(host);
        }
    }

    Storage storage() {
        return storage;
    }

    @Override
    public String toString() {
        return describe();
    }
}
