package lapidary.infer;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import lapidary.image.PanAndScan;
import lapidary.tokenizer.Tokenizer;
import org.junit.jupiter.api.Test;

final class SequenceTest {
    private static final int END = 1;

    private final Tokenizer tokenizer = Tokenizer.load(DemoModel.BASE.resolve("tokenizer.json"));

    private Sequence sequence(List<String> stop) {
        return new Sequence(
                new Prompt(new int[] {2}, new int[1], List.of()),
                1000,
                new Adapter("", null, PanAndScan.NONE),
                Set.of(END),
                new Sampler(GenerationOptions.GREEDY, 0, 0),
                stop,
                tokenizer);
    }

    /** Whether the answer is complete. */
    private boolean say(Sequence sequence, int id) {
        float[] logits = new float[tokenizer.vocabSize()];
        logits[id] = 1;
        return sequence.advance(logits);
    }

    private int bytePiece(int value) {
        return tokenizer.tokenId(String.format("<0x%02X>", value));
    }

    @Test
    void theTextIsThatOfAllTokensDecodedTogether() {
        Random random = new Random(4);
        for (int run = 0; run < 300; run++) {
            int[] ids = IntStream.range(0, 1 + random.nextInt(10))
                    .map(i -> random.nextBoolean() ? bytePiece(random.nextInt(256)) : 12 + random.nextInt(600))
                    .toArray();
            Sequence sequence = sequence(List.of());
            for (int id : ids) {
                assertFalse(say(sequence, id));
            }
            assertTrue(say(sequence, END));
            Answer answer = sequence.generation().answer();
            assertEquals(tokenizer.decode(ids, true), answer.text(), Arrays.toString(ids));
            StringBuilder streamed = new StringBuilder();
            sequence.generation().stream(streamed::append);
            assertEquals(answer.text(), streamed.toString());
        }
    }

    /** It would otherwise end with the first word after the run of bytes, if there is one. */
    @Test
    void aStopStringOfByteTokensEndsTheAnswerWithItsLastByte() {
        Sequence sequence = sequence(List.of("🙂"));
        assertFalse(say(sequence, tokenizer.tokenId("a")));
        for (int value : new int[] {0x41, 0xF0, 0x9F, 0x99}) {
            assertFalse(say(sequence, bytePiece(value)));
        }
        assertTrue(say(sequence, bytePiece(0x82)));
        Answer answer = sequence.generation().answer();
        assertEquals("aA", answer.text());
        assertEquals(FinishReason.STOP, answer.finishReason());
        assertEquals(6, answer.tokenIds().size());
    }
}
