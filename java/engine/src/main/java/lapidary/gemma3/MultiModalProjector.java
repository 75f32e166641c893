package lapidary.gemma3;

import lapidary.autograd.Tape;
import lapidary.nn.Layer;
import lapidary.op.AveragePool;
import lapidary.op.Linear;
import lapidary.tensor.Tensor;

/** Patches to image tokens: average pool, RMS norm, one matrix into the text model's width. */
final class MultiModalProjector {
    private static final String NAME = "model.multi_modal_projector.";

    private final int side;
    private final int kernel;
    private final Layer mmSoftEmbNorm;
    private final Tensor mmInputProjectionWeight; // [vision hidden, text hidden], used without transpose

    MultiModalProjector(Gemma3Config config, Slots slots) {
        Gemma3Config.Vision vision = config.vision();
        side = vision.side();
        kernel = side / config.tokensPerSide();
        mmSoftEmbNorm = slots.rmsNorm(NAME + "mm_soft_emb_norm", vision.hiddenSize(), vision.layerNormEps());
        mmInputProjectionWeight = slots.weight(
                NAME + "mm_input_projection_weight",
                vision.hiddenSize(),
                config.text().hiddenSize());
    }

    /**
     * @param x [images * patches, vision hidden]
     * @return [images * tokens, text hidden]
     */
    Tensor forward(Tape tape, Tensor x, int images) {
        Tensor pooled = tape.run(new AveragePool(x, images, side, kernel));
        return tape.run(Linear.projection(mmSoftEmbNorm.apply(tape, pooled), mmInputProjectionWeight));
    }
}
