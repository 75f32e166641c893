package lapidary.data;

import java.util.List;
import lapidary.image.ImageSource;

/**
 * A conversation as the model sees it, images still encoded.
 *
 * @param id the record it comes from
 * @param inputIds token ids [tokens]
 * @param tokenTypeIds 1 at image soft tokens, 0 elsewhere [tokens]
 * @param labels the id, or {@link #MASKED} where the token is no target [tokens]; the loss compares labels[t + 1] with
 *     what is predicted at t
 * @param images in the order of their soft tokens
 */
public record Sample(String id, int[] inputIds, int[] tokenTypeIds, int[] labels, List<ImageSource> images) {
    /** The label of a token that is not trained on. */
    public static final int MASKED = -100;

    public Sample {
        images = List.copyOf(images);
    }

    /** Labels that count in the loss: those of {@code labels[1:]} that are not {@link #MASKED}. */
    public int targets() {
        int n = 0;
        for (int t = 1; t < labels.length; t++) {
            n += labels[t] != MASKED ? 1 : 0;
        }
        return n;
    }
}
