package lapidary.device;

/** Matrix products of oneDNN on the host's processor. */
final class DnnlGemm implements Gemm, AutoCloseable {
    @Override
    public void multiply(
            Operand c,
            Operand a,
            boolean transposeA,
            Operand b,
            boolean transposeB,
            Operand bias,
            float factor,
            boolean accumulate) {
        throw new UnsupportedOperationException("being written");
    }

    String describe() {
        return "oneDNN";
    }

    @Override
    public void close() {}
}
