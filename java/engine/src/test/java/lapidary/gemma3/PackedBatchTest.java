package lapidary.gemma3;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import lapidary.image.FloatPixels;
import lapidary.image.Pixels;
import org.junit.jupiter.api.Test;

final class PackedBatchTest {
    private static Pixels pixels(int values) {
        return new FloatPixels(new float[values]);
    }

    @Test
    void rowsLieEndToEnd() {
        PackedBatch batch = PackedBatch.of(List.of(
                new PackedBatch.Row(new int[] {2, 9, 9, 5}, new int[] {0, 1, 1, 0}, List.of(pixels(1))),
                new PackedBatch.Row(new int[] {9, 9, 3, 9}, new int[] {1, 1, 0, 1}, List.of(pixels(2), pixels(3)))));
        assertArrayEquals(new int[] {0, 4, 8}, batch.starts());
        assertArrayEquals(new int[] {0, 1, 2, 3, 0, 1, 2, 3}, batch.positions());
        assertArrayEquals(new int[] {-1, 0, 0, -1, 1, 1, -1, 2}, batch.spans());
        assertArrayEquals(new int[] {1, 2, 4, 5, 7}, batch.positionsOf(9));
        assertEquals(3, batch.pixels().size());
        assertEquals(4, batch.longestRow());
    }

    @Test
    void anImageAtARowsEndDoesNotRunIntoTheNextRow() {
        PackedBatch batch = PackedBatch.of(List.of(
                new PackedBatch.Row(new int[] {9, 9}, new int[] {1, 1}, List.of()),
                new PackedBatch.Row(new int[] {9, 9}, new int[] {1, 1}, List.of())));
        assertArrayEquals(new int[] {0, 0, 1, 1}, batch.spans());
    }

    @Test
    void paddingIsARowOfItsOwn() {
        PackedBatch.Row row = new PackedBatch.Row(new int[] {2, 9, 5}, new int[] {0, 1, 0}, List.of(pixels(1)));
        PackedBatch batch = PackedBatch.padded(List.of(row), 7);
        assertEquals(64, batch.tokens());
        assertArrayEquals(new int[] {0, 3, 64}, batch.starts());
        assertEquals(7, batch.ids()[3]);
        assertEquals(-1, batch.spans()[3]);
        assertEquals(1, batch.pixels().size());
        assertEquals(
                64,
                PackedBatch.padded(List.of(new PackedBatch.Row(new int[64], new int[64], List.of())), 7)
                        .tokens());
    }
}
