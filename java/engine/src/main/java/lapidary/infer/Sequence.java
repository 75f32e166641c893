package lapidary.infer;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import lapidary.tokenizer.TextStream;
import lapidary.tokenizer.Tokenizer;

/** One request at work: what it has been asked, the tokens so far, and how the next becomes text. */
final class Sequence {
    private final Prompt prompt;
    private final int maxNewTokens;
    private final Set<Integer> eosTokenIds;
    private final Sampler sampler;
    private final StopStrings stop;
    private final TextStream text;
    private final StringBuilder shown = new StringBuilder();
    private final List<Integer> tokenIds = new ArrayList<>();
    private final Generation generation = new Generation();
    private final Adapter adapter;
    private int cachedTokens;

    /**
     * @param maxNewTokens no more than the context has room for
     */
    Sequence(
            Prompt prompt,
            int maxNewTokens,
            Adapter adapter,
            Set<Integer> eosTokenIds,
            Sampler sampler,
            List<String> stop,
            Tokenizer tokenizer) {
        this.prompt = prompt;
        this.maxNewTokens = maxNewTokens;
        this.adapter = adapter;
        this.eosTokenIds = eosTokenIds;
        this.sampler = sampler;
        this.stop = new StopStrings(stop);
        this.text = tokenizer.stream(true);
    }

    Prompt prompt() {
        return prompt;
    }

    Adapter adapter() {
        return adapter;
    }

    Generation generation() {
        return generation;
    }

    List<Integer> tokenIds() {
        return tokenIds;
    }

    /** The newest token of the answer. */
    int lastId() {
        return tokenIds.get(tokenIds.size() - 1);
    }

    void foundCached(int tokens) {
        cachedTokens = tokens;
    }

    /** Chooses the next token from logits; true where it was the last, and the answer is complete. */
    boolean advance(float[] logits) {
        int id = sampler.next(logits);
        tokenIds.add(id);
        if (eosTokenIds.contains(id)) {
            finish(FinishReason.STOP);
            return true;
        }
        show(stop.add(text.add(id)));
        // Bytes that are complete now: the answer need not wait for the next word.
        if (!stop.isEmpty() && stop.isIn(text.held())) {
            show(stop.add(text.end()));
        }
        if (stop.isReached()) {
            finish(FinishReason.STOP);
            return true;
        }
        if (tokenIds.size() == maxNewTokens) {
            finish(FinishReason.LENGTH);
            return true;
        }
        return false;
    }

    void finish(FinishReason reason) {
        if (!stop.isReached()) {
            show(stop.add(text.end()));
            show(stop.end());
        }
        generation.complete(new Answer(
                shown.toString(), tokenIds, reason, new Usage(prompt.tokens(), cachedTokens, tokenIds.size())));
    }

    void fail(Throwable cause) {
        generation.fail(cause);
    }

    private void show(String piece) {
        shown.append(piece);
        generation.add(piece);
    }
}
