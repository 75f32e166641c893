package lapidary.data;

import com.github.luben.zstd.ZstdInputStream;
import dev.hardwood.metadata.CompressionCodec;
import java.io.BufferedInputStream;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.SequenceInputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.util.EnumSet;
import java.util.Objects;
import java.util.Set;
import java.util.zip.GZIPInputStream;
import org.brotli.dec.BrotliInputStream;

/**
 * The bytes of a Parquet page, decompressed as they are asked for: a page of pictures may be larger than the memory. Numbers are
 * little-endian.
 */
final class PageStream implements AutoCloseable {
    /** The codecs that are read. */
    static final Set<CompressionCodec> CODECS = EnumSet.complementOf(EnumSet.of(CompressionCodec.LZO));

    private static final int BUFFER = 1 << 16;

    private final InputStream in;
    private final byte[] buffer = new byte[BUFFER];
    private int at; // in the buffer
    private int end;
    private long left; // bytes that may still be read

    private PageStream(InputStream in, long size) {
        this.in = in;
        this.left = size;
    }

    /**
     * Reads {@code compressed} bytes of a file from {@code at}, which become {@code size} bytes.
     *
     * @throws IOException they are not compressed so
     */
    static PageStream open(FileChannel channel, long at, long compressed, CompressionCodec codec, long size)
            throws IOException {
        InputStream bytes = new BufferedInputStream(new Part(channel, at, compressed), BUFFER);
        return new PageStream(
                switch (codec) {
                    case UNCOMPRESSED -> bytes;
                    case SNAPPY -> new LzStream(LzStream.Format.SNAPPY, bytes, size);
                    case LZ4_RAW -> new LzStream(LzStream.Format.LZ4, bytes, size);
                    case LZ4 -> hadoopLz4(bytes, compressed, size);
                    case GZIP -> new GZIPInputStream(bytes);
                    case ZSTD -> new ZstdInputStream(bytes);
                    case BROTLI -> new BrotliInputStream(bytes);
                    case LZO -> throw new IOException("LZO is not supported");
                },
                size);
    }

    /** Reads from memory. */
    static PageStream of(byte[] bytes) {
        return new PageStream(new ByteArrayInputStream(bytes), bytes.length);
    }

    /**
     * What files call LZ4 without more is one of two things: Hadoop's frames, each of a block behind its two sizes
     * (big-endian, what it becomes first), or a block alone, as LZ4_RAW. A block alone cannot begin with a copy, so its first
     * byte is not 0, as that of a frame of less than 16 MiB is.
     *
     * @see <a href="https://github.com/apache/parquet-format/blob/master/Compression.md">Compression.md</a>
     */
    private static InputStream hadoopLz4(InputStream bytes, long compressed, long size) throws IOException {
        byte[] start = bytes.readNBytes(8);
        InputStream whole = new SequenceInputStream(new ByteArrayInputStream(start), bytes);
        boolean frames = start.length == 8
                && Integer.toUnsignedLong(ByteBuffer.wrap(start).getInt(0)) <= size
                && Integer.toUnsignedLong(ByteBuffer.wrap(start).getInt(4)) <= compressed - 8;
        return frames ? new Frames(whole) : new LzStream(LzStream.Format.LZ4, whole, size);
    }

    /** LZ4 blocks, one after the other. */
    private static final class Frames extends PiecewiseStream {
        private final InputStream in;
        private InputStream block = InputStream.nullInputStream();

        Frames(InputStream in) {
            this.in = in;
        }

        @Override
        public int read(byte[] out, int offset, int length) throws IOException {
            int n = block.read(out, offset, length);
            while (n < 0) {
                byte[] sizes = in.readNBytes(8);
                if (sizes.length < 8) {
                    return -1;
                }
                block = new LzStream(
                        LzStream.Format.LZ4,
                        in,
                        Integer.toUnsignedLong(ByteBuffer.wrap(sizes).getInt(0)));
                n = block.read(out, offset, length);
            }
            return n;
        }
    }

    /** A part of a file. */
    private static final class Part extends PiecewiseStream {
        private final FileChannel channel;
        private long at;
        private long left;

        Part(FileChannel channel, long at, long size) {
            this.channel = channel;
            this.at = at;
            this.left = size;
        }

        @Override
        public int read(byte[] out, int offset, int length) throws IOException {
            Objects.checkFromIndexSize(offset, length, out.length);
            if (length > 0 && left == 0) {
                return -1;
            }
            int n = channel.read(ByteBuffer.wrap(out, offset, (int) Math.min(length, left)), at);
            if (n > 0) {
                at += n;
                left -= n;
            }
            return n;
        }
    }

    /** Bytes that are left at most. */
    long left() {
        return left;
    }

    int readByte() throws IOException {
        if (at == end) {
            fill();
        }
        left--;
        return buffer[at++] & 0xff;
    }

    int readInt() throws IOException {
        return readByte() | readByte() << 8 | readByte() << 16 | readByte() << 24;
    }

    long readLong() throws IOException {
        return Integer.toUnsignedLong(readInt()) | (long) readInt() << 32;
    }

    /** An unsigned number of 7 bits a byte, the lowest first. */
    long readVarint() throws IOException {
        long value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            int b = readByte();
            value |= (long) (b & 0x7f) << shift;
            if (b < 0x80) {
                return value;
            }
        }
        throw new IOException("a number of more than 64 bits");
    }

    /** A length, and so many bytes must be left. */
    int readLength() throws IOException {
        return checkLength(readInt());
    }

    int checkLength(long length) throws IOException {
        if (length < 0 || length > Math.min(left, Integer.MAX_VALUE - 8)) {
            throw new IOException("a value of " + length + " bytes where " + left + " are left");
        }
        return (int) length;
    }

    /** The next {@code length} bytes, which {@link #checkLength} has seen; memory is taken as they come. */
    byte[] readBytes(int length) throws IOException {
        if (length <= end - at) {
            byte[] bytes = new byte[length];
            System.arraycopy(buffer, at, bytes, 0, length);
            at += length;
            left -= length;
            return bytes;
        }
        ByteArrayOutputStream out = new ByteArrayOutputStream(Math.min(length, 1 << 20));
        transfer(length, out::write);
        return out.toByteArray();
    }

    /** Who takes bytes. */
    @FunctionalInterface
    interface Sink {
        void write(byte[] bytes, int offset, int length) throws IOException;
    }

    /** Hands over the next {@code length} bytes, piece by piece. */
    void transfer(int length, Sink sink) throws IOException {
        int rest = length;
        while (rest > 0) {
            if (at == end) {
                fill();
            }
            int n = Math.min(rest, end - at);
            sink.write(buffer, at, n);
            at += n;
            left -= n;
            rest -= n;
        }
    }

    private void fill() throws IOException {
        int n = left > 0 ? in.read(buffer, 0, (int) Math.min(BUFFER, left)) : -1;
        if (n <= 0) {
            throw new EOFException("the page ends early");
        }
        at = 0;
        end = n;
    }

    @Override
    public void close() throws IOException {
        in.close(); // gives back what a decompressor holds outside of the heap; the file stays open
    }
}
