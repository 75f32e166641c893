package lapidary.optim;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class LinearScheduleTest {
    @ParameterizedTest
    @CsvSource({
        // warmup, total, step, share of the peak: by transformers' formula
        "0,10,0,1", "0,10,1,0.9", "0,10,9,0.1", "0,10,10,0",
        "4,10,0,0", "4,10,1,0.25", "4,10,4,1", "4,10,7,0.5",
        "0.25,10,1,0.33333333333333", "0.25,10,3,1", "20,10,5,0.25"
    })
    void followsTransformers(double warmup, int total, int step, double share) {
        assertEquals(3e-4 * share, new LinearSchedule(3e-4, warmup, total).at(step), 1e-15);
    }
}
