package lapidary.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import lapidary.data.Sample;
import lapidary.data.Samples;
import lapidary.gemma3.PackedBatch;

/** Makes micro-batches of data set rows: template, ids, labels, decoded pixels. Called from several threads. */
final class MicroBatches {
    private final Samples samples;
    private final int padId;

    /** @param padId the token that pads a batch */
    MicroBatches(Samples samples, int padId) {
        this.samples = samples;
        this.padId = padId;
    }

    MicroBatch load(int[] rows) {
        List<PackedBatch.Row> packed = new ArrayList<>();
        List<String> names = new ArrayList<>();
        List<int[]> targets = new ArrayList<>();
        for (int row : rows) {
            Samples.Loaded loaded = samples.load(row, true);
            Sample sample = loaded.sample();
            packed.add(new PackedBatch.Row(sample.inputIds(), sample.tokenTypeIds(), loaded.pixels()));
            names.add(sample.id());
            targets.add(shifted(sample.labels()));
        }
        PackedBatch batch = PackedBatch.padded(packed, padId);
        int[] all = new int[batch.tokens()];
        Arrays.fill(all, Sample.MASKED);
        int tokens = 0;
        for (int[] row : targets) {
            System.arraycopy(row, 0, all, tokens, row.length);
            tokens += row.length;
        }
        int trained = (int)
                Arrays.stream(all).filter(target -> target != Sample.MASKED).count();
        return new MicroBatch(batch, tokens, all, trained, names);
    }

    /** What each position must predict: the label after it; the last position has none. */
    private static int[] shifted(int[] labels) {
        int[] targets = new int[labels.length];
        System.arraycopy(labels, 1, targets, 0, labels.length - 1);
        targets[labels.length - 1] = Sample.MASKED;
        return targets;
    }
}
