package lapidary.export;

import java.util.ArrayList;
import java.util.List;
import lapidary.gemma3.Gemma3Config;

/**
 * A weight that a Gemma 3 of some configuration has.
 *
 * @param name in memory, as adapters name modules
 * @param linear whether it is the matrix of a linear layer, which may be stored in NF4 and may have an adapter
 */
record ModelTensor(String name, List<Long> shape, boolean linear) {
    static final String HEAD = "lm_head.weight";

    /** What the decoder's names begin with. */
    static String decoder(Gemma3Config config) {
        return config.isTextOnly() ? "model." : "model.language_model.";
    }

    static String embedding(Gemma3Config config) {
        return decoder(config) + "embed_tokens.weight";
    }

    /** All weights but the output head, which may be the embedding. */
    static List<ModelTensor> of(Gemma3Config config) {
        List<ModelTensor> all = new ArrayList<>();
        if (!config.isTextOnly()) {
            vision(all, config.vision());
            long text = config.text().hiddenSize();
            long vision = config.vision().hiddenSize();
            all.add(plain("model.multi_modal_projector.mm_input_projection_weight", vision, text));
            all.add(plain("model.multi_modal_projector.mm_soft_emb_norm.weight", vision));
        }
        decoder(all, config.text(), decoder(config));
        return all;
    }

    private static void decoder(List<ModelTensor> all, Gemma3Config.Text text, String prefix) {
        long hidden = text.hiddenSize();
        long heads = (long) text.numAttentionHeads() * text.headDim();
        long kvHeads = (long) text.numKeyValueHeads() * text.headDim();
        all.add(plain(prefix + "embed_tokens.weight", text.vocabSize(), hidden));
        for (int i = 0; i < text.numHiddenLayers(); i++) {
            String layer = prefix + "layers." + i + ".";
            all.add(plain(layer + "input_layernorm.weight", hidden));
            all.add(linear(layer + "self_attn.q_proj", heads, hidden));
            all.add(linear(layer + "self_attn.k_proj", kvHeads, hidden));
            all.add(linear(layer + "self_attn.v_proj", kvHeads, hidden));
            all.add(linear(layer + "self_attn.o_proj", hidden, heads));
            all.add(plain(layer + "self_attn.q_norm.weight", text.headDim()));
            all.add(plain(layer + "self_attn.k_norm.weight", text.headDim()));
            all.add(plain(layer + "post_attention_layernorm.weight", hidden));
            all.add(plain(layer + "pre_feedforward_layernorm.weight", hidden));
            all.add(linear(layer + "mlp.gate_proj", text.intermediateSize(), hidden));
            all.add(linear(layer + "mlp.up_proj", text.intermediateSize(), hidden));
            all.add(linear(layer + "mlp.down_proj", hidden, text.intermediateSize()));
            all.add(plain(layer + "post_feedforward_layernorm.weight", hidden));
        }
        all.add(plain(prefix + "norm.weight", hidden));
    }

    private static void vision(List<ModelTensor> all, Gemma3Config.Vision vision) {
        String tower = "model.vision_tower.";
        long hidden = vision.hiddenSize();
        all.add(plain(
                tower + "embeddings.patch_embedding.weight",
                hidden,
                vision.numChannels(),
                vision.patchSize(),
                vision.patchSize()));
        all.add(plain(tower + "embeddings.patch_embedding.bias", hidden));
        all.add(plain(tower + "embeddings.position_embedding.weight", (long) vision.side() * vision.side(), hidden));
        for (int i = 0; i < vision.numHiddenLayers(); i++) {
            String layer = tower + "encoder.layers." + i + ".";
            affine(all, layer + "layer_norm1", hidden);
            for (String projection : List.of("q_proj", "k_proj", "v_proj", "out_proj")) {
                biased(all, layer + "self_attn." + projection, hidden, hidden);
            }
            affine(all, layer + "layer_norm2", hidden);
            biased(all, layer + "mlp.fc1", vision.intermediateSize(), hidden);
            biased(all, layer + "mlp.fc2", hidden, vision.intermediateSize());
        }
        affine(all, tower + "post_layernorm", hidden);
    }

    private static void affine(List<ModelTensor> all, String module, long size) {
        all.add(plain(module + ".weight", size));
        all.add(plain(module + ".bias", size));
    }

    private static void biased(List<ModelTensor> all, String module, long out, long in) {
        all.add(linear(module, out, in));
        all.add(plain(module + ".bias", out));
    }

    private static ModelTensor plain(String name, long... shape) {
        return new ModelTensor(name, boxed(shape), false);
    }

    private static ModelTensor linear(String module, long out, long in) {
        return new ModelTensor(module + ".weight", boxed(out, in), true);
    }

    private static List<Long> boxed(long... shape) {
        List<Long> axes = new ArrayList<>();
        for (long axis : shape) {
            axes.add(axis);
        }
        return axes;
    }

    /** Name of the module whose weight this is. */
    String module() {
        return name.substring(0, name.lastIndexOf('.'));
    }

    long elements() {
        return shape.stream().reduce(1L, Math::multiplyExact);
    }

    long[] axes() {
        return shape.stream().mapToLong(Long::longValue).toArray();
    }
}
