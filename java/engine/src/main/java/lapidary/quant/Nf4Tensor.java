package lapidary.quant;

import lapidary.device.Nf4Operand;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * A frozen matrix [out, in] in NF4: half a byte a value, and a scale for every 64 values of the flattened matrix. Scales are
 * F32, or coded again with eight bits each (double quantisation), which comes to 0.516 instead of 0.5625 bytes a value.
 *
 * @see <a href="https://arxiv.org/abs/2305.14314">QLoRA</a>
 */
public final class Nf4Tensor implements LinearWeight {
    private final Tensor packed; // U8 [ceil(out * in / 2)]
    private final Tensor absmax; // F32 [blocks], or NONE
    private final Tensor absmaxCodes; // U8 [blocks], or NONE
    private final Tensor nestedAbsmax; // F32 [ceil(blocks / 256)], or NONE
    private final Tensor nestedMap; // F32 [256], or NONE
    private final Nf4Operand operand;

    private Nf4Tensor(
            Tensor packed,
            Tensor absmax,
            Tensor absmaxCodes,
            Tensor nestedAbsmax,
            Tensor nestedMap,
            float nestedOffset,
            long out,
            long in) {
        this.packed = packed;
        this.absmax = absmax;
        this.absmaxCodes = absmaxCodes;
        this.nestedAbsmax = nestedAbsmax;
        this.nestedMap = nestedMap;
        this.operand = new Nf4Operand(packed, absmax, absmaxCodes, nestedAbsmax, nestedMap, nestedOffset, out, in);
    }

    /**
     * A matrix with F32 scales.
     *
     * @throws IllegalArgumentException where a part's dtype or length does not belong to [out, in]
     */
    public static Nf4Tensor of(Tensor packed, Tensor absmax, long out, long in) {
        return new Nf4Tensor(packed, absmax, Tensor.NONE, Tensor.NONE, Tensor.NONE, 0, out, in);
    }

    /**
     * A matrix whose scale b is {@code nestedMap[absmaxCodes[b]] * nestedAbsmax[b / 256] + nestedOffset}.
     *
     * @throws IllegalArgumentException where a part's dtype or length does not belong to [out, in]
     */
    public static Nf4Tensor nested(
            Tensor packed,
            Tensor absmaxCodes,
            Tensor nestedAbsmax,
            Tensor nestedMap,
            float nestedOffset,
            long out,
            long in) {
        return new Nf4Tensor(packed, Tensor.NONE, absmaxCodes, nestedAbsmax, nestedMap, nestedOffset, out, in);
    }

    /** U8 [ceil(out * in / 2)], the even value in the high half of its byte. */
    public Tensor packed() {
        return packed;
    }

    /** F32 scales of blocks, or NONE where they are coded. */
    public Tensor absmax() {
        return absmax;
    }

    /** U8 codes of scales, or NONE. */
    public Tensor absmaxCodes() {
        return absmaxCodes;
    }

    /** F32 scales of the codes, or NONE. */
    public Tensor nestedAbsmax() {
        return nestedAbsmax;
    }

    /** F32 [256], what the codes stand for, or NONE. */
    public Tensor nestedMap() {
        return nestedMap;
    }

    public float nestedOffset() {
        return operand.nestedOffset();
    }

    /** Whether scales are coded. */
    public boolean isNested() {
        return absmax.isNone();
    }

    /** What kernels see. */
    public Nf4Operand operand() {
        return operand;
    }

    @Override
    public long out() {
        return operand.out();
    }

    @Override
    public long in() {
        return operand.in();
    }

    /** Bytes that the matrix takes, its scales included. */
    public long bytes() {
        return packed.bytes() + absmax.bytes() + absmaxCodes.bytes() + nestedAbsmax.bytes() + nestedMap.bytes();
    }

    @Override
    public String describe() {
        return operand.describe();
    }

    /** Writes all values to y [out, in], F32 or BF16. */
    public void dequantize(Tensor y, Frame frame) {
        if (y.rows() != out() || y.last() != in()) {
            throw new IllegalArgumentException("[dequantize] y is " + y.describe() + ", expected the shape of " + this);
        }
        frame.kernels().nf4Dequantize(y, operand, 0);
    }

    @Override
    public void multiply(Tensor y, Tensor x, Tensor bias, Frame frame) {
        frame.gemm().nf4Linear(y, x, operand, bias);
    }

    @Override
    public void multiplyBackward(Tensor dx, Tensor dy, boolean accumulate, Frame frame) {
        frame.gemm().nf4LinearBackward(dx, dy, operand, accumulate);
    }

    @Override
    public String toString() {
        return describe();
    }
}
