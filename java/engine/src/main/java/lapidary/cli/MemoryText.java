package lapidary.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import lapidary.device.Device;
import lapidary.device.DryDevice;
import lapidary.train.MemoryEstimate;
import lapidary.train.MemoryEstimate.Row;
import lapidary.train.MemoryNeed;
import lapidary.train.SftConfig;

/** What a run takes of memory, in lines for people. */
final class MemoryText {
    private static final double GIB = 1L << 30;

    /** A card of the size that the guide's recipe is run on. */
    private static final long CARD = 24L << 30;

    private MemoryText() {}

    /**
     * @param device where the run would be
     * @param vocabulary different tokens of the data
     * @param rows of the most demanding batch and more of them, the longest first
     */
    static List<String> of(SftConfig config, Device device, List<Row> rows, int vocabulary) {
        List<String> lines = new ArrayList<>();
        List<Row> batch = rows.subList(0, config.perDeviceTrainBatchSize());
        try (DryDevice dry = DryDevice.inPlaceOf(device);
                MemoryEstimate estimate = MemoryEstimate.of(config, dry)) {
            MemoryNeed need = estimate.of(batch, vocabulary);
            lines.add(String.format(
                    Locale.ROOT,
                    "about %s, for the longest rows in one batch: %s",
                    gib(estimate.takes(need)),
                    rows(batch)));
            lines.add(parts(need, dry.name()));
            int most = estimate.largestBatch(rows, vocabulary, device.memory());
            lines.add("this " + (dry.name().equals("cuda") ? "GPU" : "machine") + " has " + gib(device.memory())
                    + (most == 0 ? ", which holds no batch at all" : ", which holds batches of up to " + most));
        }
        if (!device.name().equals("cuda")) {
            try (DryDevice dry = DryDevice.cuda(CARD);
                    MemoryEstimate estimate = MemoryEstimate.of(config, dry)) {
                long takes = estimate.takes(estimate.of(batch, vocabulary));
                int most = estimate.largestBatch(rows, vocabulary, CARD);
                lines.add("a GPU of 24 GiB would need " + gib(takes)
                        + (most == 0 ? "; it holds no batch at all" : "; it holds batches of up to " + most));
            }
        }
        return lines;
    }

    private static String parts(MemoryNeed need, String device) {
        List<String> parts = new ArrayList<>();
        parts.add("weights " + gib(need.weights()));
        parts.add("adapters and saved tables " + gib(need.adapters()));
        parts.add("optimiser " + gib(need.optimizer()));
        parts.add("gradients " + gib(need.gradients()));
        parts.add("activations " + gib(need.activations())
                + (need.logits() == 0 ? " (no logits are held)" : " (logits up to " + gib(need.logits()) + ")"));
        String host = "decoded pictures " + gib(need.pictures());
        parts.add(
                device.equals("cuda")
                        ? "libraries " + gib(need.program())
                        : host + ", Java and libraries " + gib(need.program()));
        return String.join(", ", parts) + (device.equals("cuda") ? "; on the host " + host : "");
    }

    private static String rows(List<Row> batch) {
        int tokens = batch.stream().mapToInt(Row::tokens).sum();
        int views = batch.stream().mapToInt(Row::views).sum();
        return String.format(
                Locale.ROOT,
                "%,d with %,d tokens%s",
                batch.size(),
                tokens,
                views == 0 ? "" : String.format(Locale.ROOT, " and %,d pictures", views));
    }

    static String gib(long bytes) {
        return bytes < GIB / 10
                ? String.format(Locale.ROOT, "%,d MiB", Math.ceilDiv(bytes, 1 << 20))
                : String.format(Locale.ROOT, "%.2f GiB", bytes / GIB);
    }
}
