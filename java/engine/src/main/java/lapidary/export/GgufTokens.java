package lapidary.export;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.tokenizer.Tokenizer;

/**
 * A tokenizer.json as llama.cpp's SentencePiece tokenizer takes it: pieces, scores and kinds, a row each for every row of the
 * embedding. The piece that is merged first has the highest score.
 */
final class GgufTokens {
    private static final int NORMAL = 1;
    private static final int CONTROL = 3;
    private static final int USER_DEFINED = 4;
    private static final int UNUSED = 5;
    private static final int BYTE = 6;

    private static final float ADDED_SCORE = -1000;
    private static final float UNUSED_SCORE = -10000;

    private GgufTokens() {}

    /**
     * Keys {@code tokenizer.ggml.*}.
     *
     * @param rows of the embedding
     * @throws FormatException where the folder has no tokenizer, or a token that its configuration names is missing
     */
    static Map<String, Object> of(Path folder, int rows) {
        Path file = folder.resolve("tokenizer.json");
        if (!Files.exists(file)) {
            throw new FormatException(file + " is missing, and a GGUF file carries the tokenizer; copy it from the"
                    + " checkpoint that the model came from");
        }
        Tokenizer tokenizer = Tokenizer.load(file);
        List<String> tokens = new ArrayList<>(rows);
        float[] scores = new float[rows];
        int[] kinds = new int[rows];
        float[] byRank = scores(tokenizer);
        for (int id = 0; id < rows; id++) {
            if (!tokenizer.has(id)) {
                tokens.add("[PAD" + id + "]");
                scores[id] = UNUSED_SCORE;
                kinds[id] = UNUSED;
                continue;
            }
            String piece = tokenizer.token(id);
            if (tokenizer.isAdded(id)) {
                // Text between the marks of a user-defined token is looked for as it stands, so with its spaces.
                tokens.add(tokenizer.isSpecial(id) ? piece : piece.replace('\u2581', ' '));
                scores[id] = ADDED_SCORE;
                kinds[id] = tokenizer.isSpecial(id) ? CONTROL : USER_DEFINED;
            } else if (piece.matches("<0x[0-9A-F]{2}>")) {
                tokens.add(piece);
                kinds[id] = BYTE;
            } else {
                tokens.add(piece);
                scores[id] = byRank[id];
                kinds[id] = NORMAL;
            }
        }
        Map<String, Object> keys = new LinkedHashMap<>();
        keys.put("tokenizer.ggml.model", "llama");
        keys.put("tokenizer.ggml.pre", "default");
        keys.put("tokenizer.ggml.tokens", tokens);
        keys.put("tokenizer.ggml.scores", scores);
        keys.put("tokenizer.ggml.token_type", kinds);
        keys.put("tokenizer.ggml.bos_token_id", tokenizer.bosId());
        Path configFile = folder.resolve("tokenizer_config.json");
        Json config = Files.exists(configFile) ? Json.read(configFile) : Json.parse(configFile.toString(), "{}");
        keys.put("tokenizer.ggml.eos_token_id", id(config, "eos_token", "<eos>", tokenizer));
        keys.put("tokenizer.ggml.unknown_token_id", id(config, "unk_token", "<unk>", tokenizer));
        keys.put("tokenizer.ggml.padding_token_id", id(config, "pad_token", "<pad>", tokenizer));
        keys.put("tokenizer.ggml.add_bos_token", true);
        keys.put("tokenizer.ggml.add_eos_token", false);
        keys.put("tokenizer.ggml.add_sep_token", false);
        keys.put("tokenizer.ggml.add_space_prefix", false);
        for (String key : List.of("bos", "eos", "unknown", "padding")) {
            if ((int) keys.get("tokenizer.ggml." + key + "_token_id") >= rows) {
                throw new FormatException(file + ": its " + key + " token is beyond the " + rows
                        + " rows of the model's embedding; tokenizer and weights are of two models");
            }
        }
        return keys;
    }

    /** Minus the place of each piece in the order of merging; those that no merge makes follow by their ids. */
    private static float[] scores(Tokenizer tokenizer) {
        int[] ranks = tokenizer.mergeRanks();
        Integer[] order = IntStream.range(0, ranks.length)
                .filter(tokenizer::has)
                .filter(id -> !tokenizer.isAdded(id))
                .boxed()
                .toArray(Integer[]::new);
        Arrays.sort(order, Comparator.<Integer>comparingInt(id -> ranks[id]).thenComparingInt(id -> id));
        float[] scores = new float[ranks.length];
        for (int place = 0; place < order.length; place++) {
            scores[order[place]] = -place;
        }
        return scores;
    }

    private static int id(Json config, String key, String usual, Tokenizer tokenizer) {
        String token = usual;
        if (config.has(key) && !config.get(key).isNull()) {
            Json value = config.get(key);
            token = value.isObject() ? value.string("content") : value.string();
        }
        String found = token;
        return tokenizer
                .findId(token)
                .orElseThrow(() -> new FormatException(
                        config.file() + ": " + key + " is \"" + found + "\", which tokenizer.json does not have"));
    }
}
