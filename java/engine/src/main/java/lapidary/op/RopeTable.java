package lapidary.op;

import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Cosines and sines of the rotary embedding, one row a position.
 *
 * @param cos F32 [positions, headDim / 2], values rounded to the dtype of what is rotated
 * @param sin like cos
 */
public record RopeTable(Tensor cos, Tensor sin) {
    public RopeTable {
        Check.dtype("rope table cos", cos, DType.F32);
        Check.matrix("rope table cos", cos);
        Check.same("rope table sin", sin, cos);
    }

    /**
     * The table as Transformers computes it, every step in F32: {@code frequency[j] = 1 / theta^(2 j / headDim) / factor},
     * {@code angle = position * frequency}, then cosine and sine.
     *
     * @param dtype of what will be rotated; for BF16 the values are rounded to it
     * @param positions rows of the table
     * @param theta base of the frequencies
     * @param factor linear scaling; 1 for none
     */
    public static RopeTable of(Frame frame, DType dtype, int positions, int headDim, double theta, double factor) {
        if (headDim < 2 || headDim % 2 != 0) {
            throw new IllegalArgumentException("[rope table] headDim is " + headDim + ", expected an even number");
        }
        if (!(theta > 0) || !(factor > 0) || Double.isInfinite(theta) || Double.isInfinite(factor)) {
            throw new IllegalArgumentException(
                    "[rope table] theta is " + theta + " and factor " + factor + ", expected positive numbers");
        }
        int half = headDim / 2;
        float[] frequency = new float[half];
        for (int j = 0; j < half; j++) {
            float power = (float) Math.pow((float) theta, (float) (2 * j) / headDim);
            frequency[j] = 1 / power / (float) factor;
        }
        int n = Math.multiplyExact(positions, half);
        float[] cos = new float[n];
        float[] sin = new float[n];
        for (int i = 0; i < n; i++) {
            float angle = (i / half) * frequency[i % half];
            cos[i] = (float) Math.cos(angle);
            sin[i] = (float) Math.sin(angle);
        }
        return new RopeTable(
                rounded(frame, frame.of(cos, positions, half), dtype),
                rounded(frame, frame.of(sin, positions, half), dtype));
    }

    /** How many positions it holds. */
    public int positions() {
        return (int) cos.rows();
    }

    public int headDim() {
        return (int) cos.last() * 2;
    }

    private static Tensor rounded(Frame frame, Tensor x, DType dtype) {
        if (dtype != DType.F32) {
            try (Frame scratch = frame.child("rope table")) {
                Tensor narrow = scratch.empty(dtype, x.shape());
                frame.kernels().convert(narrow, x, 1);
                frame.kernels().convert(x, narrow, 1);
            }
        }
        return x;
    }
}
