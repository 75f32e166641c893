package lapidary.infer;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.KvCache;
import lapidary.gemma3.PackedBatch;
import lapidary.op.LinearCrossEntropy;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Reads prompts and makes tokens; for the worker's thread alone, as is everything of the device. Caches of finished requests are
 * kept for those that begin alike.
 */
final class Decoder implements AutoCloseable {
    /** Tokens of a prompt that are read in one pass; the others' tokens wait for it. */
    static final int CHUNK = 512;

    private final Gemma3 base;
    private final Set<Adapter> adapters = new LinkedHashSet<>(); // attached, or detached and still in use
    private final Map<Sequence, KvCache> caches = new HashMap<>(); // of sequences at work
    private final Prefixes prefixes;
    private final int chunk;
    // F32 [most sequences so far, vocab]: held, as the pool would give its largest block back after each token.
    private Tensor logits = Tensor.NONE;
    private Frame held; // the logits' own, once there are any
    private final float[] onHost; // the logits of one sequence

    /**
     * @param keptPrefixes how many finished requests' caches are kept at most
     * @param keptBytes of them all
     */
    Decoder(Gemma3 base, int keptPrefixes, long keptBytes, int chunk) {
        this.base = base;
        this.prefixes = new Prefixes(keptPrefixes, keptBytes);
        this.chunk = chunk;
        this.onHost = new float[(int) base.lmHead().rows()];
    }

    void add(Adapter adapter) {
        adapters.add(adapter);
    }

    /** Frees adapters that nobody can use any more. */
    void closeUnused() {
        adapters.removeIf(adapter -> {
            if (adapter.isDone()) {
                prefixes.forget(adapter);
                adapter.model().close();
                return true;
            }
            return false;
        });
    }

    /**
     * One token for each of the sequences, which use one adapter, whose prompt has been read; and a chunk of the first prompt
     * that has not. One that there is no memory for fails alone, where it can be told which that is.
     */
    void step(List<Sequence> sequences) {
        List<Sequence> prepared = new ArrayList<>();
        for (Sequence sequence : sequences) {
            attempt(List.of(sequence), () -> {
                prepare(sequence);
                prepared.add(sequence);
            });
        }
        List<Sequence> decoding = prepared.stream().filter(this::isRead).toList();
        Optional<Sequence> reading =
                prepared.stream().filter(sequence -> !isRead(sequence)).findFirst();
        if (!decoding.isEmpty()) {
            attempt(decoding, () -> decode(decoding));
        }
        reading.ifPresent(sequence -> attempt(List.of(sequence), () -> read(sequence)));
    }

    private void prepare(Sequence sequence) {
        KvCache cache = caches.computeIfAbsent(sequence, this::begin);
        if (isRead(sequence)) {
            cache.makeRoom(); // here, and not among all others in the middle of a pass
        }
    }

    /** Whether the cache of a sequence holds its whole prompt. */
    private boolean isRead(Sequence sequence) {
        return caches.get(sequence).length() >= sequence.prompt().tokens();
    }

    /** What goes wrong is the failure of the sequences that it was for. */
    private void attempt(List<Sequence> sequences, Runnable work) {
        try {
            work.run();
        } catch (RuntimeException | Error e) {
            sequences.stream()
                    .filter(sequence -> !sequence.generation().isDone())
                    .forEach(sequence -> fail(sequence, e));
        }
    }

    private KvCache begin(Sequence sequence) {
        KvCache kept = prefixes.take(sequence);
        sequence.foundCached(kept == null ? 0 : kept.length());
        return kept == null ? sequence.adapter().model().newCache() : kept;
    }

    private void decode(List<Sequence> sequences) {
        Gemma3 model = sequences.get(0).adapter().model();
        int[] ids = sequences.stream().mapToInt(Sequence::lastId).toArray();
        try (Frame frame = model.frame().child("token")) {
            Tensor hidden =
                    model.decode(frame, sequences.stream().map(caches::get).toList(), ids);
            choose(model, sequences, hidden);
        }
    }

    /** The next tokens of a prompt; after the last of them, the first token of the answer. */
    private void read(Sequence sequence) {
        Gemma3 model = sequence.adapter().model();
        KvCache cache = caches.get(sequence);
        Prompt next = sequence.prompt().part(cache.length(), chunk);
        try (Frame frame = model.frame().child("chunk")) {
            Tensor hidden = model.read(frame, cache, next.ids(), next.types(), features(frame, model, next));
            if (cache.length() == sequence.prompt().tokens()) {
                choose(model, List.of(sequence), hidden);
            }
        }
    }

    private static Tensor features(Frame frame, Gemma3 model, Prompt prompt) {
        if (prompt.pixels().isEmpty()) {
            return Tensor.NONE;
        }
        try (Frame inner = frame.child("images")) {
            return inner.escape(model.imageFeatures(Tape.notRecording(inner), prompt.pixels()));
        }
    }

    /** The loss of the tokens from {@code first} on. */
    TokenLoss loss(Gemma3 model, Prompt prompt, int first) {
        int[] targets = new int[prompt.tokens()];
        Arrays.fill(targets, LinearCrossEntropy.IGNORED);
        System.arraycopy(prompt.ids(), first, targets, first - 1, prompt.tokens() - first);
        PackedBatch batch = PackedBatch.of(List.of(new PackedBatch.Row(prompt.ids(), prompt.types(), List.of())));
        try (Frame frame = model.frame().child("loss")) {
            Tape tape = Tape.notRecording(frame);
            Tensor hidden = model.forward(tape, batch, features(frame, model, prompt));
            float softcap = (float) model.config().text().finalLogitSoftcapping();
            LinearCrossEntropy op = new LinearCrossEntropy(hidden, model.lmHead(), targets, 1, softcap, null);
            tape.run(op);
            return new TokenLoss(op.statistics().loss(), op.statistics().valid());
        }
    }

    /** @param hidden [sequences, hidden] */
    private void choose(Gemma3 model, List<Sequence> sequences, Tensor hidden) {
        if (logits.isNone() || logits.rows() < sequences.size()) {
            if (held != null) {
                held.close(); // with the smaller ones
                logits = Tensor.NONE;
            }
            held = base.frame().lastingChild("logits");
            logits = held.empty(DType.F32, sequences.size(), onHost.length);
        }
        held.gemm().linear(logits.slice(0, sequences.size()), hidden, model.lmHead(), Tensor.NONE);
        for (int row = 0; row < sequences.size(); row++) {
            Sequence sequence = sequences.get(row);
            logits.slice(row, row + 1).copyTo(onHost);
            try {
                if (sequence.advance(onHost)) {
                    release(sequence);
                }
            } catch (InferenceException e) { // of this one alone
                fail(sequence, e);
            }
        }
    }

    /** Keeps what was read of a sequence that is over, and gives its adapter back. */
    void release(Sequence sequence) {
        KvCache cache = caches.remove(sequence);
        if (cache != null) {
            prefixes.keep(sequence, cache);
        }
        sequence.adapter().release();
    }

    /** Frees what a sequence has read, as it may be spoilt, and tells whoever waits for it. */
    void fail(Sequence sequence, Throwable cause) {
        KvCache cache = caches.remove(sequence);
        if (cache != null) {
            cache.close();
        }
        sequence.adapter().release();
        sequence.fail(cause);
    }

    @Override
    public void close() {
        prefixes.close();
        caches.values().forEach(KvCache::close);
        adapters.forEach(adapter -> adapter.model().close());
        if (held != null) {
            held.close();
        }
        base.close();
    }
}
