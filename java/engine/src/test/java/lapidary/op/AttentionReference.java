package lapidary.op;

import java.util.Arrays;
import lapidary.device.AttentionShape;

/** Attention with its scores, mask and probabilities written out, in double. */
final class AttentionReference {
    private final int[] starts;
    private final int[] spans; // all -1 without images
    private final AttentionShape shape;
    private final int tokens;
    private final int group;

    AttentionReference(int[] starts, int[] spans, AttentionShape shape) {
        this.starts = starts;
        this.spans = spans;
        this.shape = shape;
        this.tokens = starts[starts.length - 1];
        this.group = shape.heads() / shape.kvHeads();
    }

    /** Gradients of {@code sum(y * dy)}. */
    record Gradient(double[] dq, double[] dk, double[] dv) {}

    private int row(int token) {
        int row = 0;
        while (starts[row + 1] <= token) {
            row++;
        }
        return row;
    }

    /** The mask, element by element: [query, key]. */
    boolean[][] mask() {
        boolean[][] mask = new boolean[tokens][tokens];
        for (int q = 0; q < tokens; q++) {
            for (int k = 0; k < tokens; k++) {
                boolean sameImage = spans[q] >= 0 && spans[q] == spans[k];
                mask[q][k] = row(q) == row(k)
                        && (!shape.causal() || k <= q || sameImage)
                        && (shape.window() == 0 || k > q - shape.window());
            }
        }
        return mask;
    }

    /** [query, key] of one head. */
    private double[][] probabilities(double[] q, double[] k, int head, boolean[][] mask) {
        double[][] p = new double[tokens][tokens];
        for (int t = 0; t < tokens; t++) {
            Arrays.fill(p[t], Double.NEGATIVE_INFINITY);
            double max = Double.NEGATIVE_INFINITY;
            for (int s = 0; s < tokens; s++) {
                if (mask[t][s]) {
                    p[t][s] =
                            shape.scale() * dot(q, at(t, head, shape.heads()), k, at(s, head / group, shape.kvHeads()));
                    max = Math.max(max, p[t][s]);
                }
            }
            double sum = 0;
            for (int s = 0; s < tokens; s++) {
                p[t][s] = Math.exp(p[t][s] - max);
                sum += p[t][s];
            }
            for (int s = 0; s < tokens; s++) {
                p[t][s] /= sum;
            }
        }
        return p;
    }

    double[] forward(double[] q, double[] k, double[] v) {
        boolean[][] mask = mask();
        double[] y = new double[q.length];
        for (int head = 0; head < shape.heads(); head++) {
            double[][] p = probabilities(q, k, head, mask);
            for (int t = 0; t < tokens; t++) {
                for (int s = 0; s < tokens; s++) {
                    add(y, at(t, head, shape.heads()), v, at(s, head / group, shape.kvHeads()), p[t][s]);
                }
            }
        }
        return y;
    }

    Gradient backward(double[] dy, double[] q, double[] k, double[] v) {
        boolean[][] mask = mask();
        Gradient gradient = new Gradient(new double[q.length], new double[k.length], new double[v.length]);
        for (int head = 0; head < shape.heads(); head++) {
            double[][] p = probabilities(q, k, head, mask);
            for (int t = 0; t < tokens; t++) {
                int query = at(t, head, shape.heads());
                double[] dp = new double[tokens];
                double mean = 0;
                for (int s = 0; s < tokens; s++) {
                    int key = at(s, head / group, shape.kvHeads());
                    add(gradient.dv, key, dy, query, p[t][s]);
                    dp[s] = dot(dy, query, v, key);
                    mean += p[t][s] * dp[s];
                }
                for (int s = 0; s < tokens; s++) {
                    int key = at(s, head / group, shape.kvHeads());
                    double ds = p[t][s] * (dp[s] - mean) * shape.scale();
                    add(gradient.dq, query, k, key, ds);
                    add(gradient.dk, key, q, query, ds);
                }
            }
        }
        return gradient;
    }

    private int at(int token, int head, int heads) {
        return (token * heads + head) * shape.headDim();
    }

    private double dot(double[] a, int i, double[] b, int j) {
        double sum = 0;
        for (int c = 0; c < shape.headDim(); c++) {
            sum += a[i + c] * b[j + c];
        }
        return sum;
    }

    private void add(double[] to, int i, double[] from, int j, double factor) {
        for (int c = 0; c < shape.headDim(); c++) {
            to[i + c] += from[j + c] * factor;
        }
    }
}
