package lapidary.bench;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import lapidary.tokenizer.Tokenizer;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/** Text to ids on one thread, beside Hugging Face's tokenizer; Gemma 3's genuine file. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 3, time = 2)
@Measurement(iterations = 5, time = 2)
public class TokenizerBenchmark {
    @Param({"prose", "code", "pieces", "word"})
    public String corpus;

    private Path file;
    private Tokenizer tokenizer;
    private HuggingFaceTokenizer huggingFace;
    private String text;

    @Setup
    public void load() throws IOException {
        file = TokenizerCorpora.tokenizerFile();
        tokenizer = Tokenizer.load(file);
        huggingFace = huggingFace(file);
        text = TokenizerCorpora.all(tokenizer).get(corpus);
    }

    static HuggingFaceTokenizer huggingFace(Path file) throws IOException {
        System.setProperty("ai.djl.offline", "true");
        return HuggingFaceTokenizer.newInstance(
                file, Map.of("addSpecialTokens", "false", "truncation", "false", "padding", "false"));
    }

    @TearDown
    public void close() {
        huggingFace.close();
    }

    @Benchmark
    public int[] lapidary() {
        return tokenizer.encode(text);
    }

    @Benchmark
    public long[] huggingFace() {
        return huggingFace.encode(text, false, false).getIds();
    }

    @Benchmark
    public Tokenizer load33MB() {
        return Tokenizer.load(file);
    }
}
