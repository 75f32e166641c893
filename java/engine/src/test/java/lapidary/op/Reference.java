package lapidary.op;

/** The oracle of every op: plain loops in double, from the papers' formulas. */
final class Reference {
    private Reference() {}

    static double[] rmsNorm(double[] x, double[] w, double eps) {
        int cols = w.length;
        double[] y = new double[x.length];
        for (int r = 0; r < x.length / cols; r++) {
            double squares = 0;
            for (int c = 0; c < cols; c++) {
                squares += x[r * cols + c] * x[r * cols + c];
            }
            double rstd = 1 / Math.sqrt(squares / cols + eps);
            for (int c = 0; c < cols; c++) {
                y[r * cols + c] = x[r * cols + c] * rstd * (1 + w[c]);
            }
        }
        return y;
    }
}
