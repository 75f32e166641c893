package lapidary.op;

import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.device.DType;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Images as rows of patch embeddings: each patch of pixels, flattened by channel, row and column, times the weight, plus
 * bias, plus the embedding of the patch's place. A convolution whose stride is its kernel is this product.
 *
 * <p>Pixels are converted to the weight's dtype, the product with its bias is rounded, and the sum with the place is rounded
 * again, as in the reference. Pixels get no gradient.
 *
 * @see <a href="https://arxiv.org/abs/2010.11929">Vision transformer</a>
 */
public final class PatchEmbedding implements Op {
    private static final int CHANNELS = 3;

    private final Tensor pixels; // [images, 3, size, size]  F32
    private final Tensor weight; // [out, 3 * patch * patch]  BF16 or F32
    private final Tensor bias; // [out]  dtype of weight
    private final Tensor positionTable; // [patches, out]  dtype of weight
    private final int images;
    private final int size;
    private final int patch;

    /**
     * @throws IllegalArgumentException where the images are not whole square patches of the weight's size, or the table does
     *     not have a row for each patch
     */
    public PatchEmbedding(Tensor pixels, Tensor weight, Tensor bias, Tensor positionTable) {
        Check.dtype("patch_embedding pixels", pixels, DType.F32);
        Check.floating("patch_embedding weight", weight);
        Check.matrix("patch_embedding weight", weight);
        if (pixels.shape().rank() != 4) {
            throw new IllegalArgumentException("[patch_embedding pixels] is " + pixels.shape() + ", expected [images, "
                    + CHANNELS + ", size, size]");
        }
        images = Math.toIntExact(pixels.shape().axis(0));
        size = Math.toIntExact(pixels.last());
        Check.shape("patch_embedding pixels", pixels, images, CHANNELS, size, size);
        patch = (int) Math.round(Math.sqrt(weight.last() / (double) CHANNELS));
        if (patch < 1 || (long) CHANNELS * patch * patch != weight.last() || size % patch != 0) {
            throw new IllegalArgumentException("[patch_embedding weight] is " + weight.shape()
                    + ", expected [out, 3 * patch * patch] of a patch that divides the images' size " + size);
        }
        long out = weight.shape().axis(0);
        Check.shape("patch_embedding bias", bias, out);
        Check.dtype("patch_embedding bias", bias, weight);
        Check.shape("patch_embedding position table", positionTable, patches(), out);
        Check.dtype("patch_embedding position table", positionTable, weight);
        this.pixels = pixels;
        this.weight = weight;
        this.bias = bias;
        this.positionTable = positionTable;
    }

    /** Patches of one image. */
    private long patches() {
        return (long) (size / patch) * (size / patch);
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(weight, bias, positionTable);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y =
                frame.empty(weight.dtype(), images * patches(), weight.shape().axis(0));
        try (Frame scratch = frame.child("patches")) {
            frame.gemm().linear(y, unfolded(scratch), weight, bias);
        }
        frame.kernels().addRows(y, y, positionTable);
        return y;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        if (grads.wants(weight)) {
            // Unfolding again costs less than holding the patches from forward on.
            Tensor dw = frame.empty(DType.F32, weight.shape());
            frame.gemm().multiply(dw, dy, true, unfolded(frame), false, Tensor.NONE, 1, false);
            grads.add(weight, dw);
        }
        if (grads.wants(bias)) {
            Tensor db = frame.empty(DType.F32, bias.shape());
            frame.kernels().sumRows(db, dy);
            grads.add(bias, db);
        }
        if (grads.wants(positionTable)) {
            Tensor dtable = frame.empty(DType.F32, positionTable.shape());
            frame.kernels().sumRows(dtable, dy);
            grads.add(positionTable, dtable);
        }
    }

    private Tensor unfolded(Frame frame) {
        Tensor rows = frame.empty(weight.dtype(), images * patches(), weight.last());
        frame.kernels().patchUnfold(rows, pixels, images, CHANNELS, size, patch);
        return rows;
    }
}
