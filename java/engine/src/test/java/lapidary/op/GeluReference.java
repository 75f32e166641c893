package lapidary.op;

/** Plain loops in double for gelu and what contains it. */
final class GeluReference {
    private GeluReference() {}

    /** 0.5 x (1 + tanh(z / 2)), without what cancels where z is far below 0. */
    static double gelu(double x) {
        return x / (1 + Math.exp(-exponent(x)));
    }

    /** z = 2 sqrt(2 / pi) (x + 0.044715 x^3). */
    static double exponent(double x) {
        return 2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x);
    }

    static double derivative(double x) {
        double u = Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x);
        double du = Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x);
        double tanh = Math.tanh(u);
        return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * du;
    }
}
