package lapidary.data;

import java.io.IOException;

/**
 * Numbers of a fixed width, where a run of one number is written once and others are packed bit by bit in groups of eight: levels,
 * places in a dictionary, booleans.
 *
 * @see <a href="https://github.com/apache/parquet-format/blob/master/Encodings.md">Encodings.md, RLE = 3</a>
 */
final class HybridInts {
    private final PageStream in;
    private final int width; // bits
    private final int[] group = new int[8];
    private long left; // of the run, numbers
    private boolean packed;
    private int value; // of a run of one number

    HybridInts(PageStream in, int width) throws IOException {
        if (width < 0 || width > 32) {
            throw new IOException("numbers of " + width + " bits");
        }
        this.in = in;
        this.width = width;
    }

    int next() throws IOException {
        while (left == 0) {
            startRun();
        }
        if (packed && left % 8 == 0) {
            unpack();
        }
        left--;
        return packed ? group[7 - (int) (left % 8)] : value;
    }

    private void startRun() throws IOException {
        long header = in.readVarint();
        packed = (header & 1) != 0;
        left = header >>> 1;
        if (packed) {
            if (left > 1L << 40) {
                throw new IOException("a run of " + left + " groups");
            }
            left *= 8;
        } else {
            value = 0;
            for (int i = 0; i < (width + 7) / 8; i++) {
                value |= in.readByte() << 8 * i;
            }
        }
    }

    private void unpack() throws IOException {
        long bits = 0;
        int held = 0;
        for (int i = 0; i < 8; i++) {
            while (held < width) { // never more than 39 bits
                bits |= (long) in.readByte() << held;
                held += 8;
            }
            group[i] = (int) (bits & (1L << width) - 1);
            bits >>>= width;
            held -= width;
        }
    }
}
