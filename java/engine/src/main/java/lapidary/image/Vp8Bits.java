package lapidary.image;

/**
 * VP8's arithmetic decoder of single bits.
 *
 * @see <a href="https://www.rfc-editor.org/rfc/rfc6386#section-7">RFC 6386, section 7</a>
 */
final class Vp8Bits {
    private final byte[] data;
    private final int end;
    private int position;

    /** The window on the data: its top 8 of {@code 8 + extra} bits are compared with the range. */
    private long value;

    private int extra = -8;
    private int range = 255; // 128 to 255
    private boolean exhausted;

    Vp8Bits(byte[] data, int from, int end) {
        this.data = data;
        this.position = from;
        this.end = end;
    }

    /** Whether bits were needed from behind the end of the data. */
    boolean exhausted() {
        return exhausted;
    }

    /** A bit that is 0 with probability {@code zero} / 256. */
    int bit(int zero) {
        if (extra < 0) {
            fill();
        }
        int split = 1 + ((range - 1) * zero >> 8);
        long bound = (long) split << extra;
        int bit;
        if (value >= bound) {
            value -= bound;
            range -= split;
            bit = 1;
        } else {
            range = split;
            bit = 0;
        }
        int shift = Integer.numberOfLeadingZeros(range) - 24;
        range <<= shift;
        extra -= shift;
        return bit;
    }

    private void fill() {
        while (extra < 40 && position < end) {
            value = value << 8 | data[position++] & 0xff;
            extra += 8;
        }
        if (extra < 0) {
            value <<= 8;
            extra += 8;
            exhausted = true;
        }
    }

    boolean flag() {
        return bit(128) != 0;
    }

    /** An unsigned number, highest bit first. */
    int number(int bits) {
        int number = 0;
        for (int i = 0; i < bits; i++) {
            number = number << 1 | bit(128);
        }
        return number;
    }

    /** A number with its sign behind it. */
    int signed(int bits) {
        int magnitude = number(bits);
        return flag() ? -magnitude : magnitude;
    }

    /** A flag, and if it is set, a signed number; else 0. */
    int optional(int bits) {
        return flag() ? signed(bits) : 0;
    }
}
