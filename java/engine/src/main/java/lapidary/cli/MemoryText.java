package lapidary.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import lapidary.device.Device;
import lapidary.device.DryDevice;
import lapidary.train.MemoryEstimate;
import lapidary.train.MemoryEstimate.Row;
import lapidary.train.MemoryNeed;
import lapidary.train.MemoryOutlook;
import lapidary.train.SftConfig;

/** What a run takes of memory, in lines for people. */
final class MemoryText implements AutoCloseable {
    private static final double GIB = 1L << 30;

    /** A card of the size that the guide's recipe is run on. */
    private static final long CARD = 24L << 30;

    private final SftConfig config;
    private final Device device;
    private final DryDevice dry;
    private final MemoryEstimate estimate;

    /**
     * @param device where the run would be; open until this is closed
     * @throws IllegalArgumentException an option does not fit the model
     * @throws lapidary.format.FormatException config.json, or an adapter to start from, is not what it should be
     */
    MemoryText(SftConfig config, Device device) {
        this.config = config;
        this.device = device;
        this.dry = DryDevice.inPlaceOf(device);
        try {
            this.estimate = MemoryEstimate.of(config, dry);
        } catch (RuntimeException e) {
            dry.close();
            throw e;
        }
    }

    /**
     * @param vocabulary different tokens of the data
     * @param rows of the most demanding batch, the longest first
     */
    List<String> of(List<Row> rows, int vocabulary) {
        List<String> lines = new ArrayList<>();
        MemoryNeed need = estimate.of(rows, vocabulary);
        lines.add(String.format(
                Locale.ROOT, "about %s, for the longest rows in one batch: %s", gib(estimate.takes(need)), rows(rows)));
        lines.add(parts(need, dry.name()));
        int most = estimate.largestBatch(rows, vocabulary, device.memory());
        lines.add("this " + (dry.name().equals("cuda") ? "GPU" : "machine") + " has " + gib(device.memory()) + " in all"
                + holds(", which", most));
        if (!dry.name().equals("cuda")) {
            try (DryDevice card = DryDevice.cuda(CARD);
                    MemoryEstimate there = MemoryEstimate.of(config, card)) {
                MemoryNeed needed = there.of(rows, vocabulary);
                lines.add("a GPU of 24 GiB would need " + gib(there.takes(needed)) + ", of which "
                        + gib(needed.program()) + " for CUDA itself are a guess"
                        + holds("; it", there.largestBatch(rows, vocabulary, CARD)));
            }
        }
        return lines;
    }

    /** One line at the start of a run, or two where it will not fit. */
    static String line(MemoryOutlook outlook) {
        MemoryNeed need = outlook.need();
        String has = "this " + (outlook.isHost() ? "machine" : "GPU") + " has " + gib(outlook.memory());
        if (outlook.rows() == 0) {
            return "Memory: the model and what is trained take about " + gib(outlook.takes()) + " alone, but " + has
                    + warning(outlook);
        }
        String about = "Memory: about " + gib(outlook.takes())
                + (outlook.inEvaluation()
                        ? " while the longest held-out rows are evaluated, "
                        : " for the longest rows, ")
                + rows(outlook.rows(), outlook.tokens(), outlook.views());
        String parts = " (" + parts(need, outlook.isHost() ? "cpu" : "cuda") + ")";
        return outlook.fits() ? about + "; " + has + parts : about + ", but " + has + parts + warning(outlook);
    }

    private static String warning(MemoryOutlook outlook) {
        return System.lineSeparator() + "Warning: this run will most likely end for want of memory; "
                + (outlook.advice().isEmpty()
                        ? "smaller batches, gradient checkpointing, adamw_8bit and load_in_4bit do not make it fit: it"
                                + " takes fewer --lora_modules_to_save, a smaller --lora_r, a lower --max_length or a"
                                + " smaller model"
                        : "use " + outlook.advice());
    }

    private static String holds(String what, int most) {
        return what + (most == 0 ? " holds no batch at all" : " holds batches of up to " + most);
    }

    @Override
    public void close() {
        estimate.close();
        dry.close();
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
        return rows(batch.size(), tokens, views);
    }

    private static String rows(int rows, int tokens, int views) {
        return String.format(
                Locale.ROOT,
                "%,d with %,d tokens%s",
                rows,
                tokens,
                views == 0 ? "" : String.format(Locale.ROOT, " and %,d pictures", views));
    }

    static String gib(long bytes) {
        return bytes < GIB / 10
                ? String.format(Locale.ROOT, "%,d MiB", Math.ceilDiv(bytes, 1 << 20))
                : String.format(Locale.ROOT, "%.2f GiB", bytes / GIB);
    }
}
