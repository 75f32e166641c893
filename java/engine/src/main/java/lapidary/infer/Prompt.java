package lapidary.infer;

import java.util.List;

/**
 * What a model reads before it answers.
 *
 * @param ids [tokens]
 * @param types [tokens], 1 for an image's tokens
 * @param pixels per image, F32 [channels, size, size], in the order of their tokens
 */
record Prompt(int[] ids, int[] types, List<float[]> pixels) {
    Prompt {
        pixels = List.copyOf(pixels);
    }

    int tokens() {
        return ids.length;
    }
}
