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

    /** Heads of headDim, halves form; cos and sin of pos.length rows are looked up by pos. */
    static double[] rope(double[] x, double[] cos, double[] sin, int[] pos, int headDim) {
        int half = headDim / 2;
        double[] y = new double[x.length];
        for (int i = 0; i < x.length; i++) {
            int token = (int) ((long) i * pos.length / x.length);
            int column = i % headDim;
            int pair = pos[token] * half + column % half;
            y[i] = column < half
                    ? x[i] * cos[pair] - x[i + half] * sin[pair]
                    : x[i] * cos[pair] + x[i - half] * sin[pair];
        }
        return y;
    }
}
