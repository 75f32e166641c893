package lapidary.gemma3;

import java.util.ArrayList;
import java.util.List;
import lapidary.autograd.Tape;
import lapidary.device.AttentionShape;
import lapidary.device.DType;
import lapidary.nn.Layer;
import lapidary.nn.RmsNorm;
import lapidary.op.Attention;
import lapidary.op.Embedding;
import lapidary.op.Geglu;
import lapidary.op.RopeTable;
import lapidary.op.Segments;
import lapidary.tensor.Tensor;

/**
 * Gemma 3's text decoder.
 *
 * <p>Each layer normalises before and after attention and before and after the feed-forward network; every sixth layer
 * attends to everything before it, the others to a window; queries and keys are normalised per head before the rotary
 * embedding.
 *
 * @see <a href="https://arxiv.org/abs/2503.19786">Gemma 3 technical report</a>
 */
final class Gemma3Decoder {
    /** Whom the tokens of a pass attend to: each other, or what is cached too. */
    interface Attends {
        /**
         * @param layer number of the layer
         * @param q [tokens, heads * headDim], rotated, as k [tokens, kvHeads * headDim] is
         * @return [tokens, heads * headDim]
         */
        Tensor attend(Tape tape, int layer, Tensor q, Tensor k, Tensor v, AttentionShape shape);
    }

    /** What attention needs to know of the tokens of a pass. */
    record Context(Tensor positions, Attends attends, RopeTable globalRope, RopeTable localRope) {
        /** Of a packed batch, each of whose rows is all that its tokens see. */
        static Context packed(Tensor positions, Segments segments, RopeTable globalRope, RopeTable localRope) {
            Attends rows = (tape, layer, q, k, v, shape) -> tape.run(new Attention(q, k, v, segments, shape));
            return new Context(positions, rows, globalRope, localRope);
        }
    }

    private final Gemma3Config.Text config;
    private final Tensor embedTokens; // [vocab, hidden]
    private final List<DecoderLayer> layers = new ArrayList<>();
    private final Layer norm;

    /** @param prefix of the weights' names, {@code model.language_model.} or {@code model.} */
    Gemma3Decoder(Gemma3Config.Text config, Slots slots, String prefix) {
        this.config = config;
        this.embedTokens = slots.table(
                prefix + "embed_tokens", prefix + "embed_tokens.weight", config.vocabSize(), config.hiddenSize());
        for (int i = 0; i < config.numHiddenLayers(); i++) {
            layers.add(new DecoderLayer(
                    config,
                    slots,
                    prefix + "layers." + i + ".",
                    i,
                    config.globalLayer().get(i)));
        }
        this.norm = slots.rmsNorm(prefix + "norm", config.hiddenSize(), config.rmsNormEps());
    }

    /** Scaled embeddings [tokens, hidden]; the scale sqrt(hidden) is rounded to the weights' dtype first. */
    Tensor embed(Tape tape, int[] ids) {
        float scale = (float) Math.sqrt(config.hiddenSize());
        return tape.run(new Embedding(
                embedTokens, ids, embedTokens.dtype() == DType.BF16 ? toBf16(scale) : scale, config.padTokenId()));
    }

    /** Hidden states after the last norm, [tokens, hidden]. */
    Tensor forward(Pass pass, Tensor embeddings, Context context) {
        Tensor h = embeddings;
        for (int i = 0; i < layers.size(); i++) {
            DecoderLayer layer = layers.get(i);
            h = pass.layer("decoder layer " + i, h, (t, x) -> layer.forward(t, x, context));
        }
        return norm.apply(pass.tape(), h);
    }

    private static float toBf16(float x) {
        int bits = Float.floatToRawIntBits(x);
        return Float.intBitsToFloat((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000);
    }

    private static final class DecoderLayer {
        private final SelfAttention selfAttn;
        private final Layer gateProj;
        private final Layer upProj;
        private final Layer downProj;
        private final Layer inputLayernorm;
        private final RmsNorm postAttentionLayernorm;
        private final Layer preFeedforwardLayernorm;
        private final RmsNorm postFeedforwardLayernorm;

        DecoderLayer(Gemma3Config.Text config, Slots slots, String name, int number, boolean global) {
            int hidden = config.hiddenSize();
            int inter = config.intermediateSize();
            float eps = config.rmsNormEps();
            selfAttn = new SelfAttention(config, slots, name + "self_attn.", number, global);
            gateProj = slots.linear(name + "mlp.gate_proj", hidden, inter, false);
            upProj = slots.linear(name + "mlp.up_proj", hidden, inter, false);
            downProj = slots.linear(name + "mlp.down_proj", inter, hidden, false);
            inputLayernorm = slots.rmsNorm(name + "input_layernorm", hidden, eps);
            postAttentionLayernorm = slots.rmsNorm(name + "post_attention_layernorm", hidden, eps);
            preFeedforwardLayernorm = slots.rmsNorm(name + "pre_feedforward_layernorm", hidden, eps);
            postFeedforwardLayernorm = slots.rmsNorm(name + "post_feedforward_layernorm", hidden, eps);
        }

        Tensor forward(Tape tape, Tensor x, Context context) { // x: [tokens, hidden]
            Tensor attended = selfAttn.forward(tape, inputLayernorm.apply(tape, x), context);
            Tensor h = postAttentionLayernorm.addTo(tape, x, attended);
            Tensor fed = feedForward(tape, preFeedforwardLayernorm.apply(tape, h));
            return postFeedforwardLayernorm.addTo(tape, h, fed);
        }

        private Tensor feedForward(Tape tape, Tensor x) {
            Tensor gate = gateProj.apply(tape, x);
            Tensor up = upProj.apply(tape, x);
            return downProj.apply(tape, tape.run(new Geglu(gate, up)));
        }
    }

    private static final class SelfAttention {
        private final int layer;
        private final AttentionShape shape;
        private final boolean global;
        private final Layer qProj;
        private final Layer kProj;
        private final Layer vProj;
        private final Layer oProj;
        private final RmsNorm qNorm;
        private final RmsNorm kNorm;

        SelfAttention(Gemma3Config.Text config, Slots slots, String name, int layer, boolean global) {
            int hidden = config.hiddenSize();
            int queries = config.numAttentionHeads() * config.headDim();
            int keys = config.numKeyValueHeads() * config.headDim();
            this.layer = layer;
            this.global = global;
            this.shape = new AttentionShape(
                    config.numAttentionHeads(),
                    config.numKeyValueHeads(),
                    config.headDim(),
                    (float) (1 / Math.sqrt(config.queryPreAttnScalar())),
                    true,
                    global ? 0 : config.slidingWindow());
            qProj = slots.linear(name + "q_proj", hidden, queries, false);
            kProj = slots.linear(name + "k_proj", hidden, keys, false);
            vProj = slots.linear(name + "v_proj", hidden, keys, false);
            oProj = slots.linear(name + "o_proj", queries, hidden, false);
            qNorm = slots.rmsNorm(name + "q_norm", config.headDim(), config.rmsNormEps());
            kNorm = slots.rmsNorm(name + "k_norm", config.headDim(), config.rmsNormEps());
        }

        Tensor forward(Tape tape, Tensor x, Context context) {
            RopeTable rope = global ? context.globalRope() : context.localRope();
            Tensor q =
                    qNorm.rotated(tape, qProj.apply(tape, x), rope, context.positions()); // [tokens, heads * headDim]
            Tensor k =
                    kNorm.rotated(tape, kProj.apply(tape, x), rope, context.positions()); // [tokens, kvHeads * headDim]
            Tensor v = vProj.apply(tape, x);
            return oProj.apply(tape, context.attends().attend(tape, layer, q, k, v, shape));
        }
    }
}
