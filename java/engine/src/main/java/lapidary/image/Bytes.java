package lapidary.image;

/** A bounds-checked reader over part of an encoded image. Running off its end is a truncated file. */
final class Bytes {
    final byte[] data;
    final String format;
    int position;
    final int end;

    Bytes(String format, byte[] data, int position, int end) {
        this.format = format;
        this.data = data;
        this.position = position;
        this.end = end;
    }

    int remaining() {
        return end - position;
    }

    void need(long count, String what) throws ImageFault {
        if (count < 0 || count > remaining()) {
            throw ImageFault.truncated(format, "at byte " + end + ", in " + what);
        }
    }

    void skip(long count, String what) throws ImageFault {
        need(count, what);
        position += (int) count;
    }

    int u8(String what) throws ImageFault {
        need(1, what);
        return data[position++] & 0xff;
    }

    int u16le(String what) throws ImageFault {
        need(2, what);
        int v = (data[position] & 0xff) | (data[position + 1] & 0xff) << 8;
        position += 2;
        return v;
    }

    int u16be(String what) throws ImageFault {
        need(2, what);
        int v = (data[position] & 0xff) << 8 | (data[position + 1] & 0xff);
        position += 2;
        return v;
    }

    int u24le(String what) throws ImageFault {
        need(3, what);
        int v = (data[position] & 0xff) | (data[position + 1] & 0xff) << 8 | (data[position + 2] & 0xff) << 16;
        position += 3;
        return v;
    }

    long u32le(String what) throws ImageFault {
        long low = u16le(what);
        return low | (long) u16le(what) << 16;
    }

    long u32be(String what) throws ImageFault {
        long high = u16be(what);
        return high << 16 | u16be(what);
    }

    /** Whether the bytes at {@code at} are these ASCII characters. */
    static boolean matches(byte[] data, int at, String ascii) {
        if (at < 0 || data.length - at < ascii.length()) {
            return false;
        }
        for (int i = 0; i < ascii.length(); i++) {
            if ((data[at + i] & 0xff) != ascii.charAt(i)) {
                return false;
            }
        }
        return true;
    }
}
