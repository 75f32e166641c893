package lapidary.image;

import java.util.Arrays;

/** One colour component of a JPEG: its place in the frame, and its samples once decoded. */
final class JpegComponent {
    final int id;
    final int across; // sampling factors, 1 to 4
    final int down;
    final int tableNumber;

    /** Samples that belong to the picture. */
    int width;

    int height;

    /** Blocks of 8 x 8 that cover them, and that whole MCUs of the frame have. */
    int blocksAcross;

    int blocksDown;
    int paddedAcross;
    int paddedDown;

    /** Quantisers in zigzag order, taken from the table at the component's first scan; empty before. */
    int[] quantisers = {};

    /** [paddedDown * 8, paddedAcross * 8] */
    byte[] samples = {};

    /** [paddedDown, paddedAcross, 64] in zigzag order; empty unless the frame is progressive. */
    short[] coefficients = {};

    /** Progressive: of each coefficient, the bit position down to which it is known; -1 before its first scan. */
    final int[] known = new int[64];

    // of the current scan
    int dcTable;
    int acTable;
    int dcPrediction;

    JpegComponent(int id, int across, int down, int tableNumber) {
        this.id = id;
        this.across = across;
        this.down = down;
        this.tableNumber = tableNumber;
        Arrays.fill(known, -1);
    }

    int stride() {
        return 8 * paddedAcross;
    }
}
