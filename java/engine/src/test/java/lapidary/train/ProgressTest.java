package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import lapidary.gemma3.PackedBatch;
import lapidary.image.FloatPixels;
import lapidary.image.Pixels;
import lapidary.op.LinearCrossEntropy;
import org.junit.jupiter.api.Test;

final class ProgressTest {
    private static final UsefulFlops FLOPS = new UsefulFlops(1e6, 1e9);

    private static Progress afterOneStep(double peak) {
        BatchPlan plan = BatchPlan.of(4, 2, 1, 1, -1);
        Progress progress = new Progress(plan, 1, false, FLOPS, peak, () -> 0);
        Pixels picture = new FloatPixels(new float[3]);
        List<Pixels> pictures = List.of(picture, picture);
        PackedBatch packed = PackedBatch.of(List.of(
                new PackedBatch.Row(new int[5], new int[5], pictures),
                new PackedBatch.Row(new int[7], new int[7], List.of(picture))));
        progress.startStep();
        progress.add(
                new MicroBatch(packed, 12, new int[12], 12, List.of("a", "b")),
                new LinearCrossEntropy.Statistics(1, 0, 0, 12));
        progress.endStep(1, 1);
        return progress;
    }

    @Test
    void tokensAndPicturesAreUsefulWork() {
        StepMetrics metrics = afterOneStep(1e15).log();
        assertEquals(12 * 1e6 + 3 * 1e9, metrics.mfu() * 1e15 * metrics.stepSeconds(), 1);
        assertEquals(metrics.mfu(), metrics.line().get("mfu"));
    }

    @Test
    void withoutAPeakThereIsNoShareOfIt() {
        StepMetrics metrics = afterOneStep(0).log();
        assertEquals(0, metrics.mfu());
        assertEquals(null, metrics.line().get("mfu"));
    }
}
