package lapidary.data;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.util.Objects;

/**
 * Decompresses a Snappy or LZ4 block piece by piece, in 64 KiB of memory however large it is. Both formats are literals, and
 * copies of what was written before: at most 65,535 bytes before in LZ4, and in what Snappy's compressors write, which
 * work on 64 KiB at a time.
 *
 * @see <a href="https://github.com/google/snappy/blob/main/format_description.txt">Snappy's format</a> and
 *     <a href="https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md">LZ4's block format</a>
 */
final class LzStream extends PiecewiseStream {
    enum Format {
        SNAPPY,
        LZ4
    }

    private static final int WINDOW = 1 << 16;
    private static final int SHORTEST_LZ4_COPY = 4;

    private final InputStream in;
    private final Format format;
    private final long size;
    private final byte[] window = new byte[WINDOW]; // byte i of the output is at i mod 64 Ki
    private long written;
    private long literal; // bytes still to come of the literal at hand
    private long copy; // and of the copy
    private int distance; // of the copy, bytes back
    private int token = -1; // LZ4: of the sequence whose literal is at hand, its copy not yet read

    /**
     * @param in the block, from its start
     * @param size bytes of the output
     * @throws IOException the block says that its output has another size
     */
    LzStream(Format format, InputStream in, long size) throws IOException {
        this.in = in;
        this.format = format;
        this.size = size;
        if (format == Format.SNAPPY) {
            long stated = 0;
            int shift = 0;
            int b;
            do {
                b = next();
                stated |= (long) (b & 0x7f) << shift;
                shift += 7;
            } while (b >= 0x80 && shift < 35);
            if (stated != size) {
                throw new IOException("a Snappy block of " + stated + " bytes, expected " + size);
            }
        }
    }

    @Override
    public int read(byte[] out, int offset, int length) throws IOException {
        Objects.checkFromIndexSize(offset, length, out.length);
        if (length > 0 && written == size) {
            return -1;
        }
        int done = 0;
        while (done < length && written < size) {
            if (literal == 0 && copy == 0) {
                if (format == Format.SNAPPY) {
                    nextSnappy();
                } else {
                    nextLz4();
                }
            }
            if (literal > 0) {
                int n = in.readNBytes(out, offset + done, (int) Math.min(literal, length - done));
                if (n == 0) {
                    throw new EOFException("the compressed block ends early");
                }
                literal -= n;
                remember(out, offset + done, n);
                done += n;
            } else if (copy > 0) {
                int n = (int) Math.min(copy, length - done);
                for (int i = 0; i < n; i++) { // byte by byte: a copy may reach into itself
                    byte b = window[(int) (written - distance) & WINDOW - 1];
                    window[(int) written & WINDOW - 1] = b;
                    out[offset + done + i] = b;
                    written++;
                }
                copy -= n;
                done += n;
            }
        }
        return done;
    }

    private void remember(byte[] out, int offset, int length) {
        int at = offset + Math.max(0, length - WINDOW); // what lies further back is not asked for any more
        int to = (int) (written + (at - offset)) & WINDOW - 1;
        int first = Math.min(offset + length - at, WINDOW - to);
        System.arraycopy(out, at, window, to, first);
        System.arraycopy(out, at + first, window, 0, offset + length - at - first);
        written += length;
    }

    private void nextSnappy() throws IOException {
        int tag = next();
        int length = tag >> 2;
        switch (tag & 3) {
            case 0 -> startLiteral(1 + (length < 60 ? length : little(length - 59)));
            case 1 -> startCopy(4 + (length & 7), (tag >> 5) << 8 | next());
            case 2 -> startCopy(1 + length, little(2));
            default -> startCopy(1 + length, little(4));
        }
    }

    private void nextLz4() throws IOException {
        if (token < 0) {
            token = next();
            startLiteral(length(token >> 4));
        } else {
            long back = little(2);
            long length = length(token & 15) + SHORTEST_LZ4_COPY;
            token = -1;
            startCopy(length, back);
        }
    }

    /** A length of 15 goes on in bytes that are added, up to the first that is not 255. */
    private long length(int low) throws IOException {
        long length = low;
        for (int more = low == 15 ? 255 : 0; more == 255; ) {
            more = next();
            length += more;
        }
        return length;
    }

    private void startLiteral(long length) throws IOException {
        if (length > size - written) {
            throw new IOException("a literal of " + length + " bytes where " + (size - written) + " are left");
        }
        literal = length;
    }

    private void startCopy(long length, long back) throws IOException {
        if (length > size - written || back < 1 || back > written || back > WINDOW) {
            throw new IOException("a copy of " + length + " bytes from " + back + " before, " + written + " of " + size
                    + " bytes written");
        }
        copy = length;
        distance = (int) back;
    }

    private long little(int bytes) throws IOException {
        long value = 0;
        for (int i = 0; i < bytes; i++) {
            value |= (long) next() << 8 * i;
        }
        return value;
    }

    private int next() throws IOException {
        int b = in.read();
        if (b < 0) {
            throw new EOFException("the compressed block ends early");
        }
        return b;
    }
}
