package lapidary.image;

import java.util.Arrays;

/** One colour component of a JPEG, as the frame's header has it, and what of it has been read. */
final class JpegComponent {
    final int id;
    final int across; // sampling factors, 1 to 4
    final int down;
    final int tableNumber;

    /** Whether it has had a scan, with which its quantisers are fixed. */
    boolean isBegun;

    /** Progressive: of each coefficient, the bit position down to which it is known; -1 before its first scan. */
    final int[] known = new int[64];

    // of the current scan
    int dcTable;
    int acTable;

    JpegComponent(int id, int across, int down, int tableNumber) {
        this.id = id;
        this.across = across;
        this.down = down;
        this.tableNumber = tableNumber;
        Arrays.fill(known, -1);
    }
}
