package lapidary.image;

/**
 * What a decoder found in a file.
 *
 * @param image pixels as stored, before any turning
 * @param orientation Exif's number, 1 to 8; 1 if the file does not say
 */
record Decoded(Rgb image, int orientation) {}
