package lapidary.infer;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.PackedBatch;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/** Reads prompts and makes tokens; for the worker's thread alone, as is everything of the device. */
final class Decoder implements AutoCloseable {
    private final Gemma3 base;
    private final Set<Adapter> adapters = new LinkedHashSet<>(); // attached, or detached and still in use
    private final Map<Sequence, Frame> frames = new HashMap<>(); // of what is kept while a sequence is at work
    private final Map<Sequence, Tensor> features = new HashMap<>();

    Decoder(Gemma3 base) {
        this.base = base;
    }

    void add(Adapter adapter) {
        adapters.add(adapter);
    }

    /** Frees adapters that nobody can use any more. */
    void closeUnused() {
        adapters.removeIf(adapter -> {
            if (adapter.isDone()) {
                adapter.model().close();
                return true;
            }
            return false;
        });
    }

    /** One token for each of the sequences, which use one adapter. */
    void step(List<Sequence> sequences) {
        Gemma3 model = sequences.get(0).adapter().model();
        List<PackedBatch.Row> rows = new ArrayList<>();
        List<Tensor> images = new ArrayList<>();
        for (Sequence sequence : sequences) {
            rows.add(row(sequence));
            images.add(features(model, sequence));
        }
        PackedBatch batch = PackedBatch.padded(rows, model.config().text().padTokenId());
        try (Frame frame = model.frame().child("token")) {
            Tensor hidden = model.forward(Tape.notRecording(frame), batch, joined(frame, images));
            int[] lasts = new int[rows.size()];
            for (int row = 0; row < lasts.length; row++) {
                lasts[row] = batch.starts()[row + 1] - 1;
            }
            Tensor last = frame.empty(hidden.dtype(), lasts.length, hidden.last());
            frame.kernels().gatherRows(last, hidden, frame.of(lasts, lasts.length));
            Tensor logits = frame.empty(DType.F32, lasts.length, model.lmHead().rows());
            frame.gemm().linear(logits, last, model.lmHead(), Tensor.NONE);
            choose(sequences, logits.toFloats());
        }
    }

    private void choose(List<Sequence> sequences, float[] logits) {
        int vocab = logits.length / sequences.size();
        for (int row = 0; row < sequences.size(); row++) {
            Sequence sequence = sequences.get(row);
            try {
                if (sequence.advance(logits, row * vocab, vocab)) {
                    release(sequence);
                }
            } catch (InferenceException e) { // of this one alone
                release(sequence);
                sequence.fail(e);
            }
        }
    }

    private static PackedBatch.Row row(Sequence sequence) {
        int[] prompt = sequence.prompt().ids();
        List<Integer> answer = sequence.tokenIds();
        int[] ids = Arrays.copyOf(prompt, prompt.length + answer.size());
        for (int i = 0; i < answer.size(); i++) {
            ids[prompt.length + i] = answer.get(i);
        }
        return new PackedBatch.Row(ids, Arrays.copyOf(sequence.prompt().types(), ids.length), List.of());
    }

    private Tensor features(Gemma3 model, Sequence sequence) {
        if (sequence.prompt().pixels().isEmpty()) {
            return Tensor.NONE;
        }
        return features.computeIfAbsent(sequence, s -> {
            Frame frame = model.frame().child("sequence");
            frames.put(s, frame);
            try (Frame inner = frame.child("images")) {
                return inner.escape(model.imageFeatures(
                        Tape.notRecording(inner), sequence.prompt().pixels()));
            }
        });
    }

    private static Tensor joined(Frame frame, List<Tensor> parts) {
        List<Tensor> some = parts.stream().filter(part -> !part.isNone()).toList();
        if (some.size() < 2) {
            return some.isEmpty() ? Tensor.NONE : some.get(0);
        }
        Tensor all = frame.empty(
                some.get(0).dtype(),
                some.stream().mapToLong(Tensor::rows).sum(),
                some.get(0).last());
        long at = 0;
        for (Tensor part : some) {
            frame.kernels().convert(all.slice(at, at + part.rows()), part, 1);
            at += part.rows();
        }
        return all;
    }

    /** Gives back what was kept for a sequence. */
    void release(Sequence sequence) {
        features.remove(sequence);
        Frame frame = frames.remove(sequence);
        if (frame != null) {
            frame.close();
        }
        sequence.adapter().release();
    }

    @Override
    public void close() {
        adapters.forEach(adapter -> adapter.model().close());
        base.close();
    }
}
