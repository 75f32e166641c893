package lapidary.device;

/**
 * Matrix products. A matrix is an operand seen as {@code [rows, last]}; {@code transposed} uses it the other way round.
 * Sums run in F32 for every dtype.
 */
public interface Gemm {
    /**
     * {@code c = factor * op(a) op(b) + bias (+ c where accumulate)}.
     *
     * <p>A BF16 c is rounded once, or as cuBLASLt does for some sizes: the product, its sum with the old c or the bias, and that
     * with the other, one after the other.
     *
     * @param c [m, n] BF16 or F32; F32 may come from BF16 operands
     * @param a [m, k], or [k, m] where transposed
     * @param b [k, n], or [n, k] where transposed; dtype of a
     * @param bias [n], dtype of a, added before the factor would apply: only with factor 1; or an operand left out
     * @throws IllegalArgumentException where shapes or dtypes do not fit, naming both
     */
    void multiply(
            Operand c,
            Operand a,
            boolean transposeA,
            Operand b,
            boolean transposeB,
            Operand bias,
            float factor,
            boolean accumulate);

    /**
     * {@code y = x wᵀ + bias} of an NF4 matrix, whose values are rounded to the dtype of x.
     *
     * @param y [rows, out], dtype of x
     * @param x [rows, in] BF16 or F32
     * @param bias [out], dtype of x, or an operand left out
     */
    void nf4Linear(Operand y, Operand x, Nf4Operand w, Operand bias);

    /**
     * {@code dx = dy w (+ dx where accumulate)} of an NF4 matrix.
     *
     * @param dx [rows, in], dtype of dy
     * @param dy [rows, out] BF16 or F32
     */
    void nf4LinearBackward(Operand dx, Operand dy, Nf4Operand w, boolean accumulate);

    /**
     * Whether an adapter's products with its matrix A had better draw their dropout themselves
     * ({@link Kernels#loraDownForward} and its backward), than be of a dropped copy.
     *
     * @param dtype of the activations
     * @param in their last axis
     */
    default boolean joinsDropout(DType dtype, long in, long rank) {
        return false;
    }

    /** {@code y = x wᵀ + bias}: a linear layer, w [out, in]. */
    default void linear(Operand y, Operand x, Operand w, Operand bias) {
        multiply(y, x, false, w, true, bias, 1, false);
    }
}
