package lapidary.op;

/** Plain loops in double. */
final class LayerNormReference {
    private LayerNormReference() {}

    static double[] forward(double[] x, double[] w, double[] b, double eps) {
        int cols = w.length;
        double[] y = new double[x.length];
        for (int r = 0; r < x.length / cols; r++) {
            double mean = mean(x, r, cols);
            double rstd = rstd(x, r, cols, mean, eps);
            for (int c = 0; c < cols; c++) {
                y[r * cols + c] = (x[r * cols + c] - mean) * rstd * w[c] + b[c];
            }
        }
        return y;
    }

    /** dx, dw and db. */
    static double[][] backward(double[] dy, double[] x, double[] w, double eps) {
        int cols = w.length;
        double[] dx = new double[x.length];
        double[] dw = new double[cols];
        double[] db = new double[cols];
        for (int r = 0; r < x.length / cols; r++) {
            double mean = mean(x, r, cols);
            double rstd = rstd(x, r, cols, mean, eps);
            double sum = 0;
            double dot = 0;
            for (int c = 0; c < cols; c++) {
                int i = r * cols + c;
                double h = (x[i] - mean) * rstd;
                sum += dy[i] * w[c];
                dot += dy[i] * w[c] * h;
                dw[c] += dy[i] * h;
                db[c] += dy[i];
            }
            for (int c = 0; c < cols; c++) {
                int i = r * cols + c;
                dx[i] = rstd * (dy[i] * w[c] - sum / cols - (x[i] - mean) * rstd * dot / cols);
            }
        }
        return new double[][] {dx, dw, db};
    }

    private static double mean(double[] x, int row, int cols) {
        double sum = 0;
        for (int c = 0; c < cols; c++) {
            sum += x[row * cols + c];
        }
        return sum / cols;
    }

    private static double rstd(double[] x, int row, int cols, double mean, double eps) {
        double squares = 0;
        for (int c = 0; c < cols; c++) {
            squares += (x[row * cols + c] - mean) * (x[row * cols + c] - mean);
        }
        return 1 / Math.sqrt(squares / cols + eps);
    }
}
