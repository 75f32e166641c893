package lapidary.optim;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import lapidary.autograd.Gradients;
import lapidary.device.DType;
import lapidary.format.FormatException;
import lapidary.format.Safetensors;
import lapidary.format.SafetensorsWriter;
import lapidary.nn.Parameter;
import lapidary.quant.DynamicMap;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Clips gradients by their global norm and moves parameters, arithmetic in F32.
 *
 * <p>An F32 parameter is its own master. A BF16 table keeps its F32 master split: the BF16 value that kernels read, and 16
 * low bits that only this room reads; its moments are F32. With {@code bf16State} it is its own master and has BF16
 * moments, as TRL trains it. A parameter that no gradient reached is left alone, weight decay included, and its step count
 * stays.
 */
public final class Optimizer {
    /** bitsandbytes' {@code min_8bit_size}: smaller parameters keep F32 moments. */
    private static final long SMALLEST_8BIT = 4096;

    private record Moved(String name, Tensor parameter, Rule rule) {}

    private final Frame frame;
    private final List<Moved> moved = new ArrayList<>();
    private final Tensor signed; // F32 [256], what codes of first moments stand for; NONE where there are none
    private final Tensor unsigned; // the same of second moments
    private float gradScale = 1;

    /**
     * @param frame owns the state, for as long as the parameters
     * @param bf16State whether BF16 parameters have no F32 master and BF16 moments
     */
    public Optimizer(Frame frame, List<Parameter> parameters, OptimizerOptions options, boolean bf16State) {
        this.frame = frame;
        boolean coded = options.optim().equals(OptimizerOptions.ADAMW_8BIT);
        this.signed = coded ? frame.of(DynamicMap.signed(), 256) : Tensor.NONE;
        this.unsigned = coded ? frame.of(DynamicMap.unsigned(), 256) : Tensor.NONE;
        for (Parameter parameter : parameters) {
            Tensor param = parameter.value();
            boolean isBf16 = param.dtype() == DType.BF16;
            Tensor low =
                    isBf16 && !bf16State ? frame.zeros(DType.I16, param.shape().toArray()) : Tensor.NONE;
            double decay = options.weightDecayOf(parameter.name());
            Rule rule;
            if (options.optim().equals(OptimizerOptions.SGD)) {
                rule = new Sgd(frame, param, low, decay);
            } else if (coded && isCoded(parameter)) {
                rule = new Adamw8bit(frame, param, low, options, decay);
            } else {
                DType moments = isBf16 && bf16State && !coded ? DType.BF16 : DType.F32;
                rule = new Adamw(frame, param, low, options, decay, moments);
            }
            moved.add(new Moved(parameter.name(), param, rule));
        }
    }

    /** transformers tells bitsandbytes to leave embeddings' moments in F32; here that costs only rows that are used. */
    private static boolean isCoded(Parameter parameter) {
        return parameter.value().elements() >= SMALLEST_8BIT
                && !parameter.name().endsWith(".embed_tokens.weight");
    }

    /**
     * Measures the gradients and remembers by how much the next {@link #step} scales them down.
     *
     * @param maxNorm the norm that they are scaled down to; 0 for never
     * @return L2 norm of all gradients before scaling; not finite where any of them is not
     */
    public double clip(Gradients grads, float maxNorm) {
        List<Tensor> gradients = new ArrayList<>();
        for (Moved each : moved) {
            Tensor dense = grads.of(each.parameter());
            Tensor gradient = dense.isNone() ? grads.rowsOf(each.parameter()).rows() : dense;
            if (!gradient.isNone()) {
                gradients.add(gradient);
            }
        }
        double total = 0;
        if (!gradients.isEmpty()) {
            try (Frame scratch = frame.child("norm")) {
                Tensor squares = scratch.empty(DType.F32, gradients.size());
                scratch.kernels().sumSquares(squares, gradients);
                for (float square : squares.toFloats()) {
                    total += square;
                }
            }
        }
        double norm = Math.sqrt(total);
        gradScale = maxNorm > 0 ? (float) Math.min(1, maxNorm / (norm + 1e-6)) : 1;
        return norm;
    }

    /** Moves every parameter that has a gradient. */
    public void step(Gradients grads, double learningRate) {
        AdamwSteps together = new AdamwSteps();
        for (Moved each : moved) {
            Tensor dense = grads.of(each.parameter());
            Gradients.RowGradient sparse = grads.rowsOf(each.parameter());
            if (!dense.isNone()) {
                each.rule().step(dense, learningRate, gradScale, together);
            } else if (!sparse.rows().isNone()) {
                each.rule().step(sparse, learningRate, gradScale);
            }
        }
        together.take(frame.kernels(), signed, unsigned);
    }

    /**
     * Bytes of state for each element of a table that take memory only once the element's row has had a gradient, on a device
     * whose fresh memory is zero.
     *
     * @param parameter name of the table
     */
    public int bytesOfUsedElement(String parameter) {
        return moved.stream()
                .filter(each -> each.name().equals(parameter))
                .findFirst()
                .orElseThrow()
                .rule()
                .bytesOfUsedElement();
    }

    /**
     * Writes what the next steps depend on beside the parameters' values: moments, step counts, low bits of split masters.
     * Of a table's moments only rows that ever had a gradient are written.
     */
    public void save(Path file) {
        List<SafetensorsWriter.Item> items = new ArrayList<>();
        for (Moved each : moved) {
            items.addAll(OptimizerState.items(each.name(), each.rule().state()));
        }
        SafetensorsWriter.write(file, Map.of("format", "lapidary"), items);
    }

    /**
     * Takes up what {@link #save} wrote, of an optimiser with the same options over the same parameters.
     *
     * @throws FormatException where it is of another; nothing is then taken
     */
    public void restore(Path file) {
        try (Safetensors saved = Safetensors.open(file)) {
            Set<String> unused = new TreeSet<>(saved.names());
            for (Moved each : moved) {
                OptimizerState.check(
                        saved, each.name(), each.parameter(), each.rule().state(), unused);
            }
            if (!unused.isEmpty()) {
                throw new FormatException(file + ": " + unused.iterator().next()
                        + " belongs to no parameter of this run; the checkpoint is of another");
            }
            for (Moved each : moved) {
                OptimizerState.restore(saved, each.name(), each.rule(), frame.device());
            }
        }
    }
}
