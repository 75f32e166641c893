package lapidary.infer;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class StopStringsTest {
    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "a b|Hello World|Hello World",
                "World|Hello World!|'Hello '",
                "World, Wor|Hello Wonder|Hello Wonder",
                "xy|aaxxy|aax",
                "aab|aaab|a",
                "lo W, World|Hello World|Hel",
            })
    void cutsBeforeTheFirst(String stops, String text, String expected) {
        for (int size = 1; size <= text.length(); size++) {
            StopStrings stop = new StopStrings(List.of(stops.split(", ")));
            StringBuilder shown = new StringBuilder();
            for (int at = 0; at < text.length(); at += size) {
                shown.append(stop.add(text.substring(at, Math.min(text.length(), at + size))));
            }
            shown.append(stop.end());
            assertEquals(expected, shown.toString(), "pieces of " + size);
        }
    }

    @Test
    void showsNothingThatCouldStillBelongToAStop() {
        Random random = new Random(3);
        for (int run = 0; run < 2000; run++) {
            List<String> stops = List.of(word(random, 1 + random.nextInt(4)), word(random, 1 + random.nextInt(4)));
            StopStrings stop = new StopStrings(stops);
            StringBuilder all = new StringBuilder();
            StringBuilder shown = new StringBuilder();
            List<String> pieces = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                String piece = word(random, random.nextInt(4));
                pieces.add(piece);
                all.append(piece);
                shown.append(stop.add(piece));
            }
            shown.append(stop.end());
            int first = stops.stream()
                    .mapToInt(s -> all.indexOf(s))
                    .filter(at -> at >= 0)
                    .min()
                    .orElse(-1);
            // A stop that ends first ends the answer, though another one might have begun before it.
            assertEquals(first >= 0, stop.isReached(), stops + " in " + pieces);
            assertTrue(all.toString().startsWith(shown.toString()), stops + " in " + pieces);
            for (String s : stops) {
                assertTrue(shown.indexOf(s) < 0, stops + " in " + pieces);
            }
        }
    }

    private static String word(Random random, int length) {
        StringBuilder word = new StringBuilder();
        for (int i = 0; i < length; i++) {
            word.append((char) ('a' + random.nextInt(2)));
        }
        return word.toString();
    }
}
