package lapidary.infer;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.PackedBatch;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Answers several prompts at once with the likeliest token each time. Every token reads the whole sequences again, which
 * is fine for short answers of a small model and for nothing else.
 */
public final class GreedyDecoder {
    private final Gemma3 model;

    public GreedyDecoder(Gemma3 model) {
        this.model = model;
    }

    /**
     * @param prompts up to and including the opening of the model's turn
     * @return per prompt the new ids, without the one that ended the answer
     */
    public List<int[]> decode(List<PackedBatch.Row> prompts, int maxNewTokens) {
        model.dropout().setTraining(false);
        try (Frame frame = model.frame().child("greedy")) {
            List<int[]> sequences = new ArrayList<>();
            prompts.forEach(prompt -> sequences.add(prompt.ids()));
            boolean[] ended = new boolean[prompts.size()];
            Tensor features = features(frame, prompts);
            for (int i = 0; i < maxNewTokens && !all(ended); i++) {
                int[] next = next(frame, prompts, sequences, features);
                for (int row = 0; row < next.length; row++) {
                    ended[row] |= model.config().eosTokenIds().contains(next[row]);
                    if (!ended[row]) {
                        sequences.set(row, append(sequences.get(row), next[row]));
                    }
                }
            }
            List<int[]> answers = new ArrayList<>();
            for (int row = 0; row < prompts.size(); row++) {
                int[] sequence = sequences.get(row);
                answers.add(Arrays.copyOfRange(sequence, prompts.get(row).ids().length, sequence.length));
            }
            return answers;
        } finally {
            model.dropout().setTraining(true);
        }
    }

    private Tensor features(Frame frame, List<PackedBatch.Row> prompts) {
        List<float[]> pixels = new ArrayList<>();
        prompts.forEach(prompt -> pixels.addAll(prompt.pixels()));
        if (pixels.isEmpty()) {
            return Tensor.NONE;
        }
        try (Frame inner = frame.child("images")) {
            return inner.escape(model.imageFeatures(Tape.notRecording(inner), pixels));
        }
    }

    /** The likeliest next token of each sequence; the first of equals. */
    private int[] next(Frame around, List<PackedBatch.Row> prompts, List<int[]> sequences, Tensor features) {
        List<PackedBatch.Row> rows = new ArrayList<>();
        for (int row = 0; row < sequences.size(); row++) {
            int[] ids = sequences.get(row);
            rows.add(new PackedBatch.Row(ids, Arrays.copyOf(prompts.get(row).tokenTypes(), ids.length), List.of()));
        }
        PackedBatch batch = PackedBatch.padded(rows, model.config().text().padTokenId());
        try (Frame frame = around.child("token")) {
            Tensor hidden = model.forward(Tape.notRecording(frame), batch, features);
            int[] lasts = new int[rows.size()];
            for (int row = 0; row < lasts.length; row++) {
                lasts[row] = batch.starts()[row + 1] - 1;
            }
            Tensor last = frame.empty(hidden.dtype(), lasts.length, hidden.last());
            frame.kernels().gatherRows(last, hidden, frame.of(lasts, lasts.length));
            Tensor logits = frame.empty(DType.F32, lasts.length, model.lmHead().rows());
            frame.gemm().linear(logits, last, model.lmHead(), Tensor.NONE);
            return argmax(logits.toFloats(), lasts.length);
        }
    }

    private static int[] argmax(float[] logits, int rows) {
        int vocab = logits.length / rows;
        int[] best = new int[rows];
        for (int row = 0; row < rows; row++) {
            for (int id = 1; id < vocab; id++) {
                if (logits[row * vocab + id] > logits[row * vocab + best[row]]) {
                    best[row] = id;
                }
            }
        }
        return best;
    }

    private static int[] append(int[] ids, int id) {
        int[] longer = Arrays.copyOf(ids, ids.length + 1);
        longer[ids.length] = id;
        return longer;
    }

    private static boolean all(boolean[] flags) {
        for (boolean flag : flags) {
            if (!flag) {
                return false;
            }
        }
        return true;
    }
}
