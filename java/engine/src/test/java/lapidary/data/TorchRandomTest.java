package lapidary.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Golden values: bench/reference/make_data_golden.py (torch 2.13). */
class TorchRandomTest {
    static List<String> golden() throws IOException {
        return Files.readAllLines(Path.of("src/test/resources/lapidary/data/randperm.txt"));
    }

    /** A line is n, seed, the sum of (i + 1) * p[i], and the first values of p. */
    @ParameterizedTest
    @MethodSource("golden")
    void permutesAsTorch(String line) {
        long[] expected =
                Arrays.stream(line.split(" ")).mapToLong(Long::parseLong).toArray();
        int[] p = TorchRandom.randperm((int) expected[0], expected[1]);
        assertEquals(expected[0], p.length);
        long sum = 0;
        for (int i = 0; i < p.length; i++) {
            sum += (i + 1L) * p[i];
        }
        assertEquals(expected[2], sum);
        for (int i = 3; i < expected.length; i++) {
            assertEquals(expected[i], p[i - 3]);
        }
    }

    @Test
    void drawsAsTheReferenceGenerator() {
        TorchRandom random =
                new TorchRandom(5489); // the first and the 10,000th number for this seed are in the C++ standard
        assertEquals(0xD091BB5C, random.nextInt());
        int last = 0;
        for (int i = 2; i <= 10_000; i++) {
            last = random.nextInt();
        }
        assertEquals(4123659995L, last & 0xffffffffL);
    }

    @Test
    void edges() {
        assertArrayEquals(new int[0], TorchRandom.randperm(0, 1));
        assertThrows(IllegalArgumentException.class, () -> TorchRandom.randperm(-1, 1));
    }
}
