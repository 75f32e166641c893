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
        return spill == null ? ImageSource.of(name, new byte[0]) : new Spilled(spill, name, at, length);
    }

    /** A picture in the spill. */
    record Spilled(Spill spill, String name, long at, int length) implements ImageSource {
        @Override
        public byte[] bytes() throws IOException {
            return spill.read(at, length);
        }
    }
}
