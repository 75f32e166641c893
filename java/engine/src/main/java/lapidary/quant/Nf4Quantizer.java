package lapidary.quant;

import java.lang.foreign.MemorySegment;
import lapidary.device.DType;
import lapidary.device.Nf4Operand;
import lapidary.format.FormatException;
import lapidary.format.TensorEntry;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/**
 * Turns matrices of a checkpoint into NF4, straight from the mapped file and piece by piece, so that no matrix is ever held
 * in full precision.
 */
public final class Nf4Quantizer {
    /** Values that are quantised at once: 8 MiB of BF16, many times what wakes all threads. */
    private static final long PIECE = 1 << 22;

    private final Frame frame;
    private final DType weightDtype;
    private final Tensor nestedMap; // NONE for F32 scales

    /**
     * @param frame owns what is made
     * @param weightDtype BF16 or F32, the dtype that values are rounded to first: that of the model's other weights
     * @param nested whether to quantise the scales too
     */
    public Nf4Quantizer(Frame frame, DType weightDtype, boolean nested) {
        this.frame = frame;
        this.weightDtype = weightDtype;
        this.nestedMap = nested ? frame.of(DynamicMap.signed(), Nf4Operand.NESTED_BLOCK) : Tensor.NONE;
    }

    /** Whether scales are quantised too. */
    public boolean isNested() {
        return !nestedMap.isNone();
    }

    /** Dtype that values are rounded to first. */
    public DType weightDtype() {
        return weightDtype;
    }

    /**
     * Quantises a matrix of a checkpoint. Pages of the file that were read are given back to the system on the way.
     *
     * @param entry [out, in] BF16, F16 or F32
     * @throws FormatException naming file and tensor where it is no such matrix, or where a value is not finite
     */
    public Nf4Tensor quantize(TensorEntry entry) {
        if (entry.shape().length != 2) {
            throw entry.error("expected a matrix [out, in] to quantise");
        }
        DType dtype =
                switch (entry.dtype()) {
                    case "BF16" -> DType.BF16;
                    case "F16" -> DType.F16;
                    case "F32" -> DType.F32;
                    default -> throw entry.error("expected BF16, F16 or F32 to quantise");
                };
        long out = entry.shape()[0];
        long in = entry.shape()[1];
        long n = entry.elements();
        Tensor packed = frame.empty(DType.U8, Nf4Operand.packedBytes(n));
        try (Frame scratch = frame.child("quantize")) {
            Tensor absmax = (isNested() ? scratch : frame).empty(DType.F32, Nf4Operand.blocks(n));
            for (long from = 0; from < n; from += PIECE) {
                quantizePiece(entry, dtype, from, Math.min(n, from + PIECE), packed, absmax);
            }
            return isNested() ? nest(entry, packed, absmax, out, in) : Nf4Tensor.of(packed, absmax, out, in);
        }
    }

    private void quantizePiece(TensorEntry entry, DType dtype, long from, long to, Tensor packed, Tensor absmax) {
        MemorySegment data = entry.data().asSlice(from * dtype.bytes(), (to - from) * dtype.bytes());
        try (Frame scratch = frame.child("piece")) {
            Shape shape = Shape.of(to - from);
            // Old writers start data at any byte; kernels read whole elements.
            Tensor x = data.address() % dtype.bytes() == 0
                    ? scratch.borrow(data, dtype, shape)
                    : scratch.upload(data, dtype, shape);
            frame.kernels()
                    .nf4Quantize(
                            packed.slice(from / 2, Nf4Operand.packedBytes(to)),
                            absmax.slice(from / Nf4Operand.BLOCK, Nf4Operand.blocks(to)),
                            x,
                            weightDtype);
        } catch (IllegalArgumentException e) {
            throw new FormatException(
                    entry.error("cannot be quantised, in values from " + from + " on")
                                    .getMessage() + ": " + e.getMessage(),
                    e);
        }
        if (data.isMapped()) {
            data.unload();
        }
    }

    private Nf4Tensor nest(TensorEntry entry, Tensor packed, Tensor absmax, long out, long in) {
        Tensor codes = frame.empty(DType.U8, absmax.elements());
        Tensor nestedAbsmax = frame.empty(DType.F32, Nf4Operand.nestedBlocks(out * in));
        try (Frame scratch = frame.child("offset")) {
            Tensor offset = scratch.empty(DType.F32, 1);
            frame.kernels().nf4QuantizeAbsmax(codes, nestedAbsmax, offset, absmax, nestedMap);
            return Nf4Tensor.nested(packed, codes, nestedAbsmax, nestedMap, offset.item(), out, in);
        } catch (IllegalArgumentException e) {
            throw new FormatException(entry.error("cannot be quantised").getMessage() + ": " + e.getMessage(), e);
        }
    }
}
