package lapidary.data;

import dev.hardwood.metadata.Encoding;
import dev.hardwood.metadata.PhysicalType;
import java.io.IOException;

/**
 * The values of a page, one after the other: Boolean, Integer, Long, Float, Double, or what a {@link Binary} makes of bytes.
 *
 * @see <a href="https://github.com/apache/parquet-format/blob/master/Encodings.md">Encodings.md</a>
 */
@FunctionalInterface
interface PageValues {
    Object next() throws IOException;

    /** Makes a value of the next {@code length} bytes, all of which it reads. */
    @FunctionalInterface
    interface Binary {
        Object take(PageStream in, int length) throws IOException;
    }

    /**
     * @param in behind the levels
     * @param most values that can come
     * @param dictionary of the column; empty where it has none
     */
    static PageValues of(
            Encoding encoding, PhysicalType type, PageStream in, int most, Object[] dictionary, Binary binary)
            throws IOException {
        return switch (encoding) {
            case PLAIN -> plain(type, in, binary);
            case PLAIN_DICTIONARY, RLE_DICTIONARY -> {
                HybridInts places = new HybridInts(in, in.readByte());
                yield () -> {
                    int place = places.next();
                    if (place < 0 || place >= dictionary.length) {
                        throw new IOException("value " + place + " of a dictionary of " + dictionary.length);
                    }
                    return dictionary[place];
                };
            }
            case RLE -> {
                require(type == PhysicalType.BOOLEAN, encoding, type);
                in.readLength();
                HybridInts bits = new HybridInts(in, 1);
                yield () -> bits.next() == 1;
            }
            case DELTA_BINARY_PACKED -> {
                require(type == PhysicalType.INT32 || type == PhysicalType.INT64, encoding, type);
                DeltaLongs numbers = new DeltaLongs(in);
                yield () -> type == PhysicalType.INT64 ? (Object) numbers.next() : (Object) (int) numbers.next();
            }
            case DELTA_LENGTH_BYTE_ARRAY -> {
                require(type == PhysicalType.BYTE_ARRAY, encoding, type);
                Lengths lengths = new Lengths(in, most);
                yield () -> binary.take(in, in.checkLength(lengths.next()));
            }
            case DELTA_BYTE_ARRAY -> {
                require(type == PhysicalType.BYTE_ARRAY, encoding, type);
                yield new SharedPrefixes(new Lengths(in, most), new Lengths(in, most), in, binary);
            }
            case BYTE_STREAM_SPLIT -> split(type, in, encoding);
            default -> throw new IOException("encoding " + encoding + " is not supported");
        };
    }

    private static PageValues plain(PhysicalType type, PageStream in, Binary binary) throws IOException {
        return switch (type) {
            case BOOLEAN -> {
                int[] byteAndPlace = {0, 8};
                yield () -> {
                    if (byteAndPlace[1] == 8) {
                        byteAndPlace[0] = in.readByte();
                        byteAndPlace[1] = 0;
                    }
                    return (byteAndPlace[0] >> byteAndPlace[1]++ & 1) == 1;
                };
            }
            case INT32 -> in::readInt;
            case INT64 -> in::readLong;
            case FLOAT -> () -> Float.intBitsToFloat(in.readInt());
            case DOUBLE -> () -> Double.longBitsToDouble(in.readLong());
            case BYTE_ARRAY -> () -> binary.take(in, in.readLength());
            default -> throw new IOException("type " + type + " is not supported");
        };
    }

    /** The first bytes of all values, then the second bytes, and so on. */
    private static PageValues split(PhysicalType type, PageStream in, Encoding encoding) throws IOException {
        boolean wide = type == PhysicalType.INT64 || type == PhysicalType.DOUBLE;
        require(wide || type == PhysicalType.INT32 || type == PhysicalType.FLOAT, encoding, type);
        byte[] bytes = in.readBytes(in.checkLength(in.left()));
        int width = wide ? 8 : 4;
        int count = bytes.length / width;
        byte[] joined = new byte[count * width];
        for (int i = 0; i < joined.length; i++) {
            joined[i] = bytes[i % width * count + i / width];
        }
        return plain(type, PageStream.of(joined), (none, length) -> none);
    }

    private static void require(boolean fits, Encoding encoding, PhysicalType type) throws IOException {
        if (!fits) {
            throw new IOException("encoding " + encoding + " does not fit type " + type);
        }
    }

    /** Lengths that stand before what they are the lengths of. */
    final class Lengths {
        private final long[] lengths;
        private int taken;

        Lengths(PageStream in, int most) throws IOException {
            DeltaLongs numbers = new DeltaLongs(in);
            if (numbers.count() < 0 || numbers.count() > most) {
                throw new IOException(numbers.count() + " lengths for " + most + " values");
            }
            lengths = new long[(int) numbers.count()];
            for (int i = 0; i < lengths.length; i++) {
                lengths[i] = (int) numbers.next();
            }
            numbers.finish();
        }

        long next() throws IOException {
            if (taken == lengths.length) {
                throw new IOException("only " + taken + " lengths");
            }
            return lengths[taken++];
        }
    }

    /** Values that begin as the one before did. */
    final class SharedPrefixes implements PageValues {
        private final Lengths prefixes;
        private final Lengths suffixes;
        private final PageStream in;
        private final Binary binary;
        private byte[] before = new byte[0];

        SharedPrefixes(Lengths prefixes, Lengths suffixes, PageStream in, Binary binary) {
            this.prefixes = prefixes;
            this.suffixes = suffixes;
            this.in = in;
            this.binary = binary;
        }

        @Override
        public Object next() throws IOException {
            long prefix = prefixes.next();
            if (prefix < 0 || prefix > before.length) {
                throw new IOException("a value shares " + prefix + " bytes with one of " + before.length);
            }
            byte[] suffix = in.readBytes(in.checkLength(suffixes.next()));
            byte[] value = new byte[Math.addExact((int) prefix, suffix.length)];
            System.arraycopy(before, 0, value, 0, (int) prefix);
            System.arraycopy(suffix, 0, value, (int) prefix, suffix.length);
            before = value;
            return binary.take(PageStream.of(value), value.length);
        }
    }
}
