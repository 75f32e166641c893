package lapidary.gemma3;

import java.util.ArrayList;
import java.util.List;
import lapidary.autograd.Tape;
import lapidary.device.AttentionShape;
import lapidary.nn.Layer;
import lapidary.op.Add;
import lapidary.op.Attention;
import lapidary.op.Gelu;
import lapidary.op.PatchEmbedding;
import lapidary.op.Segments;
import lapidary.tensor.Tensor;

/**
 * The SigLIP vision transformer, without its pooling head: patches, learned positions, pre-norm layers with full
 * attention inside an image.
 *
 * @see <a href="https://arxiv.org/abs/2303.15343">SigLIP</a>
 */
final class SiglipVisionTower {
    private static final String NAME = "model.vision_tower.";

    private final Gemma3Config.Vision config;
    private final Tensor patchWeight; // [hidden, channels * patch * patch]
    private final Tensor patchBias; // [hidden]
    private final Tensor positionEmbedding; // [patches, hidden]
    private final List<EncoderLayer> layers = new ArrayList<>();
    private final Layer postLayernorm;

    SiglipVisionTower(Gemma3Config.Vision config, Slots slots) {
        this.config = config;
        int hidden = config.hiddenSize();
        patchWeight = slots.convolution(
                NAME + "embeddings.patch_embedding.weight", hidden, config.numChannels(), config.patchSize());
        patchBias = slots.weight(NAME + "embeddings.patch_embedding.bias", hidden);
        positionEmbedding = slots.weight(
                NAME + "embeddings.position_embedding.weight", (long) config.side() * config.side(), hidden);
        for (int i = 0; i < config.numHiddenLayers(); i++) {
            layers.add(new EncoderLayer(config, slots, NAME + "encoder.layers." + i + "."));
        }
        postLayernorm = slots.layerNorm(NAME + "post_layernorm", hidden, config.layerNormEps());
    }

    /**
     * @param pixels F32 [images, channels, size, size]
     * @return [images * patches, hidden]
     */
    Tensor forward(Pass pass, Tensor pixels) {
        int images = (int) pixels.shape().axis(0);
        int patches = config.side() * config.side();
        int[] starts = new int[images + 1];
        for (int i = 0; i <= images; i++) {
            starts[i] = i * patches;
        }
        Tape tape = pass.tape();
        Segments segments = new Segments(tape.frame().of(starts, starts.length), Tensor.NONE);
        Tensor h = tape.run(new PatchEmbedding(pixels, patchWeight, patchBias, positionEmbedding));
        for (int i = 0; i < layers.size(); i++) {
            EncoderLayer layer = layers.get(i);
            h = pass.layer("vision layer " + i, h, (t, x) -> layer.forward(t, x, segments));
        }
        return postLayernorm.apply(tape, h);
    }

    private static final class EncoderLayer {
        private final AttentionShape shape;
        private final Layer kProj;
        private final Layer vProj;
        private final Layer qProj;
        private final Layer outProj;
        private final Layer fc1;
        private final Layer fc2;
        private final Layer layerNorm1;
        private final Layer layerNorm2;

        EncoderLayer(Gemma3Config.Vision config, Slots slots, String name) {
            int hidden = config.hiddenSize();
            int headDim = hidden / config.numAttentionHeads();
            shape = new AttentionShape(
                    config.numAttentionHeads(),
                    config.numAttentionHeads(),
                    headDim,
                    (float) (1 / Math.sqrt(headDim)),
                    false,
                    0);
            kProj = slots.linear(name + "self_attn.k_proj", hidden, hidden, true);
            vProj = slots.linear(name + "self_attn.v_proj", hidden, hidden, true);
            qProj = slots.linear(name + "self_attn.q_proj", hidden, hidden, true);
            outProj = slots.linear(name + "self_attn.out_proj", hidden, hidden, true);
            fc1 = slots.linear(name + "mlp.fc1", hidden, config.intermediateSize(), true);
            fc2 = slots.linear(name + "mlp.fc2", config.intermediateSize(), hidden, true);
            layerNorm1 = slots.layerNorm(name + "layer_norm1", hidden, config.layerNormEps());
            layerNorm2 = slots.layerNorm(name + "layer_norm2", hidden, config.layerNormEps());
        }

        Tensor forward(Tape tape, Tensor x, Segments segments) { // x: [images * patches, hidden]
            Tensor normed = layerNorm1.apply(tape, x);
            Tensor q = qProj.apply(tape, normed);
            Tensor k = kProj.apply(tape, normed);
            Tensor v = vProj.apply(tape, normed);
            Tensor attended = tape.run(new Attention(q, k, v, segments, shape));
            Tensor h = tape.run(new Add(x, outProj.apply(tape, attended)));
            Tensor inner = tape.run(new Gelu(fc1.apply(tape, layerNorm2.apply(tape, h))));
            return tape.run(new Add(h, fc2.apply(tape, inner)));
        }
    }
}
