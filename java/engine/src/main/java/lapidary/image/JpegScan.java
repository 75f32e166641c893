package lapidary.image;

/**
 * The parameters of a scan: coefficients {@code first} to {@code last} in zigzag order, at bit {@code low}; {@code high} is
 * the bit known from an earlier scan, or 0. A sequential scan is 0 to 63, bit 0.
 */
record JpegScan(boolean progressive, int first, int last, int high, int low) {}
