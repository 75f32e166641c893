package lapidary.gemma3;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
import lapidary.device.DType;
import lapidary.nn.Dropout;
import lapidary.nn.Layer;
import lapidary.nn.LayerNorm;
import lapidary.nn.Linear;
import lapidary.nn.LoraLinear;
import lapidary.nn.LoraSpec;
import lapidary.nn.Nf4Linear;
import lapidary.nn.Parameter;
import lapidary.nn.RmsNorm;
import lapidary.quant.DenseWeight;
import lapidary.quant.LinearWeight;
import lapidary.quant.Nf4Tensor;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/**
 * Fills the places that a model file names: weights from a checkpoint, and in each linear layer's place a
 * {@link LoraLinear} where the adapter's specification says so. What it makes trainable is listed, in model order, under
 * PEFT's names.
 */
final class Slots {
    private static final String PEFT = "base_model.model.";
    private static final String A = ".lora_A.weight";
    private static final String B = ".lora_B.weight";

    private final Frame frame;
    private final Weights weights;
    private final LoraSpec lora; // null where nothing is trained
    private final PeftAdapter adapter; // to run beside the base; null where there is none
    private final boolean bf16Adapters; // beside quantised matrices
    private final Dropout dropout;
    private final RandomGenerator random;
    private final List<Parameter> parameters = new ArrayList<>();
    private final List<String> linears = new ArrayList<>();
    private final List<String> tables = new ArrayList<>(); // may be trained whole
    private final Set<String> frozenTables = new HashSet<>(); // weights of those that are not
    private final Set<String> read = new HashSet<>(); // of the adapter
    private int adapters;

    Slots(Frame frame, Weights weights, LoraSpec lora, boolean bf16Adapters, Dropout dropout, long seed) {
        this.frame = frame;
        this.weights = weights;
        this.lora = lora;
        this.adapter = null;
        this.bf16Adapters = bf16Adapters;
        this.dropout = dropout;
        this.random = RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
    }

    /**
     * Places with a finished adapter, that is run and not trained.
     *
     * @param frame owns the adapter's tensors; the weights stay where they are
     */
    Slots(Frame frame, Weights weights, PeftAdapter adapter) {
        this.frame = frame;
        this.weights = weights;
        this.lora = null;
        this.adapter = adapter;
        this.bf16Adapters = false;
        this.dropout = new Dropout(0, 0);
        this.random = null;
    }

    Tensor weight(String name, long... shape) {
        return weights.get(name, shape);
    }

    /** @return [out, channels * side * side] */
    Tensor convolution(String name, long out, long channels, long side) {
        return weights.convolution(name, out, channels, side);
    }

    boolean has(String name) {
        return weights.has(name);
    }

    /** A linear layer, with an adapter where one is asked for. */
    Layer linear(String module, long in, long out, boolean bias) {
        linears.add(module);
        LinearWeight weight = weights.linear(module, out, in);
        Tensor offset = bias ? weights.get(module + ".bias", out) : Tensor.NONE;
        if (adapter != null && adapter.has(PEFT + module + A) | adapter.has(PEFT + module + B)) {
            // What a training run rounds at each step, once: A, and B times the scale, in the dtype of activations.
            long r = adapter.spec().rank(module);
            Tensor a = read(module + A, weights.dtype(), 1, r, in);
            Tensor b = read(module + B, weights.dtype(), adapter.spec().scaling(module), out, r);
            return new LoraLinear(weight, offset, a, b, 1, dropout, adapters++);
        }
        if (lora == null || !lora.targets(module)) {
            return weight instanceof DenseWeight dense
                    ? new Linear(dense.tensor(), offset)
                    : new Nf4Linear((Nf4Tensor) weight, offset);
        }
        // Kaiming-uniform with a = sqrt(5) is U(-1/sqrt(in), 1/sqrt(in)); B starts at zero, so the adapter adds
        // nothing.
        float bound = (float) (1 / Math.sqrt(in));
        int r = lora.rank(module);
        float[] uniform = new float[Math.toIntExact(r * in)];
        for (int i = 0; i < uniform.length; i++) {
            uniform[i] = random.nextFloat(-bound, bound);
        }
        DType dtype = bf16Adapters && weight instanceof Nf4Tensor ? DType.BF16 : DType.F32;
        Tensor a = frame.empty(dtype, r, in);
        try (Frame scratch = frame.child("uniform")) {
            frame.kernels().convert(a, scratch.of(uniform, r, in), 1);
        }
        Tensor b = frame.zeros(dtype, out, r);
        parameters.add(new Parameter(PEFT + module + A, a));
        parameters.add(new Parameter(PEFT + module + B, b));
        return new LoraLinear(weight, offset, a, b, lora.scaling(module), dropout, adapters++);
    }

    /** A table that may be trained whole: a copy of the checkpoint's where it is, else the checkpoint's own. */
    Tensor table(String module, String weightName, long rows, long cols) {
        tables.add(module);
        Tensor weight = weights.get(weightName, rows, cols);
        if (adapter != null && adapter.has(PEFT + module + ".weight")) {
            return read(module + ".weight", weight.dtype(), 1, rows, cols);
        }
        if (lora == null || !lora.saves(module)) {
            frozenTables.add(weightName);
            return weight;
        }
        Tensor copy = frame.empty(weight.dtype(), Shape.of(rows, cols));
        frame.kernels().convert(copy, weight, 1);
        if (!frozenTables.contains(weightName)) {
            weights.drop(weightName); // 1.3 GB of a 4b model
        }
        parameters.add(new Parameter(PEFT + module + ".weight", copy));
        return copy;
    }

    private Tensor read(String name, DType dtype, float factor, long... shape) {
        read.add(PEFT + name);
        return adapter.read(PEFT + name, frame, dtype, factor, shape);
    }

    /** @throws lapidary.format.FormatException where the adapter to run holds what no place asked for */
    void requireAdapterRead() {
        adapter.requireAllRead(read);
    }

    RmsNorm rmsNorm(String module, long size, float eps) {
        return new RmsNorm(weights.get(module + ".weight", size), eps);
    }

    Layer layerNorm(String module, long size, float eps) {
        return new LayerNorm(weights.get(module + ".weight", size), weights.get(module + ".bias", size), eps);
    }

    /** Names of all linear layers, adapter or not. */
    List<String> linears() {
        return List.copyOf(linears);
    }

    List<Parameter> parameters() {
        return List.copyOf(parameters);
    }

    /** @throws IllegalArgumentException where a target matches no linear layer, listing those there are */
    void requireTargetsMatched() {
        if (lora == null) {
            return;
        }
        for (String target : lora.targetModules()) {
            boolean matched = lora.isExpression()
                    ? linears.stream().anyMatch(lora::targets)
                    : target.equals(LoraSpec.ALL_LINEAR)
                            || linears.stream()
                                    .anyMatch(module -> module.equals(target) || module.endsWith("." + target));
            if (!matched) {
                List<String> known = linears.stream()
                        .map(module -> module.substring(module.lastIndexOf('.') + 1))
                        .distinct()
                        .toList();
                throw new IllegalArgumentException("target module " + target + " of --lora_target_modules, or of the"
                        + " adapter to start from, matches no linear layer of this model, which has " + known
                        + ", by whole names like " + linears.get(0));
            }
        }
        for (String module : lora.modulesToSave()) {
            if (tables.stream().noneMatch(table -> table.equals(module) || table.endsWith("." + module))) {
                throw new IllegalArgumentException("module " + module + " of --lora_modules_to_save, or of the adapter"
                        + " to start from, is none that can be trained whole: this model has " + tables);
            }
        }
    }
}
