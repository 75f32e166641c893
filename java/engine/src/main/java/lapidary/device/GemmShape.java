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
        String wrong = wrong(c, m, n, a, ka, b, kb, bias, factor);
        if (!wrong.isEmpty()) {
            throw new IllegalArgumentException("[gemm] " + wrong + (transposeA ? "transposed " : "") + a.describe()
                    + " times " + (transposeB ? "transposed " : "") + b.describe());
        }
        return new GemmShape(m, n, ka);
    }

    /** What does not fit, up to the product's own words; nothing is put into words where all does, thousands of times a step. */
    private static String wrong(
            Operand c, long m, long n, Operand a, long ka, Operand b, long kb, Operand bias, float factor) {
        if (ka != kb) {
            return "inner axes differ, " + ka + " and " + kb + ": ";
        }
        if (c.rows() != m || c.last() != n) {
            return "c is " + c.describe() + ", expected [" + m + ", " + n + "] of ";
        }
        if (a.dtype() != b.dtype() || (a.dtype() != DType.F32 && a.dtype() != DType.BF16)) {
            return "dtypes are not both F32 or both BF16: ";
        }
        if (c.dtype() != DType.F32 && c.dtype() != a.dtype()) {
            return "c is " + c.describe() + ", expected F32 or " + a.dtype() + ", of ";
        }
        if (!bias.isNone() && (bias.elements() != n || bias.dtype() != a.dtype())) {
            return "bias is " + bias.describe() + ", expected " + a.dtype() + " [" + n + "] of ";
        }
        if (!bias.isNone() && factor != 1) {
            return "a bias goes with factor 1, not " + factor + ": ";
        }
        return "";
    }
}
