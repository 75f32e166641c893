package lapidary.gemma3;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.List;
import lapidary.format.FormatException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The published configurations, by the facts of their conversion script, and what a config must not say. */
final class Gemma3ConfigTest {
    private static final String VISION =
            """
            {"hidden_size":1152,"image_size":896,"intermediate_size":4304,"model_type":"siglip_vision_model",
             "num_attention_heads":16,"num_hidden_layers":27,"patch_size":14,"vision_use_head":false}""";

    /** The published 4b file leaves most keys out. */
    private static final String SPARSE_4B =
            """
            {"architectures":["Gemma3ForConditionalGeneration"],"boi_token_index":255999,"eoi_token_index":256000,
             "eos_token_id":[1,106],"image_token_index":262144,"initializer_range":0.02,"mm_tokens_per_image":256,
             "model_type":"gemma3","text_config":{"hidden_size":2560,"intermediate_size":10240,
             "model_type":"gemma3_text","num_hidden_layers":34,"rope_scaling":{"factor":8.0,"rope_type":"linear"},
             "sliding_window":1024},"torch_dtype":"bfloat16","transformers_version":"4.50.0.dev0","vision_config":"""
                    + VISION + "}";

    private static Gemma3Config parse(String json) {
        try {
            return Gemma3Config.parse("config.json", new ObjectMapper().readTree(json));
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException(e);
        }
    }

    private static FormatException refused(String json) {
        return assertThrows(FormatException.class, () -> parse(json));
    }

    @Test
    void sparse4bGetsTheClassDefaults() {
        Gemma3Config config = parse(SPARSE_4B);
        Gemma3Config.Text text = config.text();
        assertEquals(262208, text.vocabSize());
        assertEquals(8, text.numAttentionHeads());
        assertEquals(4, text.numKeyValueHeads());
        assertEquals(256, text.headDim());
        assertEquals(256, text.queryPreAttnScalar());
        assertEquals(new Gemma3Config.Rope(1e6, 8), text.globalRope());
        assertEquals(new Gemma3Config.Rope(1e4, 1), text.localRope());
        assertTrue(text.tieWordEmbeddings());
        assertEquals(1024, text.slidingWindow());
        for (int i = 0; i < 34; i++) {
            assertEquals(
                    List.of(5, 11, 17, 23, 29).contains(i), text.globalLayer().get(i), "layer " + i);
        }
        assertEquals(64, config.vision().side());
        assertEquals(16, config.tokensPerSide());
        assertEquals(List.of(1, 106), config.eosTokenIds());
        assertEquals(262144, config.imageTokenId());
    }

    @Test
    void sparseWindowDefaultIsTheClassDefaultNotGemmas() {
        assertEquals(4096, parse("{\"model_type\":\"gemma3_text\"}").text().slidingWindow());
    }

    @ParameterizedTest
    @CsvSource({"640,18,4,1,2048,256", "1152,26,4,1,6912,256"})
    void textOnlySizes(int hidden, int layers, int heads, int kv, int inter, int scalar) {
        Gemma3Config config = parse("{\"model_type\":\"gemma3_text\",\"vocab_size\":262144,\"hidden_size\":" + hidden
                + ",\"num_hidden_layers\":" + layers + ",\"num_attention_heads\":" + heads
                + ",\"num_key_value_heads\":" + kv + ",\"intermediate_size\":" + inter
                + ",\"query_pre_attn_scalar\":" + scalar + ",\"sliding_window\":512,\"rope_scaling\":null}");
        assertTrue(config.isTextOnly());
        assertEquals(new Gemma3Config.Rope(1e6, 1), config.text().globalRope());
        assertEquals(hidden, config.text().hiddenSize());
    }

    @Test
    void a27bHasItsOwnHeadAndScale() {
        Gemma3Config config = parse(SPARSE_4B.replace(
                "\"hidden_size\":2560",
                "\"head_dim\":128,\"num_attention_heads\":32,\"num_key_value_heads\":16,\"query_pre_attn_scalar\":168,"
                        + "\"hidden_size\":5376"));
        assertEquals(128, config.text().headDim());
        assertEquals(168, config.text().queryPreAttnScalar());
    }

    @Test
    void newStyleFilesSayTheSame() {
        Gemma3Config config = parse(SPARSE_4B
                .replace(
                        "\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"}",
                        "\"rope_parameters\":{\"full_attention\":{\"factor\":8.0,\"rope_theta\":1000000.0,"
                                + "\"rope_type\":\"linear\"},\"sliding_attention\":{\"rope_theta\":10000.0,"
                                + "\"rope_type\":\"default\"}}")
                .replace("\"torch_dtype\"", "\"dtype\":\"bfloat16\",\"tie_word_embeddings\":true,\"torch_dtype\""));
        assertEquals(parse(SPARSE_4B), config);
    }

    @Test
    void layerTypesOverrideThePattern() {
        Gemma3Config config = parse("{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":3,\"layer_types\":"
                + "[\"full_attention\",\"sliding_attention\",\"full_attention\"]}");
        assertEquals(List.of(true, false, true), config.text().globalLayer());
        assertTrue(
                refused("{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":2,\"layer_types\":[\"full_attention\"]}")
                        .getMessage()
                        .contains("layer_types has 1 entries for 2 layers"));
    }

    @Test
    void autoMapIsIgnored() {
        assertTrue(parse("{\"model_type\":\"gemma3_text\",\"auto_map\":{\"AutoModel\":\"evil.py\"}}")
                .isTextOnly());
    }

    private static String quantized(String quantization) {
        return "{\"model_type\":\"gemma3_text\",\"quantization_config\":" + quantization + "}";
    }

    private static final String NF4 =
            """
            {"_load_in_4bit":true,"_load_in_8bit":false,"bnb_4bit_compute_dtype":"bfloat16",
             "bnb_4bit_quant_storage":"uint8","bnb_4bit_quant_type":"nf4","bnb_4bit_use_double_quant":true,
             "llm_int8_enable_fp32_cpu_offload":false,"llm_int8_has_fp16_weight":false,"llm_int8_skip_modules":null,
             "llm_int8_threshold":6.0,"load_in_4bit":true,"load_in_8bit":false,"quant_method":"bitsandbytes"}""";

    @Test
    void whatTransformersWritesOfNf4IsRead() {
        assertTrue(parse(quantized(NF4)).isQuantized());
        assertFalse(parse("{\"model_type\":\"gemma3_text\"}").isQuantized());
        assertFalse(parse(quantized("null")).isQuantized());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "\"bitsandbytes\"|\"gptq\"|quant_method",
                "\"quant_method\":\"bitsandbytes\"|\"quant_method\":null|quant_method",
                "\"load_in_8bit\":false|\"load_in_8bit\":true|load_in_8bit",
                "\"load_in_4bit\":true,\"load_in_8bit\"|\"load_in_4bit\":false,\"load_in_8bit\"|load_in_4bit",
                "\"nf4\"|\"fp4\"|bnb_4bit_quant_type",
                "\"nf4\"|4|bnb_4bit_quant_type",
                "\"bnb_4bit_use_double_quant\":true|\"bnb_4bit_use_double_quant\":1|bnb_4bit_use_double_quant",
                "\"llm_int8_threshold\":6.0|\"who_knows\":6.0|who_knows",
            })
    void otherQuantisationsAreRefusedByName(String from, String to, String key) {
        String message = refused(quantized(NF4.replace(from, to))).getMessage();
        assertTrue(message.contains("quantization_config." + key), message);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "{\"model_type\":\"gemma2\"}",
                "{}",
                "[]",
                "{\"model_type\":\"gemma3_text\",\"who_knows\":1}",
                "{\"model_type\":\"gemma3_text\",\"num_attention_heads\":6,\"num_key_value_heads\":4}",
                "{\"model_type\":\"gemma3_text\",\"hidden_size\":0}",
                "{\"model_type\":\"gemma3_text\",\"hidden_size\":\"640\"}",
                "{\"model_type\":\"gemma3_text\",\"hidden_size\":641}",
                "{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":100000}",
                "{\"model_type\":\"gemma3_text\",\"head_dim\":512}",
                "{\"model_type\":\"gemma3_text\",\"attention_bias\":true}",
                "{\"model_type\":\"gemma3_text\",\"attn_logit_softcapping\":50.0}",
                "{\"model_type\":\"gemma3_text\",\"attention_dropout\":0.1}",
                "{\"model_type\":\"gemma3_text\",\"use_bidirectional_attention\":true}",
                "{\"model_type\":\"gemma3_text\",\"hidden_activation\":\"silu\"}",
                "{\"model_type\":\"gemma3_text\",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2}}",
                "{\"model_type\":\"gemma3_text\",\"quantization_config\":{\"quant_method\":\"gptq\"}}",
                "{\"model_type\":\"gemma3\",\"text_config\":{}}",
                "{\"model_type\":\"gemma3\",\"text_config\":{},\"vision_config\":{\"image_size\":100,\"patch_size\":14}}",
                "{\"model_type\":\"gemma3\",\"text_config\":{},\"vision_config\":{\"image_size\":896,\"patch_size\":14},"
                        + "\"mm_tokens_per_image\":250}",
            })
    void whatIsNotComputedIsRefused(String json) {
        assertTrue(
                refused(json).getMessage().startsWith("config.json: "),
                refused(json).getMessage());
    }
}
