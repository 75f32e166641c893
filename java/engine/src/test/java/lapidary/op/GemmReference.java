package lapidary.op;

/** The oracle of matrix products. */
final class GemmReference {
    private GemmReference() {}

    /** {@code factor * op(a) op(b) + bias + c}, row-major; bias and c may be empty. */
    static double[] multiply(
            int m, int n, int k, float[] a, boolean ta, float[] b, boolean tb, float[] bias, double factor, float[] c) {
        double[] y = new double[m * n];
        for (int i = 0; i < m; i++) {
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int l = 0; l < k; l++) {
                    sum += (double) a[ta ? l * m + i : i * k + l] * b[tb ? j * k + l : l * n + j];
                }
                y[i * n + j] = factor * sum + (bias.length == 0 ? 0 : bias[j]) + (c.length == 0 ? 0 : c[i * n + j]);
            }
        }
        return y;
    }
}
