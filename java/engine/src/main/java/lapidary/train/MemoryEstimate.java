package lapidary.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.stream.IntStream;
import lapidary.autograd.Gradients;
import lapidary.data.Preflight.Findings;
import lapidary.data.Profile;
import lapidary.data.Sample;
import lapidary.device.DryDevice;
import lapidary.device.MemoryPool;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Gemma3Config;
import lapidary.gemma3.PackedBatch;
import lapidary.gemma3.PeftAdapter;
import lapidary.image.ImagePreprocessor;
import lapidary.image.Pixels;
import lapidary.image.Rgb;
import lapidary.nn.Parameter;
import lapidary.op.LinearCrossEntropy;
import lapidary.optim.Optimizer;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Tells what memory a run takes before it begins, by beginning it on a device that computes nothing: the same model, ops,
 * optimiser and pool, so that nothing is known twice. The peak is the first step's with these rows; later ones may find blocks in
 * the pool that are up to half as large again as they ask for.
 *
 * <p>What the device's own libraries take beside its pool is not seen. {@link #PROGRAM} stands for it.
 */
public final class MemoryEstimate implements AutoCloseable {
    /**
     * Java, its heap without pictures, the native libraries and what they keep. Measured as resident memory less the pool's
     * peak: see {@code bench/results/memory.md}.
     */
    static final long PROGRAM = 450L << 20;

    /** A CUDA context, cuBLASLt and the kernels' code on the card. Not measured: what NVIDIA's tools show of like programs. */
    static final long CUDA_PROGRAM = 700L << 20;

    /** Micro-batches of a step that are run through: the others add as much as the second, gradients of rows of tables. */
    private static final int MICRO_BATCHES = 2;

    private static final int LARGEST_BATCH = 1024;

    /**
     * A row, as far as memory depends on it.
     *
     * @param tokens its pictures' included
     * @param views of its pictures
     */
    public record Row(int tokens, int views) {}

    private final SftConfig config;
    private final DryDevice device;
    private final Gemma3 model;
    private final Optimizer optimizer;
    private final long workspace; // what the device keeps for itself
    private final long loaded;
    private final long adapters;
    private final long fixed; // model and optimiser
    private final long loading;

    MemoryEstimate(SftConfig config, DryDevice device, LoraChoice lora) {
        this.config = config;
        this.device = device;
        MemoryPool pool = device.pool();
        workspace = pool.inUse();
        model = Gemma3.dry(config.modelNameOrPath(), device, config.precision(), lora.spec(), config.seed());
        loaded = pool.inUse();
        adapters = model.parameters().stream()
                .mapToLong(parameter -> parameter.value().bytes())
                .sum();
        optimizer =
                new Optimizer(model.frame(), model.parameters(), config.optimizer(), config.profile() == Profile.TRL);
        fixed = pool.inUse();
        loading = pool.peak();
    }

    /**
     * For one configuration; its model folder needs no more than config.json.
     *
     * @param device open until this is closed
     * @throws lapidary.format.FormatException config.json, or an adapter to start from, is not what it should be
     * @throws IllegalArgumentException an option does not fit the model
     */
    public static MemoryEstimate of(SftConfig config, DryDevice device) {
        if (config.initAdapter() == null) {
            return new MemoryEstimate(config, device, LoraChoice.of(config, null));
        }
        try (PeftAdapter init = PeftAdapter.open(config.initAdapter())) {
            return new MemoryEstimate(config, device, LoraChoice.of(config, init));
        }
    }

    /**
     * Of steps whose micro-batches all consist of these rows.
     *
     * @param vocabulary different tokens that the data have in all
     */
    public MemoryNeed of(List<Row> rows, int vocabulary) {
        return of(rows, vocabulary, config.gradientAccumulationSteps());
    }

    /**
     * Of steps, and of an evaluation between two of them.
     *
     * @param steps their need
     * @param rows of their micro-batches
     * @param heldOut rows of the evaluation's batch
     */
    MemoryNeed evaluating(MemoryNeed steps, List<Row> rows, List<Row> heldOut) {
        MicroBatch batch = microBatch(heldOut, new int[1]);
        MemoryPool pool = device.pool();
        pool.restartPeak();
        model.dropout().setTraining(false);
        Evaluation.forward(model, batch);
        model.dropout().setTraining(true);
        long evaluating = pool.peak() - fixed + workspace - steps.gradients(); // there are no gradients then
        long ahead = rows.stream().mapToInt(Row::views).sum() * viewBytes() * Batches.AHEAD; // of the next steps
        return steps.with(
                Math.max(steps.activations(), evaluating),
                Math.max(steps.logits(), logits(batch.trained())),
                Math.max(steps.pictures(), ahead + pictures(List.of(batch), 1)));
    }

    private long viewBytes() {
        return model.config().isTextOnly()
                ? 0
                : black(model.config().vision().imageSize()).heapBytes();
    }

    /** Of steps of so many micro-batches. */
    MemoryNeed of(List<Row> rows, int vocabulary, int microBatches) {
        int[] next = {0};
        List<MicroBatch> group = new ArrayList<>();
        for (int i = Math.min(MICRO_BATCHES, microBatches); i > 0; i--) {
            group.add(microBatch(rows, next));
        }
        return ofStep(group, microBatches, vocabulary);
    }

    /** Of model, what is trained and its optimiser, without a step; and of the loading. */
    MemoryNeed withoutStep(int vocabulary) {
        long mapped = model.mappedBytes();
        long untouched = untouched(vocabulary);
        return new MemoryNeed(
                loaded - workspace - adapters + mapped,
                adapters,
                fixed - loaded - untouched,
                0,
                workspace,
                0,
                loading + mapped - untouched,
                0,
                program());
    }

    /** Of a step that begins with these of its micro-batches and goes on with more like the last. */
    private MemoryNeed ofStep(List<MicroBatch> group, int microBatches, int vocabulary) {
        MemoryPool pool = device.pool();
        List<Tensor> trained = model.parameters().stream().map(Parameter::value).toList();
        int normaliser = group.stream().mapToInt(MicroBatch::trained).sum();
        pool.restartPeak();
        long gradients = 0;
        long growth = 0; // by the last micro-batch
        try (Frame step = model.frame().child("step");
                Gradients grads = new Gradients(step, trained)) {
            for (MicroBatch batch : group) {
                Sft.forwardBackward(config, model, batch, normaliser, trained, step, grads);
                growth = pool.inUse() - fixed - gradients;
                gradients += growth;
            }
            optimizer.clip(grads, (float) config.maxGradNorm());
            optimizer.step(grads, config.learningRate());
        }
        MemoryNeed alone = withoutStep(vocabulary);
        int targets = group.stream().mapToInt(MicroBatch::trained).max().orElse(0);
        return new MemoryNeed(
                alone.weights(),
                alone.adapters(),
                alone.optimizer(),
                Math.max(
                        gradients,
                        Math.min(
                                whole(),
                                gradients + (microBatches - group.size()) * growth)), // no more than whole tables
                Math.max(0, pool.peak() - fixed - gradients) + workspace,
                logits(targets),
                alone.loading(),
                pictures(group, microBatches),
                alone.program());
    }

    /** Gradients of all that is trained, where no table's are of single rows. */
    private long whole() {
        return model.parameters().stream()
                .mapToLong(parameter -> Float.BYTES * parameter.value().elements())
                .sum();
    }

    private long program() {
        return device.name().equals("cuda") ? CUDA_PROGRAM : PROGRAM;
    }

    /**
     * Optimiser state of rows of the embedding that no token of the data has: it is never written to, and where fresh pages
     * are zero the system never gives them.
     */
    private long untouched(int vocabulary) {
        if (device.name().equals("cuda")) {
            return 0;
        }
        long bytes = 0;
        for (Parameter parameter : model.parameters()) {
            Tensor table = parameter.value();
            if (parameter.name().endsWith(".embed_tokens.weight")) {
                long unused = table.rows() - Math.min(vocabulary, table.rows());
                bytes += optimizer.bytesOfUsedElement(parameter.name()) * unused * table.last();
            }
        }
        return bytes;
    }

    private long logits(int targets) {
        return LinearCrossEntropy.logitBytes(
                device.kernels(), model.lmHead(), (float) model.config().text().finalLogitSoftcapping(), targets);
    }

    /** Those of the step, all of which are in hand at once, and of what is read ahead of it. */
    private long pictures(List<MicroBatch> group, int microBatches) {
        long most = group.stream()
                .mapToLong(batch -> batch.packed().pixels().stream()
                        .mapToLong(Pixels::heapBytes)
                        .sum())
                .max()
                .orElse(0);
        return most * (microBatches + Batches.AHEAD);
    }

    /**
     * The most rows of a batch, of {@code rows} the first, whose need fits into {@code memory} bytes; 0 where not even one
     * does. Later rows must not be longer.
     */
    public int largestBatch(List<Row> rows, int vocabulary, long memory) {
        long one = takes(of(batch(rows, 1), vocabulary));
        if (one > memory) {
            return 0;
        }
        long slope = Math.max(1, takes(of(batch(rows, 2), vocabulary)) - one);
        int fits = 1;
        int tooMany = LARGEST_BATCH + 1;
        int probe = Math.clamp(1 + (memory - one) / slope, 2, LARGEST_BATCH); // nearly a line, so nearly right
        while (tooMany - fits > 1) {
            if (takes(of(batch(rows, probe), vocabulary)) <= memory) {
                fits = probe;
                probe = Math.min(tooMany - 1, probe + 1 + probe / 32);
            } else {
                tooMany = probe;
                probe = Math.max(fits + 1, probe - 1 - probe / 32);
            }
        }
        return fits;
    }

    /** What of the need counts for the device's memory: on the host's processor all. */
    public long takes(MemoryNeed need) {
        return need.device() + need.program() + (device.name().equals("cuda") ? 0 : need.pictures());
    }

    private static List<Row> batch(List<Row> rows, int size) {
        List<Row> batch = new ArrayList<>(rows.subList(0, Math.min(size, rows.size())));
        batch.addAll(Collections.nCopies(size - batch.size(), rows.getLast()));
        return batch;
    }

    /**
     * The units of a batch that make the most demanding one: those with most pictures, of these the longest. With packing a
     * unit is a set of rows, taken here as one row.
     *
     * @return as many as a batch has; the last is repeated where there are not so many
     */
    public static List<Row> longest(Findings findings, SftConfig config) {
        return longest(findings.tokens(), findings.views(), config);
    }

    /** The same of rows of which tokens and views are known. */
    static List<Row> longest(int[] tokens, int[] views, SftConfig config) {
        return batch(
                units(tokens, views, config).stream()
                        .sorted(Comparator.comparingInt(Row::views)
                                .thenComparingInt(Row::tokens)
                                .reversed())
                        .limit(config.perDeviceTrainBatchSize())
                        .toList(),
                config.perDeviceTrainBatchSize());
    }

    private static List<Row> units(int[] tokens, int[] views, SftConfig config) {
        int[] all = IntStream.range(0, tokens.length).toArray();
        int[][] units = Units.sets(config, config.packing(), all, tokens);
        return Arrays.stream(units)
                .map(unit -> new Row(
                        Arrays.stream(unit).map(i -> tokens[i]).sum(),
                        Arrays.stream(unit).map(i -> views[i]).sum()))
                .toList();
    }

    private static Pixels black(int side) {
        return ImagePreprocessor.gemma3(side).pixelValues(new Rgb(side, side, new byte[3 * side * side]));
    }

    private MicroBatch microBatch(List<Row> rows, int[] next) {
        Gemma3Config shape = model.config();
        Pixels view = shape.isTextOnly() ? null : black(shape.vision().imageSize());
        List<PackedBatch.Row> packed = new ArrayList<>();
        for (Row row : rows) {
            int soft = row.views() * shape.mmTokensPerImage();
            int[] ids = new int[Math.max(row.tokens(), soft)];
            int[] types = new int[ids.length];
            Arrays.fill(ids, 0, soft, shape.imageTokenId());
            Arrays.fill(types, 0, soft, 1);
            for (int t = soft; t < ids.length; t++) {
                ids[t] = another(next); // no token comes twice: the gradient of the embedding is as large as it can be
            }
            packed.add(new PackedBatch.Row(ids, types, Collections.nCopies(row.views(), view)));
        }
        PackedBatch batch = PackedBatch.padded(packed, shape.text().padTokenId());
        int[] targets = new int[batch.tokens()];
        Arrays.fill(targets, Sample.MASKED);
        int tokens = packed.stream().mapToInt(row -> row.ids().length).sum();
        for (int t = 0; t < tokens; t++) {
            targets[t] = batch.tokenTypes()[t] == 1 ? Sample.MASKED : batch.ids()[t];
        }
        int trained =
                (int) Arrays.stream(targets).filter(id -> id != Sample.MASKED).count();
        return new MicroBatch(batch, tokens, targets, trained, List.of());
    }

    /** Whether the model is stored in NF4. */
    boolean isQuantized() {
        return model.config().isQuantized();
    }

    /** Of {@link MemoryNeed#weights}, what lies in the mapped files. */
    long mappedBytes() {
        return model.mappedBytes();
    }

    private int another(int[] next) {
        Gemma3Config.Text text = model.config().text();
        do {
            next[0] = (next[0] + 1) % text.vocabSize();
        } while (next[0] == text.padTokenId() || next[0] == model.config().imageTokenId());
        return next[0];
    }

    @Override
    public void close() {
        model.close();
    }
}
