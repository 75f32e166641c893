package lapidary.data;

import java.io.IOException;
import java.io.InputStream;

/** A stream that is made to be read in pieces; a single byte is a piece of one. */
abstract class PiecewiseStream extends InputStream {
    @Override
    public final int read() throws IOException {
        byte[] one = new byte[1];
        return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
    }

    @Override
    public abstract int read(byte[] out, int offset, int length) throws IOException;
}
