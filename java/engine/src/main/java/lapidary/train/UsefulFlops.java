package lapidary.train;

import lapidary.gemma3.Gemma3Config;

/**
 * Floating-point operations without which there is no training: 4 a weight and token, of which the forward pass takes 2, a
 * multiplication and an addition, and the gradient of the input 2. Frozen weights have no gradient of their own; that of
 * adapters and tables that are trained, recomputed layers and attention's scores count nothing. The head counts for every token,
 * though it is left out for those that are no targets: for rows of pictures the share is that much too high. {@code bench/compare_gpu} counts
 * the same from a checkpoint's files.
 *
 * @param token of the decoder and the output head, a token
 * @param picture of the vision tower and the projector, a picture
 */
record UsefulFlops(double token, double picture) {
    private static final double A_WEIGHT = 4;

    static UsefulFlops of(Gemma3Config config) {
        return new UsefulFlops(A_WEIGHT * decoder(config.text()), config.isTextOnly() ? 0 : A_WEIGHT * tower(config));
    }

    /** Weights that each token is multiplied with. The embedding is looked up; tied, it is the head. */
    private static double decoder(Gemma3Config.Text text) {
        double attention = 2.0 * text.headDim() * (text.numAttentionHeads() + text.numKeyValueHeads());
        double layer = text.hiddenSize() * (attention + 3.0 * text.intermediateSize());
        return text.numHiddenLayers() * layer + (double) text.vocabSize() * text.hiddenSize();
    }

    /** Weights of the tower, each of its patches, and of the projector, each of its tokens. */
    private static double tower(Gemma3Config config) {
        Gemma3Config.Vision vision = config.vision();
        double hidden = vision.hiddenSize();
        double embedding = hidden * vision.numChannels() * vision.patchSize() * vision.patchSize();
        double layer = hidden * (4 * hidden + 2.0 * vision.intermediateSize());
        double patches = (double) vision.side() * vision.side();
        return patches * (embedding + vision.numHiddenLayers() * layer)
                + config.mmTokensPerImage() * hidden * config.text().hiddenSize();
    }

    double of(long tokens, long pictures) {
        return tokens * token + pictures * picture;
    }
}
