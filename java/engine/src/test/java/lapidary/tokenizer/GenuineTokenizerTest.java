package lapidary.tokenizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Gemma 3's genuine tokenizer.json: the same ids and texts as Hugging Face tokenizers. */
class GenuineTokenizerTest {
    private static Tokenizer tokenizer;
    private static Oracle oracle;

    @BeforeAll
    static void load() throws IOException {
        Path file = GemmaTokenizerFile.get();
        tokenizer = Tokenizer.load(file);
        oracle = new Oracle(file);
    }

    @AfterAll
    static void close() {
        if (oracle != null) {
            oracle.close();
        }
    }

    static List<String> texts() {
        return Corpus.texts();
    }

    @ParameterizedTest(name = "text {index}")
    @MethodSource("texts")
    void sameIds(String text) {
        check(text);
    }

    /** Twice, as the second time comes out of the cache. */
    private static void check(String text) {
        int[] expected = oracle.encode(text);
        assertArrayEquals(expected, tokenizer.encode(text), text);
        assertArrayEquals(expected, tokenizer.encode(text), text);
        assertArrayEquals(oracle.encodeWithBos(text), tokenizer.encodeWithBos(text), text);
        for (boolean skip : new boolean[] {false, true}) {
            assertEquals(oracle.decode(expected, skip), tokenizer.decode(expected, skip), text);
        }
        assertEquals(text.replace('\u2581', ' '), tokenizer.decode(expected, false));
    }

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4, 5, 6})
    void sameIdsOfRandomTexts(long seed) {
        Random random = new Random(seed);
        for (int i = 0; i < 300; i++) {
            check(Corpus.random(random, 1 + random.nextInt(i % 50 == 0 ? 2000 : 40)));
        }
    }

    @Test
    void sameTextOfRandomIds() {
        Random random = new Random(7);
        for (int i = 0; i < 500; i++) {
            int[] ids = random.ints(1 + random.nextInt(30), 0, 262145).toArray();
            for (int k = 0; k < ids.length; k++) {
                ids[k] = random.nextInt(3) == 0 ? 238 + random.nextInt(256) : ids[k]; // byte pieces
            }
            assertEquals(oracle.decode(ids, false), tokenizer.decode(ids, false), () -> Arrays.toString(ids));
            assertEquals(oracle.decode(ids, true), tokenizer.decode(ids, true), () -> Arrays.toString(ids));
        }
    }

    /** A million characters without a place to cut; a merge loop that starts over at each merge would need days. */
    @Test
    void sameIdsOfAnEndlessWord() {
        Random random = new Random(8);
        StringBuilder word = new StringBuilder();
        while (word.length() < 1_000_000) {
            word.append((char) ('a' + random.nextInt(26)));
        }
        assertArrayEquals(oracle.encode(word.toString()), tokenizer.encode(word));
        String same = "a".repeat(1_000_000);
        assertArrayEquals(oracle.encode(same), tokenizer.encode(same));
    }

    @Test
    void knownIds() {
        assertArrayEquals(new int[] {2364, 109, 255999}, tokenizer.encode("user\n\n\n<start_of_image>"));
        assertArrayEquals(new int[] {137, 108}, tokenizer.encode("\n".repeat(33)));
        assertArrayEquals(new int[] {236746, 138, 236763, 139, 236755}, tokenizer.encode("a  b   c"));
        assertArrayEquals(
                new int[] {
                    2, 105, 2364, 107, 9259, 138, 12392, 236888, 236743, 108, 255968, 94951, 57235, 236743, 255999, 106
                },
                tokenizer.encodeWithBos(
                        "<start_of_turn>user\nHello  world! \n\n\t日本語 🙂 <start_of_image><end_of_turn>"));
        assertEquals(262145, tokenizer.vocabSize());
        assertEquals(2, tokenizer.bosId());
        assertEquals(262144, tokenizer.tokenId("<image_soft_token>"));
        assertEquals("<end_of_turn>", tokenizer.token(106));
        assertTrue(tokenizer.isSpecial(106));
        assertFalse(tokenizer.isSpecial(4)); // <mask>
    }

    @Test
    void manyThreadsAgree() throws Exception {
        List<String> texts = Corpus.texts();
        ExecutorService pool = Executors.newFixedThreadPool(4);
        try {
            List<Future<List<int[]>>> runs = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                runs.add(pool.submit(() -> texts.stream().map(tokenizer::encode).toList()));
            }
            for (Future<List<int[]>> run : runs) {
                for (int i = 0; i < texts.size(); i++) {
                    assertArrayEquals(oracle.encode(texts.get(i)), run.get().get(i));
                }
            }
        } finally {
            pool.shutdownNow();
        }
    }
}
