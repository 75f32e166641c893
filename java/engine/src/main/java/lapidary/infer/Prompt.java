package lapidary.infer;

import java.util.Arrays;
import java.util.List;
import lapidary.image.Pixels;

/**
 * What a model reads before it answers.
 *
 * @param ids [tokens]
 * @param types [tokens], 1 for an image's tokens
 * @param pixels per image, [channels, size, size], in the order of their tokens
 */
record Prompt(int[] ids, int[] types, List<? extends Pixels> pixels) {
    Prompt {
        pixels = List.copyOf(pixels);
    }

    int tokens() {
        return ids.length;
    }

    /** Tokens from {@code from} on, up to {@code most} of them or, where that would cut an image, to its end. */
    Prompt part(int from, int most) {
        int to = Math.min(from + most, ids.length);
        while (to < ids.length && isInside(to)) {
            to++;
        }
        return new Prompt(
                Arrays.copyOfRange(ids, from, to),
                Arrays.copyOfRange(types, from, to),
                pixels.subList(imagesBefore(from), imagesBefore(to)));
    }

    /** How many tokens from the first on are those of another prompt, pictures included. */
    int commonWith(Prompt other) {
        int n = 0;
        int image = -1;
        while (n < Math.min(ids.length, other.ids.length) && ids[n] == other.ids[n] && types[n] == other.types[n]) {
            if (types[n] == 1 && !isInside(n)) {
                image++;
                if (!pixels.get(image).equals(other.pixels.get(image))) {
                    return n;
                }
            }
            n++;
        }
        return n;
    }

    /** The largest number of tokens up to {@code n} that cuts no image. */
    int outsideImages(int n) {
        int outside = n;
        while (outside < ids.length && isInside(outside)) {
            outside--;
        }
        return outside;
    }

    /** Whether a token and the one before it are of one image. */
    private boolean isInside(int t) {
        return t > 0 && types[t] == 1 && types[t - 1] == 1;
    }

    private int imagesBefore(int end) {
        int images = 0;
        for (int t = 0; t < end; t++) {
            images += types[t] == 1 && !isInside(t) ? 1 : 0;
        }
        return images;
    }
}
