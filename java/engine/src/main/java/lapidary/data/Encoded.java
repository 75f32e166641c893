package lapidary.data;

import java.io.IOException;
import lapidary.image.ImageSource;

/**
 * Bytes of a record that are not in the heap, pictures most often.
 *
 * @param spill where they are, or null where nobody has kept them: they were only counted
 */
record Encoded(Spill spill, long at, int length) {
    /** As a picture of this name. */
    ImageSource named(String name) {
        return spill == null ? new Counted(name, length) : new Spilled(spill, name, at, length);
    }

    /** A picture of which no more is known than that it is there. */
    private record Counted(String name, long length) implements ImageSource {
        @Override
        public byte[] bytes() throws IOException {
            throw new IOException("the picture was only counted");
        }
    }

    /** A picture in the spill. */
    record Spilled(Spill spill, String name, long at, long length) implements ImageSource {
        @Override
        public byte[] bytes() throws IOException {
            return spill.read(at, Math.toIntExact(length));
        }
    }
}
