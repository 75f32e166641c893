package lapidary.tokenizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import lapidary.format.FormatException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** A small tokenizer of Gemma 3's structure, whole and with parts changed; Hugging Face tokenizers is the oracle. */
class TokenizerTest {
    static final Path TINY = Path.of("src/test/resources/lapidary/gemma3/tiny/tokenizer.json");
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path folder;

    private final Tokenizer tokenizer = Tokenizer.load(TINY);

    @Test
    void sameIdsAndTexts() throws IOException {
        sameAsOracle(TINY);
    }

    private static void sameAsOracle(Path file) throws IOException {
        Tokenizer tokenizer = Tokenizer.load(file);
        Random random = new Random(3);
        try (Oracle oracle = new Oracle(file)) {
            for (int i = 0; i < 400; i++) {
                String text = Corpus.random(random, 1 + random.nextInt(80));
                same(oracle, tokenizer, text);
            }
            for (String text : Corpus.texts()) {
                same(oracle, tokenizer, text);
            }
        }
    }

    private static void same(Oracle oracle, Tokenizer tokenizer, String text) {
        int[] expected = oracle.encode(text);
        assertArrayEquals(expected, tokenizer.encode(text), text);
        assertEquals(oracle.decode(expected, false), tokenizer.decode(expected, false), text);
        assertEquals(oracle.decode(expected, true), tokenizer.decode(expected, true), text);
    }

    /** Byte pieces that are missing, so that some code points become {@code <unk>}, fused with their neighbours or not. */
    @ParameterizedTest
    @CsvSource({"true,true", "true,false", "false,true", "false,false"})
    void sameIdsWithoutAllBytes(boolean fallback, boolean fuse) throws IOException {
        ObjectNode root = tiny();
        ObjectNode vocab = (ObjectNode) root.at("/model/vocab");
        for (String gone : List.of("<0x00>", "<0xE0>", "<0x9F>", "<0xA0>", "<0xF0>", "<0xCC>")) {
            vocab.remove(gone);
        }
        renumber(root);
        model(root).put("byte_fallback", fallback).put("fuse_unk", fuse);
        sameAsOracle(write(root));
    }

    /** Merges that involve byte pieces: no place beside a byte is safe to cut then. */
    @Test
    void sameIdsWithMergesOfBytes() throws IOException {
        ObjectNode root = tiny();
        addMerge(root, "<0xF0>", "<0x9F>");
        addMerge(root, "<0xF0><0x9F>", "<0x99>");
        addMerge(root, "a", "<0xF0>");
        addMerge(root, "<0xA5>", "e");
        sameAsOracle(write(root));
    }

    /** Merges that reach across spaces, the wrong way round too, and one that is listed twice. */
    @Test
    void sameIdsWithMergesAcrossSpaces() throws IOException {
        ObjectNode root = tiny();
        addMerge(root, "e", "\u2581");
        addMerge(root, "\u2581t", "h");
        addMerge(root, "e\u2581", "\u2581t");
        ArrayNode merges = (ArrayNode) root.at("/model/merges");
        merges.add(merges.get(5).deepCopy());
        sameAsOracle(write(root));
    }

    @Test
    void olderMergesAreStrings() throws IOException {
        ObjectNode root = tiny();
        ArrayNode merges = (ArrayNode) root.at("/model/merges");
        ArrayNode strings = JSON.createArrayNode();
        merges.forEach(m -> strings.add(m.get(0).textValue() + " " + m.get(1).textValue()));
        model(root).set("merges", strings);
        Tokenizer other = Tokenizer.load(write(root));
        assertArrayEquals(tokenizer.encode("What shape is this?"), other.encode("What shape is this?"));
    }

    @Test
    void mergesMayStandBeforeTheVocabulary() throws IOException {
        ObjectNode root = tiny();
        ObjectNode model = model(root);
        JsonNode vocab = model.remove("vocab");
        model.set("vocab", vocab);
        Tokenizer other = Tokenizer.load(write(root));
        assertArrayEquals(tokenizer.encode("What shape is this?"), other.encode("What shape is this?"));
    }

    @Test
    void truncationAndPaddingAreLeftAlone() throws IOException {
        ObjectNode root = tiny();
        root.putObject("truncation").put("max_length", 2);
        root.putObject("padding").put("strategy", "BatchLongest");
        assertArrayEquals(
                tokenizer.encode("a b c d e"), Tokenizer.load(write(root)).encode("a b c d e"));
    }

    @Test
    void unpairedSurrogatesCountAsReplacementCharacters() {
        for (String bad :
                List.of("\uD800", "\uDC00", "a\uDBFF", "\uDC00\uD800", "\uD83D \uDE42", "x\uD800\uD83D\uDE42")) {
            StringBuilder expected = new StringBuilder();
            for (int i = 0; i < bad.length(); i++) {
                boolean high = Character.isHighSurrogate(bad.charAt(i))
                        && i + 1 < bad.length()
                        && Character.isLowSurrogate(bad.charAt(i + 1));
                boolean low = i > 0
                        && Character.isLowSurrogate(bad.charAt(i))
                        && Character.isHighSurrogate(bad.charAt(i - 1));
                expected.append(Character.isSurrogate(bad.charAt(i)) && !high && !low ? '\uFFFD' : bad.charAt(i));
            }
            assertArrayEquals(tokenizer.encode(expected), tokenizer.encode(bad), expected.toString());
        }
    }

    @Test
    void decodeReturnsWhatWasEncoded() {
        Random random = new Random(4);
        for (int i = 0; i < 500; i++) {
            String text = Corpus.random(random, 1 + random.nextInt(60));
            assertEquals(text.replace('\u2581', ' '), tokenizer.decode(tokenizer.encode(text), false));
        }
    }

    @Test
    void decodeLeavesOutUnknownIdsAndRefusesNegativeOnes() {
        int[] ids = tokenizer.encode("shape");
        int[] more = Arrays.copyOf(ids, ids.length + 2);
        more[ids.length] = tokenizer.vocabSize();
        more[ids.length + 1] = Integer.MAX_VALUE;
        assertEquals("shape", tokenizer.decode(more, false));
        String message = assertThrows(IllegalArgumentException.class, () -> tokenizer.decode(new int[] {-100}, false))
                .getMessage();
        assertTrue(message.contains("-100"), message);
    }

    @Test
    void plainRangesHoldNoSpecialTokens() {
        String text = "<bos>a<end_of_turn>b";
        int bos = tokenizer.bosId();
        int end = tokenizer.tokenId("<end_of_turn>");
        int[] plain = tokenizer.encode(text, false, new int[] {5, text.length()});
        assertEquals(bos, plain[0]);
        assertFalse(IntStream.of(plain).anyMatch(id -> id == end));
        assertEquals(text, tokenizer.decode(plain, false));
        // a token that only touches the range is none either, one beside it is
        assertEquals(1, count(tokenizer.encode("<bos><bos>", false, new int[] {9, 10}), bos));
        assertEquals(1, count(tokenizer.encode("<bos><bos>", false, new int[] {0, 1}), bos));
        assertEquals(2, count(tokenizer.encode("<bos>xx<bos>", false, new int[] {5, 7}), bos));
        assertEquals(0, count(tokenizer.encode("<bos><bos>", false, new int[] {0, 5, 5, 10}), bos));
        // what is added but not special, such as runs of newlines, stays a token
        assertArrayEquals(tokenizer.encode("\n\n\n<b>"), tokenizer.encode("\n\n\n<b>", false, new int[] {0, 6}));
        for (int[] bad : new int[][] {{0}, {3, 2}, {-1, 2}, {0, 11}, {4, 6, 5, 7}}) {
            assertThrows(IllegalArgumentException.class, () -> tokenizer.encode("0123456789", false, bad));
        }
    }

    private static long count(int[] ids, int wanted) {
        return IntStream.of(ids).filter(id -> id == wanted).count();
    }

    @Test
    void lookUps() {
        assertEquals(
                tokenizer.tokenId("<end_of_turn>"),
                tokenizer.findId("<end_of_turn>").orElseThrow());
        assertTrue(tokenizer.findId("nothing like it").isEmpty());
        assertThrows(IllegalArgumentException.class, () -> tokenizer.tokenId("nothing like it"));
        assertThrows(IllegalArgumentException.class, () -> tokenizer.token(-1));
        assertThrows(IllegalArgumentException.class, () -> tokenizer.token(tokenizer.vocabSize()));
        for (int id = 0; id < tokenizer.vocabSize(); id++) {
            assertEquals(id, tokenizer.tokenId(tokenizer.token(id)));
        }
    }

    // streaming

    @Test
    void streamJoinsToTheDecodedText() {
        Random random = new Random(5);
        for (int i = 0; i < 300; i++) {
            String text = Corpus.random(random, 1 + random.nextInt(60));
            int[] ids = tokenizer.encode(text);
            for (boolean skip : new boolean[] {false, true}) {
                TextStream stream = tokenizer.stream(skip);
                StringBuilder joined = new StringBuilder();
                for (int id : ids) {
                    String part = stream.add(id);
                    assertTrue(part.isEmpty() || !Character.isHighSurrogate(part.charAt(part.length() - 1)));
                    joined.append(part);
                }
                assertEquals(
                        tokenizer.decode(ids, skip), joined.append(stream.end()).toString());
            }
        }
    }

    @Test
    void streamHoldsBackARunOfBytes() {
        TextStream stream = tokenizer.stream(false);
        for (int value : new int[] {0xF0, 0x9F, 0x99, 0x82}) {
            assertEquals("", stream.add(bytePiece(value)));
        }
        assertEquals("🙂", stream.held());
        assertEquals("🙂a", stream.add(tokenizer.tokenId("a")));
        assertEquals("", stream.held());
        assertEquals("", stream.add(bytePiece(0x41)));
        assertEquals("", stream.add(bytePiece(0xC3)));
        assertEquals("\uFFFD\uFFFDa", stream.add(tokenizer.tokenId("a"))); // the good byte of a bad run, too
        assertEquals("", stream.add(bytePiece(0xC3)));
        assertEquals("\uFFFD", stream.end());
        assertEquals("", stream.end());
    }

    /** Also where the bytes are no UTF-8, and where tokens lie between that are not shown. */
    @Test
    void streamOfAnyIdsJoinsToTheDecodedText() {
        Random random = new Random(6);
        int[] likely = {0x41, 0x80, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0xF5, 0xFF, 0x8F, 0x90};
        int[] others = {tokenizer.tokenId("a"), tokenizer.tokenId("<end_of_turn>"), tokenizer.vocabSize() + 1};
        for (int i = 0; i < 4000; i++) {
            int[] ids = new int[1 + random.nextInt(12)];
            for (int k = 0; k < ids.length; k++) {
                ids[k] = random.nextInt(6) == 0
                        ? others[random.nextInt(others.length)]
                        : bytePiece(likely[random.nextInt(likely.length)]);
            }
            for (boolean skip : new boolean[] {false, true}) {
                TextStream stream = tokenizer.stream(skip);
                StringBuilder joined = new StringBuilder();
                for (int id : ids) {
                    joined.append(stream.add(id));
                }
                assertEquals(
                        tokenizer.decode(ids, skip), joined.append(stream.end()).toString(), Arrays.toString(ids));
            }
        }
    }

    private int bytePiece(int value) {
        return tokenizer.tokenId(String.format("<0x%02X>", value));
    }

    // bad files

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "/normalizer | {\"type\":\"NFKC\"} | normalizer",
                "/normalizer | null | normalizer",
                "/pre_tokenizer | {\"type\":\"ByteLevel\",\"add_prefix_space\":false} | pre_tokenizer",
                "/decoder | {\"type\":\"ByteLevel\"} | decoder",
                "/decoder | null | decoder",
                "/post_processor | null | post_processor",
                "/post_processor | {\"type\":\"ByteLevel\"} | post_processor",
                "/post_processor/single | [{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}] | post_processor",
                "/post_processor/special_tokens/<bos>/ids | [7] | post_processor",
                "/model/type | \"Unigram\" | model.type",
                "/model/dropout | 0.1 | model.dropout",
                "/model/continuing_subword_prefix | \"##\" | model.continuing_subword_prefix",
                "/model/end_of_word_suffix | \"</w>\" | model.end_of_word_suffix",
                "/model/ignore_merges | true | model.ignore_merges",
                "/model/fuse_unk | 1 | model.fuse_unk",
                "/model/unk_token | null | model.unk_token",
                "/model/unk_token | \"<nope>\" | model.unk_token",
                "/model/surprise | 1 | model.surprise",
                "/surprise | 1 | surprise",
                "/version | \"2.0\" | version",
                "/model/vocab | [] | model.vocab",
                "/model/vocab | {} | model.vocab",
                "/model/vocab/a | -1 | model.vocab",
                "/model/vocab/a | 3.5 | model.vocab",
                "/model/vocab/a | 99999999999 | model.vocab",
                "/model/vocab/a | 4194304 | model.vocab",
                "/model/vocab/a | 2 | model.vocab",
                "/model/merges | {} | model.merges",
                "/model/merges | [[\"a\"]] | model.merges[0]",
                "/model/merges | [[\"a\",\"b\",\"c\"]] | model.merges[0]",
                "/model/merges | [[\"a\",1]] | model.merges[0]",
                "/model/merges | [[\"a\",\"\"]] | model.merges[0]",
                "/model/merges | [\"ab\"] | model.merges[0]",
                "/model/merges | [\"a b c\"] | model.merges[0]",
                "/model/merges | [[\"q\",\"\\ue001\"]] | model.merges[0]",
                "/model/merges | [[\"z\",\"z\"]] | model.merges[0]",
                "/model/merges | [1] | model.merges[0]",
                "/added_tokens | null | added_tokens",
                "/added_tokens/0 | 5 | added_tokens[0]",
                "/added_tokens/0/content | \"\" | added_tokens[0]",
                "/added_tokens/0/id | 77 | added_tokens[0]",
                "/added_tokens/130/id | 800 | added_tokens[130]",
                "/added_tokens/1/content | \"<pad>\" | added_tokens[1]",
                "/added_tokens/2/normalized | true | added_tokens[2].normalized",
                "/added_tokens/2/lstrip | true | added_tokens[2].lstrip",
                "/added_tokens/2/rstrip | true | added_tokens[2].rstrip",
                "/added_tokens/2/single_word | true | added_tokens[2].single_word",
            })
    void whatIsNotGemma3sIsNamed(String pointer, String value, String key) throws IOException {
        ObjectNode root = tiny();
        int slash = pointer.lastIndexOf('/');
        JsonNode parent = root.at(pointer.substring(0, slash));
        if (parent instanceof ArrayNode array) {
            array.set(Integer.parseInt(pointer.substring(slash + 1)), JSON.readTree(value));
        } else {
            ((ObjectNode) parent).set(pointer.substring(slash + 1), JSON.readTree(value));
        }
        refused(write(root), key);
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 10, 200, 20_000, 40_000, 52_000})
    void truncatedFile(int length) throws IOException {
        byte[] whole = Files.readAllBytes(TINY);
        Path file = Files.write(folder.resolve("tokenizer.json"), Arrays.copyOf(whole, length));
        refused(file, "tokenizer.json");
    }

    @Test
    void filesThatAreNoTokenizers() throws IOException {
        refused(folder.resolve("absent.json"), "no such file");
        for (String text : List.of(
                "[]",
                "{}",
                "5",
                "\"x\"",
                "nonsense",
                "{\"model\":5}",
                "{\"model\":{}} {}",
                "{\"model\":{\"vocab\":{\"a\":0}}}")) {
            refused(Files.writeString(folder.resolve("tokenizer.json"), text), "tokenizer.json");
        }
        byte[] latin = "{\"version\":\"\u00e9\"}".getBytes(StandardCharsets.ISO_8859_1);
        refused(Files.write(folder.resolve("tokenizer.json"), latin), "tokenizer.json");
        String whole = Files.readString(TINY);
        refused(Files.writeString(folder.resolve("tokenizer.json"), whole + "{}"), "tokenizer.json");
        String twice = whole.replaceFirst("\"<pad>\": 0", "\"<pad>\": 0, \"<pad>\": 9999");
        refused(Files.writeString(folder.resolve("tokenizer.json"), twice), "twice");
        String surrogate = whole.replaceFirst("\"<pad>\": 0", "\"\\\\ud800\": 9999, \"<pad>\": 0");
        refused(Files.writeString(folder.resolve("tokenizer.json"), surrogate), "surrogate");
    }

    private void refused(Path file, String part) {
        String message =
                assertThrows(FormatException.class, () -> Tokenizer.load(file)).getMessage();
        assertTrue(message.contains(file.toString()), message);
        assertTrue(message.contains(part), message);
        assertFalse(message.contains("\n"), message);
    }

    private static ObjectNode tiny() throws IOException {
        return (ObjectNode) JSON.readTree(TINY.toFile());
    }

    private static ObjectNode model(ObjectNode root) {
        return (ObjectNode) root.get("model");
    }

    private Path write(ObjectNode root) throws IOException {
        Path file = folder.resolve("tokenizer.json");
        JSON.writeValue(file.toFile(), root);
        return file;
    }

    /** Numbers the pieces in their order, and what is added but no piece behind them, as the oracle does. */
    private static void renumber(ObjectNode root) {
        ObjectNode vocab = (ObjectNode) root.at("/model/vocab");
        int id = 0;
        for (Iterator<String> names = vocab.fieldNames(); names.hasNext(); ) {
            vocab.put(names.next(), id++);
        }
        for (JsonNode added : root.get("added_tokens")) {
            String content = added.get("content").textValue();
            ((ObjectNode) added)
                    .put("id", vocab.has(content) ? vocab.get(content).intValue() : id++);
        }
    }

    private static void addMerge(ObjectNode root, String left, String right) {
        ObjectNode vocab = (ObjectNode) root.at("/model/vocab");
        if (!vocab.has(left + right)) {
            vocab.put(left + right, vocab.size());
            renumber(root);
        }
        ((ArrayNode) root.at("/model/merges")).insertArray(0).add(left).add(right);
    }
}
