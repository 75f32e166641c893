package lapidary.bench;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import lapidary.tokenizer.Tokenizer;

/**
 * Prints how fast this tokenizer and Hugging Face's are on one thread, taking turns, as a table. Times are processor time
 * of the thread, so that other work on the machine counts for less. The texts go to {@code target/tokenizer-corpora},
 * where {@code bench/reference/tokenizer_speed.py} times Hugging Face's from Python.
 *
 * <p>{@code java -cp target/benchmarks.jar lapidary.bench.TokenizerComparison}, from the repository's root.
 */
public final class TokenizerComparison {
    private static final int ROUNDS = 15;
    private static final double WARM_UP = 1000; // ms a text, for the JIT
    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();

    private TokenizerComparison() {}

    public static void main(String[] args) throws IOException {
        Path file = TokenizerCorpora.tokenizerFile();
        double cold = millis(() -> Tokenizer.load(file));
        Tokenizer tokenizer = Tokenizer.load(file);
        double[] warm = new double[ROUNDS];
        for (int i = 0; i < ROUNDS; i++) {
            warm[i] = millis(() -> Tokenizer.load(file));
        }
        System.out.printf("loading: first %.0f ms, later %.0f ms%n%n", cold, median(warm));
        System.out.println("| text | KB | ids | Lapidary MB/s | Hugging Face MB/s | ratio | same ids |");
        System.out.println("|---|---|---|---|---|---|---|");
        Path folder = Files.createDirectories(Path.of("target", "tokenizer-corpora"));
        try (HuggingFaceTokenizer huggingFace = TokenizerBenchmark.huggingFace(file)) {
            for (Map.Entry<String, String> corpus :
                    TokenizerCorpora.all(tokenizer).entrySet()) {
                String text = corpus.getValue();
                Files.writeString(folder.resolve(corpus.getKey() + ".txt"), text);
                int[] ids = tokenizer.encode(text);
                long[] theirs = huggingFace.encode(text, false, false).getIds();
                boolean same = Arrays.equals(Arrays.stream(ids).asLongStream().toArray(), theirs);
                for (double spent = 0; spent < WARM_UP; ) {
                    spent += millis(() -> tokenizer.encode(text));
                }
                double[] ours = new double[ROUNDS];
                double[] others = new double[ROUNDS];
                for (int i = 0; i < ROUNDS; i++) {
                    ours[i] = millis(() -> tokenizer.encode(text));
                    others[i] = millis(() -> huggingFace.encode(text, false, false));
                }
                double kilobytes = text.getBytes(StandardCharsets.UTF_8).length / 1e3;
                System.out.printf(
                        "| %s | %.0f | %d | %.1f | %.2f | %.0f | %s |%n",
                        corpus.getKey(),
                        kilobytes,
                        ids.length,
                        kilobytes / median(ours),
                        kilobytes / median(others),
                        median(others) / median(ours),
                        same ? "yes" : "NO");
            }
        }
    }

    private static double millis(Runnable work) {
        long start = THREADS.getCurrentThreadCpuTime();
        work.run();
        return (THREADS.getCurrentThreadCpuTime() - start) / 1e6;
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return sorted[sorted.length / 2];
    }
}
