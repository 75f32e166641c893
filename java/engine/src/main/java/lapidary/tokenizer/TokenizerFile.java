package lapidary.tokenizer;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.NullNode;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import lapidary.format.FormatException;
import lapidary.format.Json;

/**
 * Reads {@code tokenizer.json}: the vocabulary and the merges, which are nearly all of it, as a stream; the small parts
 * as trees that are compared with the one form that Gemma 3 has.
 */
final class TokenizerFile {
    /** Every key of the file is used, or left alone for a reason: these two are set again by whoever calls. */
    private static final Set<String> IGNORED = Set.of("truncation", "padding");

    private static final Set<String> USED =
            Set.of("version", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model");

    private final Path file;
    private final ObjectMapper json;
    private final Map<String, JsonNode> parts = new HashMap<>();
    private final Map<String, JsonNode> model = new HashMap<>();
    private final Vocabulary vocabulary;
    private final Merges merges;
    private boolean vocabSeen;
    private boolean mergesSeen;
    private boolean mergesSkipped;

    private TokenizerFile(Path file) throws IOException {
        this.file = file;
        // Gemma 3's file has 127 bytes for a piece and 65 for a merge. Only the first guess at a size follows from
        // this.
        int bytes = (int) Math.min(Files.size(file), 1 << 26);
        vocabulary = new Vocabulary(bytes / 128);
        merges = new Merges(vocabulary, bytes / 65);
        // Names are pieces here, a quarter of a million of them: neither interned nor kept in a symbol table.
        this.json = new ObjectMapper(JsonFactory.builder()
                .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
                .disable(JsonFactory.Feature.CANONICALIZE_FIELD_NAMES)
                .build());
    }

    static Tokenizer read(Path file) {
        try {
            TokenizerFile reader = new TokenizerFile(file);
            reader.parse();
            if (reader.mergesSkipped) {
                reader.parseMergesAgain();
            }
            return reader.build();
        } catch (NoSuchFileException e) {
            throw new FormatException("no such file: " + file, e);
        } catch (IOException e) {
            throw Json.malformed(file.toString(), e);
        }
    }

    private void parse() throws IOException {
        try (InputStream in = Files.newInputStream(file);
                JsonParser parser = json.getFactory().createParser(in)) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                throw bad("", "is no JSON object");
            }
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String key = parser.currentName();
                parser.nextToken();
                if (key.equals("model")) {
                    parseModel(parser);
                } else if (IGNORED.contains(key)) {
                    parser.skipChildren();
                } else if (USED.contains(key)) {
                    if (parts.put(key, json.readTree(parser)) != null) {
                        throw bad(key, "stands twice in the file");
                    }
                } else {
                    throw bad(key, "is a key that Gemma 3's tokenizer does not have");
                }
            }
            if (parser.nextToken() != null) {
                throw bad("", "has more behind the end of its JSON object");
            }
        }
        if (!vocabSeen || !mergesSeen) {
            throw bad(vocabSeen ? "model.merges" : "model.vocab", "is missing");
        }
    }

    private void parseModel(JsonParser parser) throws IOException {
        if (parser.currentToken() != JsonToken.START_OBJECT) {
            throw bad("model", "is no object");
        }
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String key = parser.currentName();
            parser.nextToken();
            if (key.equals("vocab")) {
                parseVocab(parser);
            } else if (key.equals("merges") && vocabSeen) {
                parseMerges(parser);
            } else if (key.equals("merges")) {
                mergesSkipped = true;
                mergesSeen = true;
                parser.skipChildren();
            } else if (model.put(key, json.readTree(parser)) != null) {
                throw bad("model." + key, "stands twice in the file");
            }
        }
    }

    private void parseVocab(JsonParser parser) throws IOException {
        if (vocabSeen || parser.currentToken() != JsonToken.START_OBJECT) {
            throw bad("model.vocab", vocabSeen ? "stands twice in the file" : "is no object of pieces and ids");
        }
        vocabSeen = true;
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String piece = parser.currentName();
            if (parser.nextToken() != JsonToken.VALUE_NUMBER_INT) {
                throw bad("model.vocab", "has no whole number as the id of " + quote(piece));
            }
            addPiece("model.vocab", piece, parser.getLongValue());
        }
        if (parser.currentToken() != JsonToken.END_OBJECT || vocabulary.count() == 0) {
            throw bad("model.vocab", "holds no pieces");
        }
    }

    private void addPiece(String key, String piece, long id) {
        if (id < 0 || id > Vocabulary.MAX_ID) {
            throw bad(key, "gives " + quote(piece) + " the id " + id + ", expected 0 to " + Vocabulary.MAX_ID);
        }
        if (piece.isEmpty()) {
            throw bad(key, "has an empty piece, of id " + id);
        }
        for (int i = 0; i < piece.length(); i++) {
            if (Character.isSurrogate(piece.charAt(i))) {
                int codePoint = piece.codePointAt(i);
                if (!Character.isSupplementaryCodePoint(codePoint)) {
                    throw bad(key, "has an unpaired surrogate in the piece of id " + id);
                }
                i++;
            }
        }
        if (!vocabulary.add(piece, (int) id)) {
            throw bad(
                    key,
                    vocabulary.has((int) id)
                            ? "gives the id " + id + " to " + quote(piece) + " and to "
                                    + quote(vocabulary.piece((int) id))
                            : "lists " + quote(piece) + " twice");
        }
    }

    private void parseMergesAgain() throws IOException {
        mergesSeen = false;
        try (InputStream in = Files.newInputStream(file);
                JsonParser parser = json.getFactory().createParser(in)) {
            parser.nextToken();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                boolean isModel = parser.currentName().equals("model");
                parser.nextToken();
                if (!isModel) {
                    parser.skipChildren();
                    continue;
                }
                while (parser.nextToken() == JsonToken.FIELD_NAME) {
                    boolean isMerges = parser.currentName().equals("merges");
                    parser.nextToken();
                    if (isMerges) {
                        parseMerges(parser);
                    } else {
                        parser.skipChildren();
                    }
                }
            }
        }
    }

    /** Each merge is {@code ["a", "b"]}, or in older files {@code "a b"}. */
    private void parseMerges(JsonParser parser) throws IOException {
        if (mergesSeen || parser.currentToken() != JsonToken.START_ARRAY) {
            throw bad("model.merges", mergesSeen ? "stands twice in the file" : "is no array");
        }
        mergesSeen = true;
        for (JsonToken token = parser.nextToken(); token != JsonToken.END_ARRAY; token = parser.nextToken()) {
            int left;
            int right;
            if (token == JsonToken.START_ARRAY) {
                left = mergeSide(parser, parser.nextToken());
                right = mergeSide(parser, parser.nextToken());
                if (parser.nextToken() != JsonToken.END_ARRAY) {
                    throw badMerge("has not two pieces");
                }
            } else if (token == JsonToken.VALUE_STRING) {
                String both = parser.getText();
                int space = both.indexOf(' ');
                if (space < 0 || space != both.lastIndexOf(' ')) {
                    throw badMerge("is " + quote(both) + ", expected two pieces with one space between");
                }
                left = known(vocabulary.id(both.substring(0, space)), both.substring(0, space));
                right = known(vocabulary.id(both.substring(space + 1)), both.substring(space + 1));
            } else {
                throw badMerge("is no pair of pieces");
            }
            if (merges.count() == Merges.MOST) {
                throw badMerge("is one more than the " + Merges.MOST + " that are supported");
            }
            if (!merges.add(left, right)) {
                throw badMerge("makes " + quote(vocabulary.piece(left) + vocabulary.piece(right))
                        + ", which is not in the vocabulary");
            }
        }
    }

    private int mergeSide(JsonParser parser, JsonToken token) throws IOException {
        if (token != JsonToken.VALUE_STRING) {
            throw badMerge("is no pair of pieces");
        }
        int id = vocabulary.id(parser.getTextCharacters(), parser.getTextOffset(), parser.getTextLength());
        return id != Vocabulary.ABSENT ? id : known(id, parser.getText());
    }

    private int known(int id, String piece) {
        if (id == Vocabulary.ABSENT || piece.isEmpty()) {
            throw badMerge("joins " + quote(piece) + ", which is not in the vocabulary");
        }
        return id;
    }

    private FormatException badMerge(String what) {
        return bad("model.merges[" + merges.count() + "]", what);
    }

    private Tokenizer build() {
        expect("version", part("version"), "\"1.0\"");
        expect(
                "normalizer",
                part("normalizer"),
                "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}");
        if (!part("pre_tokenizer").isNull()) { // has no effect: the normalizer leaves no space to split at
            expect(
                    "pre_tokenizer",
                    part("pre_tokenizer"),
                    "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"MergedWithPrevious\",\"invert\":false}");
        }
        expect(
                "decoder",
                part("decoder"),
                "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\u2581\"},"
                        + "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}");
        expect("model.type", setting("type"), "\"BPE\"");
        for (String none : new String[] {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
            JsonNode value = setting(none);
            if (!value.isNull() && !(value.isTextual() && value.textValue().isEmpty())) {
                throw bad("model." + none, "is " + value + ", expected null");
            }
        }
        boolean fuseUnknown = flag("fuse_unk");
        boolean byteFallback = flag("byte_fallback");
        if (flag("ignore_merges")) {
            throw bad("model.ignore_merges", "is true, expected false");
        }
        Set<String> settings = new HashSet<>(model.keySet());
        settings.removeAll(Set.of(
                "type",
                "dropout",
                "unk_token",
                "continuing_subword_prefix",
                "end_of_word_suffix",
                "fuse_unk",
                "byte_fallback",
                "ignore_merges"));
        if (!settings.isEmpty()) {
            throw bad("model." + settings.iterator().next(), "is a key that Gemma 3's tokenizer does not have");
        }
        int unknown = vocabulary.id(setting("unk_token").asText(""));
        if (!setting("unk_token").isTextual() || unknown == Vocabulary.ABSENT) {
            throw bad("model.unk_token", "is " + setting("unk_token") + ", expected a piece of the vocabulary");
        }
        int[] bytes = byteFallback ? bytePieces() : new int[0];
        int[][] symbols = symbols();
        boolean allBytes = bytes.length > 0 && Arrays.stream(bytes).noneMatch(id -> id == Vocabulary.ABSENT);
        boolean cutAtUnknown = allBytes && merges.noneWith(bytes);
        AddedTokens added = addedTokens();
        return new Tokenizer(
                vocabulary, added, new Bpe(merges, symbols, bytes, unknown, fuseUnknown, cutAtUnknown), bos());
    }

    private int[] bytePieces() {
        int[] bytes = new int[256];
        for (int b = 0; b < 256; b++) {
            bytes[b] = vocabulary.id(String.format("<0x%02X>", b));
        }
        return bytes;
    }

    /** The pieces of one code point, in pages of 256 of which all empty ones are the same array. */
    private int[][] symbols() {
        int[] empty = new int[256];
        Arrays.fill(empty, Vocabulary.ABSENT);
        int[][] pages = new int[(Character.MAX_CODE_POINT + 1) >> 8][];
        Arrays.fill(pages, empty);
        for (int id = 0; id < vocabulary.size(); id++) {
            if (!vocabulary.has(id) || vocabulary.length(id) == 0 || vocabulary.length(id) > 2) {
                continue;
            }
            int codePoint = vocabulary.firstCodePoint(id);
            if (Character.charCount(codePoint) == vocabulary.length(id)) {
                int page = codePoint >> 8;
                if (pages[page] == empty) {
                    pages[page] = empty.clone();
                }
                pages[page][codePoint & 255] = id;
            }
        }
        return pages;
    }

    private AddedTokens addedTokens() {
        AddedTokens added = new AddedTokens();
        JsonNode list = part("added_tokens");
        if (!list.isArray()) {
            throw bad("added_tokens", "is no array");
        }
        Set<String> seen = new HashSet<>();
        int pieces = vocabulary.count();
        int last = -1; // largest id of an added token so far
        for (int i = 0; i < list.size(); i++) {
            JsonNode entry = list.get(i);
            String key = "added_tokens[" + i + "]";
            String content = entry.path("content").asText("");
            if (content.isEmpty()
                    || !entry.path("content").isTextual()
                    || !entry.path("id").isIntegralNumber()) {
                throw bad(key, "has no content and id");
            }
            for (String unsupported : new String[] {"single_word", "lstrip", "rstrip", "normalized"}) {
                if (entry.path(unsupported).asBoolean(false)) {
                    throw bad(key + "." + unsupported, "is true for " + quote(content) + ", expected false");
                }
            }
            if (!seen.add(content)) {
                throw bad(key, "lists " + quote(content) + " again");
            }
            long id = entry.path("id").longValue();
            int there = vocabulary.id(content);
            if (there == Vocabulary.ABSENT) {
                int next = Math.max(pieces, last + 1); // Hugging Face's loader gives this id, whatever the file says
                if (id != next) {
                    throw bad(
                            key,
                            "gives " + quote(content) + " the id " + id + ", expected " + next
                                    + ", the next behind the vocabulary");
                }
                addPiece(key, content, id);
            } else if (there != id) {
                throw bad(key, "gives " + quote(content) + " the id " + id + ", the vocabulary gives it " + there);
            }
            last = Math.max(last, (int) id);
            added.add(content, (int) id, entry.path("special").asBoolean(false));
        }
        return added;
    }

    /** The one token that the post-processor sets before a text. */
    private int bos() {
        JsonNode post = part("post_processor");
        JsonNode single = post.path("single");
        String type = post.path("type").asText("");
        String token = single.path(0).path("SpecialToken").path("id").asText("");
        JsonNode ids = post.path("special_tokens").path(token).path("ids");
        boolean template = type.equals("TemplateProcessing")
                && single.size() == 2
                && single.path(1).path("Sequence").path("id").asText("").equals("A")
                && ids.size() == 1
                && ids.path(0).isIntegralNumber();
        if (!template) {
            String found = post.toString();
            throw bad(
                    "post_processor",
                    "is " + (found.length() > 120 ? found.substring(0, 120) + "..." : found)
                            + ", expected a TemplateProcessing that sets one token before the text");
        }
        long id = ids.path(0).longValue();
        if (id != vocabulary.id(token)) {
            throw bad(
                    "post_processor.special_tokens",
                    "gives " + quote(token) + " the id " + id + ", the vocabulary gives it " + vocabulary.id(token));
        }
        return (int) id;
    }

    private JsonNode part(String key) {
        return parts.getOrDefault(key, NullNode.getInstance());
    }

    private JsonNode setting(String key) {
        return model.getOrDefault(key, NullNode.getInstance());
    }

    private boolean flag(String key) {
        JsonNode value = setting(key);
        if (!value.isBoolean() && !value.isNull()) {
            throw bad("model." + key, "is " + value + ", expected true or false");
        }
        return value.asBoolean(false);
    }

    private void expect(String key, JsonNode found, String expected) {
        try {
            if (!found.equals(json.readTree(expected))) {
                String text = found.toString();
                throw bad(
                        key,
                        "is " + (text.length() > 200 ? text.substring(0, 200) + "..." : text) + ", expected " + expected
                                + "; no other is supported");
            }
        } catch (JsonProcessingException e) {
            throw new AssertionError(expected, e);
        }
    }

    private FormatException bad(String key, String what) {
        return new FormatException(file + ": " + (key.isEmpty() ? "" : key + " ") + what);
    }

    private static String quote(String piece) {
        return '"' + (piece.length() > 60 ? piece.substring(0, 60) + "..." : piece) + '"';
    }
}
