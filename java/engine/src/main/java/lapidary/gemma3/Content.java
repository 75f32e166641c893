package lapidary.gemma3;

import java.util.Objects;
import lapidary.image.ImageSource;

/** A part of a {@link Message}: words, or a picture that is still encoded. */
public sealed interface Content {

    /** Words, as they stand in the data. */
    record Text(String text) implements Content {
        public Text {
            Objects.requireNonNull(text, "text");
        }
    }

    /** A picture; it takes the place of one {@code <start_of_image>}. */
    record Image(ImageSource source) implements Content {
        public Image {
            Objects.requireNonNull(source, "source");
        }
    }
}
