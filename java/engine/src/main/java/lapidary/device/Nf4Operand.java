package lapidary.device;

/**
 * An NF4 matrix as kernels see it: the six arguments that {@code native/include/kernels.h} describes, and its shape. The
 * scales of its blocks are either {@code absmax}, or the nested form of double quantisation; what is not used is left out.
 *
 * @param packed U8 [ceil(n / 2)] of n = out * in
 * @param absmax F32 [ceil(n / 64)], or left out
 * @param absmaxCodes U8 [ceil(n / 64)], or left out
 * @param nestedAbsmax F32 [ceil(ceil(n / 64) / 256)], or left out
 * @param nestedMap F32 [256], or left out
 * @param nestedOffset 0 without the nested form
 */
public record Nf4Operand(
        Operand packed,
        Operand absmax,
        Operand absmaxCodes,
        Operand nestedAbsmax,
        Operand nestedMap,
        float nestedOffset,
        long out,
        long in) {
    /** Values that share a scale. */
    public static final int BLOCK = 64;

    /** Scales that share a second one. */
    public static final int NESTED_BLOCK = 256;

    /** @throws IllegalArgumentException where an operand has another dtype or length than the shape asks for */
    public Nf4Operand {
        long n = Math.multiplyExact(out, in);
        long blocks = blocks(n);
        require("packed", packed, DType.U8, packedBytes(n));
        if (absmax.isNone()) {
            require("absmax codes", absmaxCodes, DType.U8, blocks);
            require("nested absmax", nestedAbsmax, DType.F32, nestedBlocks(n));
            require("nested map", nestedMap, DType.F32, NESTED_BLOCK);
        } else {
            require("absmax", absmax, DType.F32, blocks);
            if (!absmaxCodes.isNone() || !nestedAbsmax.isNone() || !nestedMap.isNone()) {
                throw new IllegalArgumentException("[nf4] has both absmax and nested scales, expected one of them");
            }
        }
    }

    /** Bytes of n packed values. */
    public static long packedBytes(long n) {
        return Math.ceilDiv(n, 2);
    }

    /** Blocks of n values. */
    public static long blocks(long n) {
        return Math.ceilDiv(n, BLOCK);
    }

    /** Second-level scales of n values. */
    public static long nestedBlocks(long n) {
        return Math.ceilDiv(blocks(n), NESTED_BLOCK);
    }

    /** For messages, e.g. {@code NF4 [2560, 10240]}. */
    public String describe() {
        return "NF4 [" + out + ", " + in + "]";
    }

    private static void require(String what, Operand x, DType dtype, long length) {
        if (x.dtype() != dtype || x.elements() != length) {
            throw new IllegalArgumentException(
                    "[nf4 " + what + "] is " + x.describe() + ", expected " + dtype + " [" + length + "]");
        }
    }
}
