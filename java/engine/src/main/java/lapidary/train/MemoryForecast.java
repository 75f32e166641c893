package lapidary.train;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.DryDevice;
import lapidary.optim.OptimizerOptions;
import lapidary.train.MemoryEstimate.Row;

/** Tells before the first step what a run will take of its device's memory, and where that is too much, what fits. */
final class MemoryForecast implements AutoCloseable {
    private static final int NO_TOKENS = 0; // so that the least of the optimiser's state counts

    private final SftConfig config;
    private final LoraChoice lora;
    private final Device device;
    private final long memory;
    private final NewRun newRun;
    private final DryDevice dry;
    private final MemoryEstimate estimate;

    /** @param newRun what it takes to begin the run anew with other options */
    MemoryForecast(SftConfig config, LoraChoice lora, Device device, NewRun newRun) {
        this(config, lora, device, newRun, device.memory());
    }

    /** @param memory bytes that the device is taken to have */
    MemoryForecast(SftConfig config, LoraChoice lora, Device device, NewRun newRun, long memory) {
        this.config = config;
        this.lora = lora;
        this.device = device;
        this.newRun = newRun;
        this.memory = memory;
        this.dry = DryDevice.inPlaceOf(device);
        try {
            this.estimate = new MemoryEstimate(config, dry, lora);
        } catch (RuntimeException e) {
            dry.close();
            throw e;
        }
    }

    /** Of the model, what is trained and its optimiser, where these are more than the device has; else nothing. */
    Optional<MemoryOutlook> tooLarge() {
        MemoryNeed need = estimate.withoutStep(NO_TOKENS);
        long takes = estimate.takes(need);
        return takes <= memory
                ? Optional.empty()
                : Optional.of(outlook(need, takes, false, List.of(), advice(List.of(), NO_TOKENS, HeldOut.NONE)));
    }

    /** Of the batch with the longest of these rows, or of an evaluation, whatever takes more. */
    MemoryOutlook of(Checked rows, HeldOut heldOut) {
        return of(MemoryEstimate.longest(rows.tokens(), rows.views(), config), rows.vocabulary(), heldOut);
    }

    MemoryOutlook of(List<Row> longest, int vocabulary, HeldOut heldOut) {
        MemoryNeed steps = estimate.of(longest, vocabulary);
        MemoryNeed need = steps;
        List<Row> most = longest;
        for (List<Row> batch : heldOut.worst(config.evaluation().batchSize())) {
            MemoryNeed evaluating = estimate.evaluating(steps, longest, batch);
            if (estimate.takes(evaluating) > estimate.takes(need)) {
                need = evaluating;
                most = batch;
            }
        }
        long takes = estimate.takes(need);
        String advice = takes <= memory ? "" : advice(longest, vocabulary, heldOut);
        return outlook(need, takes, most != longest, most, advice);
    }

    private MemoryOutlook outlook(MemoryNeed need, long takes, boolean inEvaluation, List<Row> rows, String advice) {
        return new MemoryOutlook(
                need,
                takes,
                memory,
                !dry.name().equals("cuda"),
                inEvaluation,
                rows.size(),
                rows.stream().mapToInt(Row::tokens).sum(),
                rows.stream().mapToInt(Row::views).sum(),
                advice);
    }

    // ---- what fits -----------------------------------------------------------------------------------------------

    /**
     * The least that has to be changed, in the order of what it costs: the batch first, then time, then precision. A run that is
     * gone on with may change no more than checkpointing and the evaluation's batch; a new one from its adapter may change all.
     */
    private String advice(List<Row> longest, int vocabulary, HeldOut heldOut) {
        List<String> options = new ArrayList<>();
        SftConfig tried = config;
        for (SftConfig next : smaller()) {
            options.addAll(differences(tried, next));
            tried = next;
            try (DryDevice place = DryDevice.inPlaceOf(device);
                    MemoryEstimate there = new MemoryEstimate(tried, place, lora)) {
                boolean sameRun = isSameRun(tried);
                if (longest.isEmpty()) {
                    long takes = there.takes(there.withoutStep(vocabulary));
                    if (takes <= memory) {
                        return newRun.with(String.join(" ", options), sameRun);
                    }
                    continue;
                }
                for (int batch = config.perDeviceTrainBatchSize(); batch > 0; batch--) {
                    boolean whole = batch == config.perDeviceTrainBatchSize();
                    if (newRun.isNeeded() && sameRun && !whole && !config.gradientCheckpointing() && tried == config) {
                        break; // checkpointing before what takes a new run
                    }
                    String found = config.perDeviceTrainBatchSize() % batch == 0
                            ? fitting(batch, there, longest.subList(0, batch), vocabulary, heldOut)
                            : "";
                    if (!found.isEmpty()) {
                        return newRun.with((String.join(" ", options) + found).strip(), sameRun && whole);
                    }
                }
            }
        }
        return newRun.isNeeded() ? MemoryAdvice.LESS_IN_A_NEW_RUN : "";
    }

    /** Whether a checkpoint is gone on from with these options. */
    private boolean isSameRun(SftConfig other) {
        return other.optimizer().equals(config.optimizer())
                && other.dtype() == config.dtype()
                && other.loadIn4bit() == config.loadIn4bit();
    }

    private String fitting(int batch, MemoryEstimate there, List<Row> rows, int vocabulary, HeldOut heldOut) {
        int groups = config.gradientAccumulationSteps() * (config.perDeviceTrainBatchSize() / batch);
        MemoryNeed steps = there.of(rows, vocabulary, groups);
        if (there.takes(steps) > memory) {
            return "";
        }
        String size = batch == config.perDeviceTrainBatchSize()
                ? ""
                : " --per_device_train_batch_size " + batch + " --gradient_accumulation_steps " + groups;
        int held = config.evaluation().batchSize();
        for (int atATime = held; atATime > 0; atATime /= 2) {
            long takes = there.takes(steps);
            for (List<Row> worst : heldOut.worst(atATime)) {
                takes = Math.max(takes, there.takes(there.evaluating(steps, rows, worst)));
            }
            if (takes <= memory) {
                return size
                        + (atATime == held ? "" : " --per_device_eval_batch_size " + atATime)
                        + String.format(Locale.ROOT, " (about %.2f GiB)", takes / (double) (1L << 30));
            }
        }
        return "";
    }

    /** The run as it is, and others that take less and less. */
    private List<SftConfig> smaller() {
        List<SftConfig> all = new ArrayList<>(List.of(config));
        if (!config.gradientCheckpointing()) {
            all.add(all.getLast().with(true, config.optimizer(), config.dtype(), config.loadIn4bit()));
        }
        OptimizerOptions optimizer = config.optimizer();
        if (optimizer.optim().startsWith("adamw_torch")) {
            optimizer = new OptimizerOptions(
                    OptimizerOptions.ADAMW_8BIT,
                    optimizer.beta1(),
                    optimizer.beta2(),
                    optimizer.epsilon(),
                    optimizer.weightDecay());
            all.add(all.getLast().with(true, optimizer, config.dtype(), config.loadIn4bit()));
        }
        if (config.dtype() != DType.BF16) {
            all.add(all.getLast().with(true, optimizer, DType.BF16, config.loadIn4bit()));
        }
        if (!config.loadIn4bit() && !estimate.isQuantized()) {
            all.add(all.getLast().with(true, optimizer, DType.BF16, true));
        }
        return all;
    }

    private static List<String> differences(SftConfig from, SftConfig to) {
        List<String> options = new ArrayList<>();
        if (from.gradientCheckpointing() != to.gradientCheckpointing()) {
            options.add("--gradient_checkpointing true");
        }
        if (!from.optimizer().equals(to.optimizer())) {
            options.add("--optim " + to.optimizer().optim());
        }
        if (from.dtype() != to.dtype()) {
            options.add("--dtype bfloat16");
        }
        if (from.loadIn4bit() != to.loadIn4bit()) {
            options.add("--load_in_4bit");
        }
        return options;
    }

    @Override
    public void close() {
        estimate.close();
        dry.close();
    }
}
