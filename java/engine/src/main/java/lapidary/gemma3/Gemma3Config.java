package lapidary.gemma3;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * What a Gemma 3 config.json says: sizes 270m to 27b, text-only ({@code gemma3_text}) and with images ({@code gemma3}),
 * sparse files and new-style ones. Every key is used, or ignored with a reason; an unknown one is an error.
 *
 * @param vision null for a text-only model
 * @param eosTokenIds ids that end an answer
 * @param isQuantized whether linear layers are stored in NF4
 */
public record Gemma3Config(
        Text text,
        Vision vision,
        int imageTokenId,
        int mmTokensPerImage,
        List<Integer> eosTokenIds,
        boolean isQuantized) {
    /** Keys that say how a model was made, stored or is generated with; none changes what training computes. */
    private static final Set<String> IGNORED = Set.of(
            "architectures", // model_type decides
            "transformers_version",
            "torch_dtype", // --dtype decides
            "dtype",
            "_name_or_path",
            "auto_map", // names Python code, which is never run here
            "initializer_range", // of random initialisation
            "use_cache", // of generation
            "cache_implementation",
            "bos_token_id", // the tokenizer's file decides
            "is_encoder_decoder",
            "is_decoder",
            "add_cross_attention",
            "cross_attention_hidden_size",
            "tie_encoder_decoder",
            "output_hidden_states",
            "output_attentions",
            "return_dict",
            "return_dict_in_generate",
            "output_scores",
            "torchscript",
            "use_bfloat16",
            "chunk_size_feed_forward",
            "pruned_heads",
            "id2label",
            "label2id",
            "problem_type",
            "finetuning_task",
            "task_specific_params",
            "tokenizer_class",
            "prefix",
            "sep_token_id",
            "decoder_start_token_id",
            "tf_legacy_loss",
            "max_length", // of generation, from here on
            "min_length",
            "do_sample",
            "early_stopping",
            "num_beams",
            "num_beam_groups",
            "diversity_penalty",
            "temperature",
            "top_k",
            "top_p",
            "typical_p",
            "repetition_penalty",
            "length_penalty",
            "no_repeat_ngram_size",
            "encoder_no_repeat_ngram_size",
            "bad_words_ids",
            "num_return_sequences",
            "begin_suppress_tokens",
            "suppress_tokens",
            "exponential_decay_length_penalty",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "remove_invalid_values");

    private static final int MAX_LAYERS = 1024;

    /** Largest head that the attention kernels hold. */
    private static final int MAX_HEAD_DIM = 256;

    /**
     * The text decoder.
     *
     * @param globalLayer per layer, whether it attends to everything before it instead of a window
     * @param finalLogitSoftcapping 0 for none
     * @param maxPositionEmbeddings tokens that a prompt and its answer may have together, or a row that is trained on
     */
    public record Text(
            int vocabSize,
            int hiddenSize,
            int intermediateSize,
            int numHiddenLayers,
            int numAttentionHeads,
            int numKeyValueHeads,
            int headDim,
            double queryPreAttnScalar,
            int slidingWindow,
            float rmsNormEps,
            Rope globalRope,
            Rope localRope,
            List<Boolean> globalLayer,
            double finalLogitSoftcapping,
            int padTokenId,
            boolean tieWordEmbeddings,
            int maxPositionEmbeddings) {}

    /** Rotary embedding: base frequency, and the factor that positions are divided by. */
    public record Rope(double theta, double factor) {}

    /** The SigLIP tower. */
    public record Vision(
            int hiddenSize,
            int intermediateSize,
            int numHiddenLayers,
            int numAttentionHeads,
            int numChannels,
            int imageSize,
            int patchSize,
            float layerNormEps) {
        /** Patches along one side. */
        public int side() {
            return imageSize / patchSize;
        }
    }

    public boolean isTextOnly() {
        return vision == null;
    }

    /** Image tokens along one side. */
    public int tokensPerSide() {
        return (int) Math.sqrt(mmTokensPerImage);
    }

    /**
     * @param file for messages
     * @throws lapidary.format.FormatException naming the key that is unknown, missing, or not what this engine computes
     */
    public static Gemma3Config parse(String file, JsonNode json) {
        ConfigReader top = new ConfigReader(file, "", json);
        boolean quantized = top.has("quantization_config");
        if (quantized) {
            checkQuantization(top.object("quantization_config"));
        }
        String type = top.text("model_type", "(none)");
        return switch (type) {
            case "gemma3_text" -> textOnly(top, quantized);
            case "gemma3" -> multimodal(top, quantized);
            default -> throw top.invalid(
                    "model_type is " + type + ", expected gemma3 or gemma3_text: this engine trains Gemma 3");
        };
    }

    /** What Transformers writes of bitsandbytes. Shapes and scales stand beside each tensor, and are read from there. */
    private static void checkQuantization(ConfigReader c) {
        if (!c.text("quant_method", "(none)").equals("bitsandbytes")) {
            throw c.wrong(
                    "quant_method",
                    "bitsandbytes: this engine reads its NF4 and no other quantisation; give it the"
                            + " unquantised checkpoint of the same model");
        }
        if (c.flag("load_in_8bit", false) || c.flag("_load_in_8bit", false)) {
            throw c.invalid(
                    "load_in_8bit is true: this engine reads NF4, not LLM.int8; give it the unquantised checkpoint"
                            + " of the same model");
        }
        if (!c.flag("load_in_4bit", c.flag("_load_in_4bit", false))) {
            throw c.invalid("load_in_4bit is not true, expected a checkpoint in NF4");
        }
        c.flag("_load_in_4bit", true);
        if (!c.text("bnb_4bit_quant_type", "fp4").equals("nf4")) {
            throw c.invalid("bnb_4bit_quant_type is " + c.text("bnb_4bit_quant_type", "fp4")
                    + ", expected nf4: give the unquantised checkpoint of the same model, or one in NF4");
        }
        c.flag("bnb_4bit_use_double_quant", false);
        c.text("bnb_4bit_compute_dtype", "float32"); // --dtype decides
        c.text("bnb_4bit_quant_storage", "uint8"); // the tensors' own dtype
        // The tensors show which layers were left out; the others are settings of LLM.int8.
        c.ignore(Set.of(
                "llm_int8_skip_modules",
                "llm_int8_enable_fp32_cpu_offload",
                "llm_int8_has_fp16_weight",
                "llm_int8_threshold"));
        c.refuseUnread();
    }

    private static Gemma3Config textOnly(ConfigReader top, boolean quantized) {
        Text text = text(top, true);
        return new Gemma3Config(text, null, -1, 0, top.ids("eos_token_id", List.of(1)), quantized);
    }

    private static Gemma3Config multimodal(ConfigReader top, boolean quantized) {
        ConfigReader textConfig = top.object("text_config");
        textConfig.require("model_type", "gemma3_text");
        boolean tied = top.flag("tie_word_embeddings", true);
        Text text = text(textConfig, tied);
        Vision vision = vision(top.object("vision_config"));
        int tokens = top.size("mm_tokens_per_image", 256);
        int tokensPerSide = (int) Math.sqrt(tokens);
        if (tokensPerSide * tokensPerSide != tokens || vision.side() % tokensPerSide != 0) {
            throw top.invalid("mm_tokens_per_image is " + tokens + ", expected a square whose root divides the "
                    + vision.side() + " patches of a side");
        }
        int imageToken = top.id("image_token_index", top.id("image_token_id", 262144));
        top.id("boi_token_index", 255999); // these two are read from the tokenizer
        top.id("eoi_token_index", 256000);
        top.ignore(Set.of("pad_token_id", "boi_token_id", "eoi_token_id", "hidden_size", "vocab_size"));
        List<Integer> eos = top.ids("eos_token_id", textConfig.ids("eos_token_id", List.of(1)));
        top.ignore(IGNORED);
        top.refuseUnread();
        return new Gemma3Config(text, vision, imageToken, tokens, eos, quantized);
    }

    private static Text text(ConfigReader c, boolean tiedByDefault) {
        // Class defaults of transformers' Gemma3TextConfig; the published 4b file leaves most keys out.
        int hidden = c.size("hidden_size", 2304);
        int layers = c.size("num_hidden_layers", 26);
        int heads = c.size("num_attention_heads", 8);
        int kvHeads = c.size("num_key_value_heads", 4);
        int headDim = c.size("head_dim", 256);
        if (layers > MAX_LAYERS) {
            throw c.invalid("num_hidden_layers is " + layers + ", more than " + MAX_LAYERS);
        }
        if (heads % kvHeads != 0) {
            throw c.invalid("num_attention_heads is " + heads + ", no multiple of num_key_value_heads " + kvHeads);
        }
        if (hidden % heads != 0) {
            throw c.invalid("hidden_size is " + hidden + ", no multiple of num_attention_heads " + heads);
        }
        if (headDim % 2 != 0 || headDim > MAX_HEAD_DIM) {
            throw c.invalid("head_dim is " + headDim + ", expected an even number up to " + MAX_HEAD_DIM);
        }
        c.require("hidden_activation", "gelu_pytorch_tanh");
        c.require("hidden_act", "gelu_pytorch_tanh");
        c.require("attention_bias", false);
        c.require("use_bidirectional_attention", false);
        c.requireAbsent(
                "attn_logit_softcapping", "Gemma 3 has no soft cap on attention, and this engine computes none");
        if (c.has("attention_dropout") && c.positiveOrZero("attention_dropout") != 0) {
            throw c.wrong("attention_dropout", "0, the only value that this engine computes");
        }
        Rope[] rope = rope(c);
        Text text = new Text(
                c.size("vocab_size", 262208),
                hidden,
                c.size("intermediate_size", 9216),
                layers,
                heads,
                kvHeads,
                headDim,
                c.positive("query_pre_attn_scalar", 256),
                c.size("sliding_window", 4096),
                (float) c.positive("rms_norm_eps", 1e-6),
                rope[0],
                rope[1],
                globalLayers(c, layers),
                c.positive("final_logit_softcapping", 0),
                c.id("pad_token_id", 0),
                c.flag("tie_word_embeddings", tiedByDefault),
                c.size("max_position_embeddings", 131072));
        c.text("model_type", "gemma3_text");
        c.ids("eos_token_id", List.of());
        c.ignore(IGNORED);
        c.refuseUnread();
        return text;
    }

    /** Global and local rotary settings, from {@code rope_parameters} or from the three older keys. */
    private static Rope[] rope(ConfigReader c) {
        double globalTheta = c.positive("rope_theta", 1e6);
        double localTheta = c.positive("rope_local_base_freq", 1e4);
        if (c.has("rope_parameters")) {
            ConfigReader parameters = c.object("rope_parameters");
            Rope[] rope = {
                rope(parameters.object("full_attention"), globalTheta),
                rope(parameters.object("sliding_attention"), localTheta)
            };
            parameters.refuseUnread();
            c.has("rope_scaling");
            return rope;
        }
        Rope global = c.has("rope_scaling") ? rope(c.object("rope_scaling"), globalTheta) : new Rope(globalTheta, 1);
        return new Rope[] {global, new Rope(localTheta, 1)};
    }

    private static Rope rope(ConfigReader c, double fallbackTheta) {
        String type = c.text("rope_type", c.text("type", "default"));
        double factor =
                switch (type) {
                    case "default" -> {
                        c.has("factor");
                        yield 1;
                    }
                    case "linear" -> c.positive("factor", 1);
                    default -> throw c.invalid("rope_type is " + type + ", expected default or linear");
                };
        Rope rope = new Rope(c.positive("rope_theta", fallbackTheta), factor);
        c.refuseUnread();
        return rope;
    }

    private static List<Boolean> globalLayers(ConfigReader c, int layers) {
        int pattern = c.size("sliding_window_pattern", 6);
        c.size("_sliding_window_pattern", pattern); // transformers writes it, too, and does not read it
        List<String> types = c.texts("layer_types");
        List<Boolean> global = new ArrayList<>();
        if (types.isEmpty()) {
            for (int i = 0; i < layers; i++) {
                global.add((i + 1) % pattern == 0);
            }
            return List.copyOf(global);
        }
        if (types.size() != layers) {
            throw c.invalid("layer_types has " + types.size() + " entries for " + layers + " layers");
        }
        for (String type : types) {
            global.add(
                    switch (type) {
                        case "full_attention" -> true;
                        case "sliding_attention" -> false;
                        default -> throw c.invalid(
                                "layer_types holds " + type + ", expected full_attention or sliding_attention");
                    });
        }
        return List.copyOf(global);
    }

    private static Vision vision(ConfigReader c) {
        c.require("model_type", "siglip_vision_model");
        c.require("hidden_act", "gelu_pytorch_tanh");
        if (c.has("attention_dropout") && c.positiveOrZero("attention_dropout") != 0) {
            throw c.wrong("attention_dropout", "0, the only value that this engine computes");
        }
        // Class defaults of transformers' SiglipVisionConfig.
        Vision vision = new Vision(
                c.size("hidden_size", 768),
                c.size("intermediate_size", 3072),
                c.size("num_hidden_layers", 12),
                c.size("num_attention_heads", 12),
                c.size("num_channels", 3),
                c.size("image_size", 224),
                c.size("patch_size", 16),
                (float) c.positive("layer_norm_eps", 1e-6));
        if (vision.hiddenSize() % vision.numAttentionHeads() != 0
                || vision.hiddenSize() / vision.numAttentionHeads() > MAX_HEAD_DIM) {
            throw c.invalid("hidden_size is " + vision.hiddenSize() + ", expected a multiple of num_attention_heads "
                    + vision.numAttentionHeads() + " with heads of at most " + MAX_HEAD_DIM);
        }
        if (vision.numHiddenLayers() > MAX_LAYERS) {
            throw c.invalid("num_hidden_layers is " + vision.numHiddenLayers() + ", more than " + MAX_LAYERS);
        }
        if (vision.imageSize() % vision.patchSize() != 0) {
            throw c.invalid(
                    "image_size is " + vision.imageSize() + ", no multiple of patch_size " + vision.patchSize());
        }
        if (vision.numChannels() != 3) {
            throw c.invalid("num_channels is " + vision.numChannels() + ", expected 3");
        }
        // Gemma 3 reads the tower's tokens, never its pooling head.
        c.ignore(Set.of("vision_use_head", "projection_dim", "num_image_tokens"));
        c.ignore(IGNORED);
        c.refuseUnread();
        return vision;
    }
}
