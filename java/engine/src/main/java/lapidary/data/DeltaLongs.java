package lapidary.data;

import java.io.IOException;

/**
 * Whole numbers written as differences, packed in blocks of small blocks of one width each.
 *
 * @see <a href="https://github.com/apache/parquet-format/blob/master/Encodings.md">Encodings.md, DELTA_BINARY_PACKED</a>
 */
final class DeltaLongs {
    private static final int MAX_BLOCK = 1 << 16; // numbers; writers use 128

    private final PageStream in;
    private final int[] widths; // bits, of the small blocks in the block
    private final int perSmall; // numbers in a small block
    private final long count;
    private long taken;
    private long value;
    private long least; // difference in the block
    private int small; // the small block at hand
    private int inSmall; // numbers taken from it
    private int bits; // of the last byte read that are not used yet
    private int held;

    /** Reads the head. */
    DeltaLongs(PageStream in) throws IOException {
        this.in = in;
        long block = in.readVarint();
        long smalls = in.readVarint();
        if (block < 1
                || block > MAX_BLOCK
                || smalls < 1
                || smalls > block
                || block % smalls != 0
                || block / smalls % 8 != 0) {
            throw new IOException("blocks of " + block + " differences in " + smalls + " parts");
        }
        widths = new int[(int) smalls];
        perSmall = (int) (block / smalls);
        small = widths.length;
        count = in.readVarint();
        value = zigzag();
    }

    /** Numbers in all. */
    long count() {
        return count;
    }

    long next() throws IOException {
        if (taken == count) {
            throw new IOException("only " + count + " numbers");
        }
        if (taken++ == 0) {
            return value;
        }
        if (small == widths.length) {
            startBlock();
        }
        value += least + unpack(widths[small]);
        if (++inSmall == perSmall) {
            inSmall = 0;
            small++;
        }
        return value;
    }

    /** Passes over what fills the last small block, so that what follows can be read. */
    void finish() throws IOException {
        while (inSmall > 0 && inSmall < perSmall) {
            unpack(widths[small]);
            inSmall++;
        }
    }

    private void startBlock() throws IOException {
        least = zigzag();
        for (int i = 0; i < widths.length; i++) {
            widths[i] = in.readByte();
            if (widths[i] > 64) {
                throw new IOException("differences of " + widths[i] + " bits");
            }
        }
        small = 0;
        inSmall = 0;
        held = 0;
    }

    private long unpack(int width) throws IOException {
        long out = 0;
        for (int done = 0; done < width; ) {
            if (held == 0) {
                bits = in.readByte();
                held = 8;
            }
            int n = Math.min(held, width - done);
            out |= (long) (bits & (1 << n) - 1) << done;
            bits >>>= n;
            held -= n;
            done += n;
        }
        return out;
    }

    private long zigzag() throws IOException {
        long n = in.readVarint();
        return n >>> 1 ^ -(n & 1);
    }
}
