package lapidary.device;

/**
 * What a checked matrix product is: [m, k] times [k, n].
 *
 * @param m rows of the result
 * @param n columns of the result
 * @param k length of the sums
 */
record GemmShape(long m, long n, long k) {
    /** @throws IllegalArgumentException where operands do not fit as {@link Gemm#multiply} says, naming them */
    static GemmShape of(
            Operand c, Operand a, boolean transposeA, Operand b, boolean transposeB, Operand bias, float factor) {
        long m = transposeA ? a.last() : a.rows();
        long ka = transposeA ? a.rows() : a.last();
        long kb = transposeB ? b.last() : b.rows();
        long n = transposeB ? b.rows() : b.last();
        if (a.isNone() || b.isNone() || c.isNone()) {
            throw new IllegalArgumentException("[gemm] an operand is left out: c is " + c.describe() + ", a is "
                    + a.describe() + ", b is " + b.describe());
        }
        String product = (transposeA ? "transposed " : "") + a.describe() + " times "
                + (transposeB ? "transposed " : "") + b.describe();
        if (ka != kb) {
            throw new IllegalArgumentException("[gemm] inner axes differ, " + ka + " and " + kb + ": " + product);
        }
        if (c.rows() != m || c.last() != n) {
            throw new IllegalArgumentException(
                    "[gemm] c is " + c.describe() + ", expected [" + m + ", " + n + "] of " + product);
        }
        if (a.dtype() != b.dtype() || (a.dtype() != DType.F32 && a.dtype() != DType.BF16)) {
            throw new IllegalArgumentException("[gemm] dtypes are not both F32 or both BF16: " + product);
        }
        if (c.dtype() != DType.F32 && c.dtype() != a.dtype()) {
            throw new IllegalArgumentException(
                    "[gemm] c is " + c.describe() + ", expected F32 or " + a.dtype() + ", of " + product);
        }
        if (!bias.isNone() && (bias.elements() != n || bias.dtype() != a.dtype())) {
            throw new IllegalArgumentException(
                    "[gemm] bias is " + bias.describe() + ", expected " + a.dtype() + " [" + n + "] of " + product);
        }
        if (!bias.isNone() && factor != 1) {
            throw new IllegalArgumentException("[gemm] a bias goes with factor 1, not " + factor + ": " + product);
        }
        return new GemmShape(m, n, ka);
    }
}
