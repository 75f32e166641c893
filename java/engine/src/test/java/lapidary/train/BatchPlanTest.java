package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.util.Iterator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class BatchPlanTest {
    @Test
    void anEpochFollowsTorchsPermutation() {
        BatchPlan plan = BatchPlan.of(7, 3, 1, 1, -1);
        Iterator<int[]> rows = plan.rows(42); // torch's randperm(7), seed 42: 1 6 3 5 4 0 2
        assertArrayEquals(new int[] {1, 6, 3}, rows.next());
        assertArrayEquals(new int[] {5, 4, 0}, rows.next());
        assertArrayEquals(new int[] {2}, rows.next());
        assertFalse(rows.hasNext());
        assertEquals(3, plan.maxSteps());
    }

    @ParameterizedTest
    @CsvSource({"7,3,2,1,-1,2", "7,3,2,3,-1,6", "7,3,2,1,5,5", "400,8,4,0.5,-1,7", "1,8,4,1,-1,1"})
    void stepsAreThoseOfTheTrainer(int rows, int batch, int accumulation, double epochs, int maxSteps, int expected) {
        assertEquals(
                expected,
                BatchPlan.of(rows, batch, accumulation, epochs, maxSteps).maxSteps());
    }

    @Test
    void theLastGroupOfAnEpochMayBeShorter() {
        BatchPlan plan = BatchPlan.of(7, 3, 2, 2, -1);
        assertEquals(4, plan.maxSteps());
        assertEquals(2, plan.microBatchesIn(0));
        assertEquals(1, plan.microBatchesIn(1));
        assertEquals(2, plan.microBatchesIn(2));
        assertEquals(6, plan.microBatchCount());
        assertEquals(5, BatchPlan.of(7, 3, 2, 2, 3).microBatchCount());
    }

    @Test
    void epochsCountBatchesDone() {
        BatchPlan plan = BatchPlan.of(400, 8, 4, 3, -1);
        assertEquals(0.08, plan.epochAfter(1), 1e-12);
        assertEquals(1.0, plan.epochAfter(plan.stepsPerEpoch()), 1e-12);
        assertEquals(1.08, plan.epochAfter(plan.stepsPerEpoch() + 1), 1e-12);
    }
}
