package lapidary.tokenizer;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;

/** Hugging Face's own tokenizer, by way of DJL. */
final class Oracle implements AutoCloseable {
    private final HuggingFaceTokenizer tokenizer;

    Oracle(Path file) throws IOException {
        System.setProperty("ai.djl.offline", "true");
        System.setProperty("OPT_OUT_TRACKING", "true");
        tokenizer = HuggingFaceTokenizer.newInstance(
                file, Map.of("addSpecialTokens", "false", "truncation", "false", "padding", "false"));
    }

    int[] encode(String text) {
        return ints(tokenizer.encode(text, false, false).getIds());
    }

    int[] encodeWithBos(String text) {
        return ints(tokenizer.encode(text, true, false).getIds());
    }

    String decode(int[] ids, boolean skipSpecial) {
        return tokenizer.decode(Arrays.stream(ids).asLongStream().toArray(), skipSpecial);
    }

    private static int[] ints(long[] ids) {
        return Arrays.stream(ids).mapToInt(Math::toIntExact).toArray();
    }

    @Override
    public void close() {
        tokenizer.close();
    }
}
