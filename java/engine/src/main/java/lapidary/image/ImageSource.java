package lapidary.image;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Where an encoded image comes from. It is read only when its pixels are needed, and may be read more than once. */
public interface ImageSource {

    /** What an error message calls this image: a path, or the record that holds it. */
    String name();

    /** The encoded file; the caller does not change the array. */
    byte[] bytes() throws IOException;

    /** Length of the encoded file, bytes; where it can be, found without reading it. */
    default long length() throws IOException {
        return bytes().length;
    }

    /** An image that is in memory already. {@code encoded} is not copied. */
    static ImageSource of(String name, byte[] encoded) {
        return new InMemory(name, encoded);
    }

    /** An image file. */
    static ImageSource of(Path file) {
        return new OnDisk(file);
    }

    /** Encoded bytes and the name to call them by. */
    record InMemory(String name, byte[] bytes) implements ImageSource {}

    /** A file that is read at each call of {@link #bytes()}. */
    record OnDisk(Path file) implements ImageSource {
        /** Encoded images above this many bytes are refused: none that decodes to less than the pixel limit is larger. */
        private static final long MAX_BYTES = 1L << 30;

        @Override
        public String name() {
            return file.toString();
        }

        @Override
        public long length() throws IOException {
            return Files.size(file);
        }

        @Override
        public byte[] bytes() throws IOException {
            long size = length();
            if (size > MAX_BYTES) {
                throw new IOException("the file has " + size + " bytes, expected an image of at most " + MAX_BYTES);
            }
            return Files.readAllBytes(file);
        }
    }
}
