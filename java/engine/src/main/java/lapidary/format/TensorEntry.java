package lapidary.format;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

/**
 * One tensor of a safetensors file.
 *
 * @param name as in the file
 * @param dtype the format's own word, like {@code F32}, {@code BF16}, {@code U8}
 * @param shape outermost axis first; empty for a scalar
 * @param data its bytes, row-major, little-endian: a read-only view of the mapped file that lives until the
 *     {@link Safetensors} is closed. Files made by old writers may start it at any byte: see {@link #alignment}
 * @param file where it stands
 */
public record TensorEntry(String name, String dtype, long[] shape, MemorySegment data, Path file) {
    /**
     * All dtypes of the format. The order is the order of its reference library, in which a writer puts the tensors:
     * those with the widest elements first, so that each starts at a multiple of its element.
     */
    static final List<String> DTYPES = List.of(
            "BOOL",
            "F4",
            "F6_E2M3",
            "F6_E3M2",
            "U8",
            "I8",
            "F8_E5M2",
            "F8_E4M3",
            "F8_E8M0",
            "F8_E4M3FNUZ",
            "F8_E5M2FNUZ",
            "I16",
            "U16",
            "F16",
            "BF16",
            "I32",
            "U32",
            "F32",
            "C64",
            "F64",
            "I64",
            "U64");

    /** Bits of one element, or -1 for a dtype that the format does not have. */
    static int bits(String dtype) {
        int order = DTYPES.indexOf(dtype);
        if (order < 0) {
            return -1;
        }
        if (dtype.equals("F4")) {
            return 4;
        }
        if (dtype.startsWith("F6_")) {
            return 6;
        }
        if (order < DTYPES.indexOf("I16")) {
            return 8;
        }
        return order < DTYPES.indexOf("I32") ? 16 : order < DTYPES.indexOf("C64") ? 32 : 64;
    }

    /** Number of elements. */
    public long elements() {
        long n = 1;
        for (long axis : shape) {
            n *= axis; // checked when the file was opened
        }
        return n;
    }

    /** The largest power of two, at most 64, that the data's address is a multiple of. */
    public long alignment() {
        return Math.min(64, Long.lowestOneBit(data.address() | 64));
    }

    /** A complaint about this tensor, for the caller to throw. */
    public FormatException error(String why) {
        return new FormatException(
                file + ": tensor \"" + name + "\" (" + dtype + " " + Arrays.toString(shape) + "): " + why);
    }
}
