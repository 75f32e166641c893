package lapidary.export;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeSet;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.TensorEntry;
import lapidary.gemma3.AdapterUse;
import lapidary.gemma3.PeftAdapter;
import lapidary.nn.LoraSpec;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/**
 * What an adapter trains, how large that is, what in it is all zero, and which programs load it.
 *
 * @param lines to print
 * @param problems what makes the adapter useless, a line each; none is good
 */
public record AdapterReport(List<String> lines, List<String> problems) {
    private static final long PIECE = 1 << 22; // values looked at together

    /** The layers of one kind. */
    private static final class Group {
        private final TreeSet<Integer> ranks = new TreeSet<>();
        private int layers;
        private int zero; // layers whose change of the matrix is zero
        private double squares; // of all changes
        private double largest; // norm of one layer's change
        private String largestOf = "";
    }

    /**
     * Reads an adapter.
     *
     * @throws lapidary.format.FormatException where it is malformed
     */
    public static AdapterReport of(Path folder, Device device) {
        try (PeftAdapter adapter = PeftAdapter.open(folder);
                Frame frame = Frame.root(device, "adapter")) {
            List<String> lines = new ArrayList<>();
            List<String> problems = new ArrayList<>();
            LoraSpec spec = adapter.spec();
            lines.add(header(adapter));
            Map<String, Group> groups = new LinkedHashMap<>();
            List<String> zero = new ArrayList<>();
            for (PeftAdapter.Pair pair : adapter.pairs()) {
                Group group = groups.computeIfAbsent(kind(pair.module()), kind -> new Group());
                double norm = norm(frame, pair);
                group.layers++;
                group.ranks.add((int) pair.a().shape()[0]);
                if (!Double.isFinite(norm)) {
                    problems.add(pair.module() + " holds values that are not finite (or beyond 1e19)");
                } else if (norm == 0) {
                    group.zero++;
                    zero.add(pair.module());
                } else {
                    group.squares += norm * norm;
                    if (norm > group.largest) {
                        group.largest = norm;
                        group.largestOf = pair.module();
                    }
                }
            }
            groups.forEach((kind, group) -> lines.add(line(kind, group)));
            adapter.saved().forEach((module, entry) -> {
                double norm = Math.sqrt(squares(frame, entry));
                lines.add(String.format(
                        Locale.ROOT,
                        "%s: trained whole, %s %s, norm %.4g",
                        module,
                        entry.dtype(),
                        java.util.Arrays.toString(entry.shape()),
                        norm));
                if (!Double.isFinite(norm)) {
                    problems.add(module + " holds values that are not finite (or beyond 1e19)");
                } else if (norm == 0) {
                    problems.add(module + " is all zero: a model with it has no " + module);
                }
            });
            if (!zero.isEmpty()) {
                String text = zero.size() == adapter.pairs().size()
                        ? "every adapter is all zero (lora_B as it begins): nothing was trained"
                        : zero.size() + " of " + adapter.pairs().size() + " adapters are all zero, the first on "
                                + zero.get(0) + ": they got no gradient";
                lines.add("zero: " + text);
            }
            lines.add("PEFT: loads it as it is");
            lines.add("vLLM: " + AdapterUse.of(spec, spec.targetModules()).vllm());
            lines.add("llama.cpp: engine export takes it together with its base");
            return new AdapterReport(List.copyOf(lines), List.copyOf(problems));
        }
    }

    private static String header(PeftAdapter adapter) {
        LoraSpec spec = adapter.spec();
        long parameters = 0;
        TreeSet<String> dtypes = new TreeSet<>();
        for (PeftAdapter.Pair pair : adapter.pairs()) {
            parameters += pair.a().elements() + pair.b().elements();
            dtypes.add(pair.a().dtype());
            dtypes.add(pair.b().dtype());
        }
        for (TensorEntry entry : adapter.saved().values()) {
            parameters += entry.elements();
            dtypes.add(entry.dtype());
        }
        String varied =
                spec.patterns().ranks().isEmpty() && spec.patterns().alphas().isEmpty() ? "" : ", by pattern";
        return String.format(
                Locale.ROOT,
                "%s: LoRA on %d layers, r %d, alpha %s%s%s, %,d values in %s",
                adapter.directory(),
                adapter.pairs().size(),
                spec.r(),
                spec.alpha() == Math.rint(spec.alpha()) ? String.valueOf((long) spec.alpha()) : spec.alpha(),
                spec.patterns().rslora() ? " (rsLoRA)" : "",
                varied,
                parameters,
                String.join(", ", dtypes));
    }

    private static String kind(String module) {
        return (module.startsWith("model.vision_tower.") ? "vision tower " : "decoder ")
                + module.substring(module.lastIndexOf('.') + 1);
    }

    private static String line(String kind, Group group) {
        String ranks = group.ranks.size() == 1
                ? "r " + group.ranks.first()
                : "r " + group.ranks.first() + " to " + group.ranks.last();
        if (group.zero == group.layers) {
            return kind + ": " + group.layers + " layers, " + ranks + ", all zero";
        }
        return String.format(
                Locale.ROOT,
                "%s: %d layers, %s, change of a matrix has norm %.4g (mean square), at most %.4g (%s)%s",
                kind,
                group.layers,
                ranks,
                Math.sqrt(group.squares / group.layers),
                group.largest,
                group.largestOf,
                group.zero == 0 ? "" : ", " + group.zero + " all zero");
    }

    /** Frobenius norm of scaling b a: its square is the sum of (bᵀb) times (a aᵀ), both [r, r]. */
    private static double norm(Frame around, PeftAdapter.Pair pair) {
        try (Frame frame = around.child("pair")) {
            Tensor a = floats(frame, pair.a());
            Tensor b = floats(frame, pair.b());
            long r = pair.a().shape()[0];
            Tensor aa = frame.empty(DType.F32, r, r);
            Tensor bb = frame.empty(DType.F32, r, r);
            frame.gemm().multiply(aa, a, false, a, true, Tensor.NONE, 1, false);
            frame.gemm().multiply(bb, b, true, b, false, Tensor.NONE, 1, false);
            float[] x = aa.toFloats();
            float[] y = bb.toFloats();
            double sum = 0;
            for (int i = 0; i < x.length; i++) {
                sum += (double) x[i] * y[i];
            }
            return pair.scaling() * Math.sqrt(sum < 0 ? 0 : sum); // rounding may go below zero
        }
    }

    private static double squares(Frame around, TensorEntry entry) {
        double sum = 0;
        for (long from = 0; from < entry.elements(); from += PIECE) {
            try (Frame frame = around.child("piece")) {
                long n = Math.min(PIECE, entry.elements() - from);
                Tensor squares = frame.zeros(DType.F32, 1);
                frame.kernels().sumSquares(squares, List.of(MergedWeights.values(frame, entry, from, Shape.of(n))));
                sum += squares.item();
            }
        }
        return sum;
    }

    private static Tensor floats(Frame owner, TensorEntry entry) {
        return MergedWeights.floats(owner, entry, 0, Shape.of(entry.shape()));
    }
}
