/**
 * From an encoded image to the pixels that the vision tower reads: decode, RGB, resize, normalise, pan-and-scan.
 *
 * <p>Every format is decoded here, from its specification, to the bytes that Pillow 12 (libjpeg-turbo 3, libwebp 1.6)
 * gives: {@code java.desktop} is not used, so nothing prints, caches in files, or holds global state, and every length in
 * a file is checked before it is believed.
 */
package lapidary.image;
