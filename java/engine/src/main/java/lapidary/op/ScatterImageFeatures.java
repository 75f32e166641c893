package lapidary.op;

import java.util.BitSet;
import java.util.List;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Text embeddings with the features of images in the places of their tokens: y is x but for row {@code positions[i]}, which
 * is row i of the features.
 */
public final class ScatterImageFeatures implements Op {
    private final Tensor x; // [tokens, cols]  BF16 or F32
    private final Tensor features; // [n, cols]  dtype of x
    private final int[] positions; // [n]

    /**
     * @param positions rows of x in the order of the features, none twice
     * @throws IllegalArgumentException where there are not as many positions as features, or a position is no row of x
     */
    public ScatterImageFeatures(Tensor x, Tensor features, int[] positions) {
        Check.floating("image features x", x);
        Check.matrix("image features x", x);
        Check.matrix("image features", features);
        Check.last("image features", features, x.last());
        Check.dtype("image features", features, x);
        if (positions.length != features.rows()) {
            throw new IllegalArgumentException("Image features and image tokens do not match, tokens: "
                    + positions.length + ", features: " + features.rows());
        }
        BitSet taken = new BitSet();
        for (int i = 0; i < positions.length; i++) {
            if (positions[i] < 0 || positions[i] >= x.rows() || taken.get(positions[i])) {
                throw new IllegalArgumentException("[image features] position " + positions[i] + " of feature " + i
                        + " is taken twice or outside the " + x.rows() + " tokens");
            }
            taken.set(positions[i]);
        }
        this.x = x;
        this.features = features;
        this.positions = positions.clone();
    }

    @Override
    public List<Tensor> inputs() {
        return List.of(x, features);
    }

    @Override
    public Tensor forward(Frame frame) {
        Tensor y = frame.emptyLike(x);
        frame.kernels().convert(y, x, 1);
        try (Frame scratch = frame.child("positions")) {
            frame.kernels().scatterRows(y, features, scratch.of(positions, positions.length));
        }
        return y;
    }

    @Override
    public void backward(Tensor dy, Frame frame, Gradients grads) {
        Tensor index = frame.of(positions, positions.length);
        if (grads.wants(features)) {
            Tensor dfeatures = frame.emptyLike(features);
            frame.kernels().gatherRows(dfeatures, dy, index);
            grads.add(features, dfeatures);
        }
        if (grads.wants(x)) {
            Tensor dx = frame.emptyLike(x);
            frame.kernels().convert(dx, dy, 1);
            frame.kernels().scatterRows(dx, Tensor.NONE, index);
            grads.add(x, dx);
        }
    }
}
