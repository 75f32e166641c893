package lapidary.op;

/** Plain loops in double for patches and pooling. */
final class VisionReference {
    private VisionReference() {}

    /** [images * (size/patch)^2, channels * patch * patch] of [images, channels, size, size]. */
    static double[] unfold(double[] pixels, int images, int channels, int size, int patch) {
        double[] y = new double[pixels.length];
        int side = size / patch;
        int cols = channels * patch * patch;
        for (int n = 0; n < images; n++) {
            for (int c = 0; c < channels; c++) {
                for (int row = 0; row < size; row++) {
                    for (int col = 0; col < size; col++) {
                        int place = (n * side + row / patch) * side + col / patch;
                        int inside = (c * patch + row % patch) * patch + col % patch;
                        y[place * cols + inside] = pixels[((n * channels + c) * size + row) * size + col];
                    }
                }
            }
        }
        return y;
    }

    /** A convolution of stride and kernel patch, plus bias and place. */
    static double[] patchEmbedding(
            double[] pixels, double[] w, double[] bias, double[] table, int images, int size, int patch) {
        int side = size / patch;
        int out = bias.length;
        double[] y = new double[images * side * side * out];
        for (int n = 0; n < images; n++) {
            for (int p = 0; p < side * side; p++) {
                for (int o = 0; o < out; o++) {
                    double sum = bias[o] + table[p * out + o];
                    for (int c = 0; c < 3; c++) {
                        for (int i = 0; i < patch; i++) {
                            for (int j = 0; j < patch; j++) {
                                int row = p / side * patch + i;
                                int col = p % side * patch + j;
                                sum += pixels[((n * 3 + c) * size + row) * size + col]
                                        * w[((o * 3 + c) * patch + i) * patch + j];
                            }
                        }
                    }
                    y[(n * side * side + p) * out + o] = sum;
                }
            }
        }
        return y;
    }

    static double[] averagePool(double[] x, int images, int side, int kernel, int cols) {
        int out = side / kernel;
        double[] y = new double[images * out * out * cols];
        for (int n = 0; n < images; n++) {
            for (int row = 0; row < out * kernel; row++) {
                for (int col = 0; col < out * kernel; col++) {
                    for (int c = 0; c < cols; c++) {
                        y[((n * out + row / kernel) * out + col / kernel) * cols + c] +=
                                x[((n * side + row) * side + col) * cols + c] / (kernel * kernel);
                    }
                }
            }
        }
        return y;
    }
}
