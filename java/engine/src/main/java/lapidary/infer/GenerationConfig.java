package lapidary.infer;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import lapidary.format.FormatException;
import lapidary.format.Json;

/**
 * What a model folder's generation_config.json says. Every key is used, or changes nothing here, or asks for something that
 * this engine does not do and is refused.
 *
 * @param eosTokenIds ids that end an answer: those of config.json where this file names none. (Transformers lets such an answer run
 *     to its limit.)
 * @param maxLength tokens of a prompt and its answer together where the file says that and not how many an answer may have, else
 *     0. An answer alone may have no more than as many either, which is what {@code defaults} say
 */
record GenerationConfig(GenerationOptions defaults, Set<Integer> eosTokenIds, int maxLength) {
    private static final String FILE = "generation_config.json";

    /** Keys that choose no token. */
    private static final Set<String> IGNORED = Set.of(
            "_from_model_config",
            "transformers_version",
            "bos_token_id", // the tokenizer's file decides
            "pad_token_id",
            "decoder_start_token_id",
            "use_cache",
            "cache_implementation",
            "cache_config",
            "max_cache_len",
            "compile_config",
            "disable_compile",
            "continuous_batching_config",
            "low_memory",
            "prefill_chunk_size",
            "output_attentions",
            "output_hidden_states",
            "output_logits",
            "output_scores",
            "return_dict_in_generate",
            "early_stopping", // of beams, as the next two
            "length_penalty",
            "diversity_penalty",
            "is_assistant", // of speculative decoding, which does not change what is decoded, from here on
            "use_mtp",
            "speculation_type",
            "num_assistant_tokens",
            "num_assistant_tokens_schedule",
            "assistant_confidence_threshold",
            "assistant_early_exit",
            "assistant_ensemble_weight",
            "assistant_lookbehind",
            "target_lookbehind",
            "prompt_lookup_num_tokens",
            "max_matching_ngram_size",
            "remove_invalid_values"); // not finite logits are an error here

    /** Keys that choose other tokens unless they have this value. */
    private static final Map<String, String> NEUTRAL = Map.ofEntries(
            Map.entry("num_beams", "1"),
            Map.entry("num_beam_groups", "1"),
            Map.entry("num_return_sequences", "1"),
            Map.entry("repetition_penalty", "1.0"),
            Map.entry("encoder_repetition_penalty", "1.0"),
            Map.entry("no_repeat_ngram_size", "0"),
            Map.entry("encoder_no_repeat_ngram_size", "0"),
            Map.entry("min_length", "0"),
            Map.entry("min_new_tokens", "0"),
            Map.entry("typical_p", "1.0"),
            Map.entry("epsilon_cutoff", "0.0"),
            Map.entry("eta_cutoff", "0.0"),
            Map.entry("guidance_scale", "1.0"),
            Map.entry("renormalize_logits", "false"),
            Map.entry("token_healing", "false"),
            Map.entry("max_time", "null"),
            Map.entry("top_h", "null"),
            Map.entry("penalty_alpha", "null"),
            Map.entry("dola_layers", "null"),
            Map.entry("bad_words_ids", "null"),
            Map.entry("force_words_ids", "null"),
            Map.entry("constraints", "null"),
            Map.entry("sequence_bias", "null"),
            Map.entry("suppress_tokens", "null"),
            Map.entry("begin_suppress_tokens", "null"),
            Map.entry("forced_bos_token_id", "null"),
            Map.entry("forced_eos_token_id", "null"),
            Map.entry("exponential_decay_length_penalty", "null"),
            Map.entry("watermarking_config", "null"));

    private static final Set<String> USED = Set.of(
            "do_sample",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "max_new_tokens",
            "max_length",
            "eos_token_id",
            "stop_strings");

    GenerationConfig {
        eosTokenIds = Set.copyOf(eosTokenIds);
    }

    /**
     * @param eosTokenIds those of config.json
     * @throws FormatException naming the key that is unknown, out of range, or not done here
     */
    static GenerationConfig read(Path folder, List<Integer> eosTokenIds) {
        Path file = folder.resolve(FILE);
        Json config = Files.exists(file) ? Json.read(file) : Json.parse(file.toString(), "{}");
        if (!config.isObject()) {
            throw config.error("expected a JSON object");
        }
        for (Map.Entry<String, JsonNode> setting : config.node().properties()) {
            check(config, setting.getKey(), setting.getValue());
        }
        Set<Integer> eos = new TreeSet<>();
        if (given(config, "eos_token_id")) {
            Json ids = config.get("eos_token_id");
            for (Json id : ids.isArray() ? ids.elements() : List.of(ids)) {
                eos.add(id.intBetween(0, Integer.MAX_VALUE));
            }
        }
        int maxLength = given(config, "max_new_tokens") ? 0 : count(config, "max_length", 0);
        return new GenerationConfig(
                defaults(config, maxLength), eos.isEmpty() ? Set.copyOf(eosTokenIds) : eos, maxLength);
    }

    /**
     * Tokens that an answer may have. Where options say none, as the defaults do where the file has max_length alone, they are
     * what the prompt leaves of that.
     *
     * @throws IllegalArgumentException where the prompt leaves none
     */
    int answerTokens(GenerationOptions options, int promptTokens) {
        if (maxLength == 0 || options.maxNewTokens() != GenerationOptions.AS_MANY_AS_FIT) {
            return options.maxNewTokens();
        }
        if (promptTokens >= maxLength) {
            throw new IllegalArgumentException("the prompt has " + promptTokens + " tokens, but max_length in " + FILE
                    + " is " + maxLength + ", with the answer; say max_new_tokens instead");
        }
        return maxLength - promptTokens;
    }

    private static GenerationOptions defaults(Json config, int maxLength) {
        List<String> stop = new ArrayList<>();
        if (given(config, "stop_strings")) {
            Json strings = config.get("stop_strings");
            (strings.isArray() ? strings.elements() : List.of(strings)).forEach(string -> stop.add(string.string()));
        }
        boolean sample = given(config, "do_sample") && config.bool("do_sample");
        int absent = maxLength > 0 ? GenerationOptions.AS_MANY_AS_FIT : GenerationOptions.DEFAULT_MAX_NEW_TOKENS;
        try {
            // Transformers draws from the 50 likeliest where the file says nothing.
            return new GenerationOptions(
                    count(config, "max_new_tokens", absent),
                    sample ? number(config, "temperature", 1) : 0,
                    given(config, "top_k") ? config.get("top_k").intBetween(0, Integer.MAX_VALUE) : sample ? 50 : 0,
                    number(config, "top_p", 1),
                    number(config, "min_p", 0),
                    null,
                    stop,
                    null);
        } catch (IllegalArgumentException e) {
            throw new FormatException(config.file() + ": " + e.getMessage(), e);
        }
    }

    private static boolean given(Json config, String key) {
        return config.has(key) && !config.get(key).isNull();
    }

    private static int count(Json config, String key, int absent) {
        return given(config, key) ? config.get(key).intBetween(1, Integer.MAX_VALUE) : absent;
    }

    private static double number(Json config, String key, double absent) {
        return given(config, key) ? config.number(key) : absent;
    }

    private static void check(Json config, String key, JsonNode value) {
        if (value.isNull() || USED.contains(key) || IGNORED.contains(key)) {
            return;
        }
        String neutral = NEUTRAL.get(key);
        if (neutral == null) {
            throw config.get(key)
                    .error("is no setting that this engine knows; what it changes is unknown, remove it if nothing");
        }
        boolean same = value.isNumber() && !neutral.equals("null")
                ? value.doubleValue() == Double.parseDouble(neutral)
                : value.asText().equals(neutral) || value.isArray() && value.isEmpty();
        if (!same) {
            throw config.get(key).error("is " + value + ", which this engine does not do; remove it to go without");
        }
    }
}
