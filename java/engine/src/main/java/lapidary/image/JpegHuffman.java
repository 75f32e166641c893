package lapidary.image;

/**
 * Huffman-coded coefficients, sequential and progressive.
 *
 * @see <a href="https://www.w3.org/Graphics/JPEG/itu-t81.pdf">ITU-T T.81</a>, annexes F.2 and G.2
 */
final class JpegHuffman {
    private static final String JPEG = "JPEG";

    /** A table of codes; most are shorter than this and found in one look. */
    static final class Table {
        private static final int LOOK = 9;

        private final short[] fast = new short[1 << LOOK]; // length << 8 | symbol; 0 where the code is longer
        private final int[] lastCode = new int[18]; // of each length, -1 if there is none
        private final int[] offset = new int[18]; // symbol index minus code, of each length
        private final byte[] symbols;

        /**
         * @param counts of the codes of 1 to 16 bits, from index 1
         */
        Table(int[] counts, byte[] symbols) throws ImageFault {
            this.symbols = symbols;
            int code = 0;
            int index = 0;
            for (int length = 1; length <= 16; length++) {
                offset[length] = index - code;
                for (int i = 0; i < counts[length]; i++, code++, index++) {
                    if (code >= 1 << length) {
                        throw ImageFault.damaged(JPEG, "a Huffman table has too many codes of " + length + " bits");
                    }
                    if (length <= LOOK) {
                        int from = code << (LOOK - length);
                        for (int j = 0; j < 1 << (LOOK - length); j++) {
                            fast[from + j] = (short) (length << 8 | symbols[index] & 0xff);
                        }
                    }
                }
                lastCode[length] = counts[length] > 0 ? code - 1 : -1;
                code <<= 1;
            }
        }
    }

    private final Bytes in;
    private final JpegScan scan;
    private final Table[] dcTables;
    private final Table[] acTables;

    private long bits; // the next bit is the highest of the lower bitCount
    private int bitCount;
    private int invented; // zero bits put behind the data's end
    private int endOfBandRun;

    JpegHuffman(Bytes in, JpegScan scan, Table[] dcTables, Table[] acTables) {
        this.in = in;
        this.scan = scan;
        this.dcTables = dcTables;
        this.acTables = acTables;
    }

    /**
     * Reads what the scan holds of one block.
     *
     * @param coefficients the block's 64 in zigzag order from {@code at}; zeros, or what earlier scans gave
     */
    void read(JpegComponent component, short[] coefficients, int at) throws ImageFault {
        if (!scan.progressive()) {
            dcFirst(component, coefficients, at);
            sequentialAc(acTables[component.acTable], coefficients, at);
        } else if (scan.first() == 0) {
            if (scan.high() == 0) {
                dcFirst(component, coefficients, at);
            } else if (receive(1) != 0) {
                coefficients[at] |= (short) (1 << scan.low());
            }
        } else if (scan.high() == 0) {
            acFirst(acTables[component.acTable], coefficients, at);
        } else {
            acRefine(acTables[component.acTable], coefficients, at);
        }
    }

    private void dcFirst(JpegComponent component, short[] coefficients, int at) throws ImageFault {
        int size = symbol(dcTables[component.dcTable]);
        if (size > 15) {
            throw ImageFault.damaged(JPEG, "a DC coefficient has " + size + " bits");
        }
        component.dcPrediction += extend(size);
        coefficients[at] = (short) (component.dcPrediction << scan.low());
    }

    // The bits are kept out of the fields meanwhile: this is where decoding spends its time.
    private void sequentialAc(Table table, short[] coefficients, int at) throws ImageFault {
        long bits = this.bits;
        int bitCount = this.bitCount;
        for (int k = 1; k < 64; k++) {
            if (bitCount < 32) { // a code and what follows it have 31 at most
                this.bits = bits;
                this.bitCount = bitCount;
                fill();
                bits = this.bits;
                bitCount = this.bitCount;
            }
            int symbol;
            int entry = table.fast[(int) (bits >>> (bitCount - Table.LOOK)) & (1 << Table.LOOK) - 1];
            if (entry != 0) {
                bitCount -= entry >> 8;
                symbol = entry & 0xff;
            } else {
                this.bits = bits;
                this.bitCount = bitCount;
                symbol = symbol(table);
                bitCount = this.bitCount;
            }
            int size = symbol & 15;
            if (size == 0) {
                if (symbol != 0xf0) {
                    break;
                }
                k += 15;
            } else {
                k += symbol >> 4;
                if (k > 63) {
                    throw runTooLong();
                }
                bitCount -= size;
                int value = (int) (bits >>> bitCount) & (1 << size) - 1;
                int negative = value - (1 << size - 1) >> 31; // all ones or none
                coefficients[at + k] = (short) (value + (negative & (-1 << size) + 1));
            }
        }
        this.bits = bits;
        this.bitCount = bitCount;
    }

    private void acFirst(Table table, short[] coefficients, int at) throws ImageFault {
        if (endOfBandRun > 0) {
            endOfBandRun--;
            return;
        }
        for (int k = scan.first(); k <= scan.last(); k++) {
            int symbol = symbol(table);
            int run = symbol >> 4;
            int size = symbol & 15;
            if (size != 0) {
                k += run;
                if (k > scan.last()) {
                    throw runTooLong();
                }
                coefficients[at + k] = (short) (extend(size) << scan.low());
            } else if (run == 15) {
                k += 15;
            } else {
                endOfBandRun = (1 << run) - 1 + receive(run);
                return;
            }
        }
    }

    private void acRefine(Table table, short[] coefficients, int at) throws ImageFault {
        int plus = 1 << scan.low();
        int k = scan.first();
        if (endOfBandRun == 0) {
            for (; k <= scan.last(); k++) {
                int symbol = symbol(table);
                int run = symbol >> 4;
                int size = symbol & 15;
                int value = 0;
                if (size != 0) {
                    if (size != 1) {
                        throw ImageFault.damaged(JPEG, "a refining scan holds a coefficient of " + size + " bits");
                    }
                    value = receive(1) != 0 ? plus : -plus;
                } else if (run != 15) {
                    endOfBandRun = (1 << run) + receive(run);
                    break;
                }
                // passes the coefficients that are known, with a bit for each, and run that are zero
                for (; k <= scan.last(); k++) {
                    if (coefficients[at + k] != 0) {
                        refine(coefficients, at + k);
                    } else if (--run < 0) {
                        break;
                    }
                }
                if (value != 0) {
                    if (k > scan.last()) {
                        throw runTooLong();
                    }
                    coefficients[at + k] = (short) value;
                }
            }
        }
        if (endOfBandRun > 0) {
            for (; k <= scan.last(); k++) {
                if (coefficients[at + k] != 0) {
                    refine(coefficients, at + k);
                }
            }
            endOfBandRun--;
        }
    }

    private void refine(short[] coefficients, int at) {
        int plus = 1 << scan.low();
        if (receive(1) != 0 && (coefficients[at] & plus) == 0) {
            coefficients[at] += (short) (coefficients[at] >= 0 ? plus : -plus);
        }
    }

    private ImageFault runTooLong() {
        return ImageFault.damaged(
                JPEG, "the pixels near byte " + in.position + " hold a run beyond the end of a block");
    }

    private int symbol(Table table) throws ImageFault {
        if (bitCount < 16) {
            fill();
        }
        int entry = table.fast[(int) (bits >>> (bitCount - Table.LOOK)) & (1 << Table.LOOK) - 1];
        if (entry != 0) {
            bitCount -= entry >> 8;
            return entry & 0xff;
        }
        for (int length = Table.LOOK + 1; length <= 16; length++) {
            int code = (int) (bits >>> (bitCount - length)) & (1 << length) - 1;
            if (code <= table.lastCode[length]) {
                bitCount -= length;
                return table.symbols[code + table.offset[length]] & 0xff;
            }
        }
        throw ImageFault.damaged(JPEG, "the pixels near byte " + in.position + " hold an unknown Huffman code");
    }

    private int receive(int count) {
        if (bitCount < count) {
            fill();
        }
        bitCount -= count;
        return (int) (bits >>> bitCount) & (1 << count) - 1;
    }

    /** A number of {@code size} bits, of which the negative ones are below half the range. */
    private int extend(int size) {
        if (size == 0) {
            return 0;
        }
        int value = receive(size);
        return value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
    }

    private void fill() {
        byte[] data = in.data;
        while (bitCount <= 48) {
            int next = 0;
            if (in.position < in.end && data[in.position] != -1) {
                next = data[in.position++] & 0xff;
            } else if (in.position + 1 < in.end && data[in.position + 1] == 0) {
                next = 0xff;
                in.position += 2;
            } else {
                invented += 8; // at a marker or the end: it shows if these bits are ever used
            }
            bits = bits << 8 | next;
            bitCount += 8;
        }
    }

    /** Whether more bits were read than there were. */
    boolean overrun() {
        return invented > bitCount;
    }

    /** Where reading has come to, bytes; no further than a marker. */
    int position() {
        return in.position;
    }

    /** At a restart interval's end: skips to the marker, which has to be {@code expected}, and starts afresh. */
    void restart(int expected) throws ImageFault {
        JpegDecoder.expectMarker(in, expected);
        bits = 0;
        bitCount = 0;
        invented = 0;
        endOfBandRun = 0;
    }
}
