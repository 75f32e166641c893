package lapidary.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import lapidary.data.LengthLimit.Overlong;
import lapidary.format.FormatException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Where a sample may be cut. */
final class LengthLimitTest {
    /** Eight tokens: words, a picture's mark, two of its own, its end mark, words. */
    private static final Sample SAMPLE = new Sample(
            "row 7",
            new int[] {2, 10, 4, 5, 5, 6, 11, 12},
            new int[] {0, 0, 0, 1, 1, 0, 0, 0},
            new int[] {-100, 10, -100, -100, -100, -100, 11, 12},
            List.of());

    private static Sample cut(int length) {
        return new LengthLimit(length, Overlong.TRUNCATE_TEXT, 100).fit(SAMPLE).sample();
    }

    @ParameterizedTest
    @ValueSource(ints = {6, 7})
    void textBehindAPictureIsCut(int length) {
        assertEquals(length, cut(length).inputIds().length);
    }

    @ParameterizedTest
    @ValueSource(ints = {2, 3, 4, 5})
    void noPictureLosesATokenOrItsEndMark(int length) {
        String message = assertThrows(FormatException.class, () -> cut(length)).getMessage();
        assertTrue(
                message.startsWith("row 7: has 8 tokens, more than --max_length " + length + ", and an image"),
                message);
    }

    @Test
    void whatFitsStaysWhole() {
        assertEquals(SAMPLE, cut(8));
    }
}
