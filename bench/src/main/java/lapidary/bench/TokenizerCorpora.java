package lapidary.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import lapidary.tokenizer.Tokenizer;

/** Texts to time tokenizers with, made from this repository and the tokenizer itself; run from the repository's root. */
final class TokenizerCorpora {
    private TokenizerCorpora() {}

    /** Gemma 3's tokenizer.json: {@code -Dtokenizer=FILE}, or where the engine's tests have npm put it. */
    static Path tokenizerFile() {
        Path file = Path.of(System.getProperty("tokenizer", "java/engine/target/gemma3-tokenizer/tokenizer.json"));
        if (!Files.exists(file)) {
            throw new IllegalStateException("no such file: " + file
                    + "; run the engine's GenuineTokenizerTest, which fetches it, or name one by -Dtokenizer=FILE");
        }
        return file;
    }

    /** By name: English prose, program text, pieces of all scripts, and one word without any place to cut. */
    static Map<String, String> all(Tokenizer tokenizer) throws IOException {
        Map<String, String> texts = new LinkedHashMap<>();
        texts.put("prose", joined(List.of(Path.of("LICENSE"), Path.of("README.md"))));
        try (Stream<Path> files = Files.walk(Path.of("java/engine/src/main/java"))) {
            texts.put(
                    "code",
                    joined(files.filter(f -> f.toString().endsWith(".java"))
                            .filter(f -> !f.toString().contains("/ffi/"))
                            .sorted()
                            .toList()));
        }
        texts.put("pieces", pieces(tokenizer));
        texts.put("word", word());
        return texts;
    }

    private static String joined(List<Path> files) throws IOException {
        StringBuilder text = new StringBuilder();
        for (Path file : files) {
            if (Files.exists(file)) {
                text.append(Files.readString(file)).append('\n');
            }
        }
        return text.toString();
    }

    /** Pieces drawn by Zipf's law over the whole vocabulary, 300,000 of them: far more different words than any cache holds. */
    private static String pieces(Tokenizer tokenizer) {
        Random random = new Random(1);
        StringBuilder text = new StringBuilder();
        int first = 494; // behind the control tokens and bytes
        int count = 255_000 - first;
        for (int i = 0; i < 300_000; i++) {
            int rank = (int) Math.pow(count, random.nextDouble());
            text.append(tokenizer.token(first + rank).replace('\u2581', ' '));
        }
        return text.toString();
    }

    private static String word() {
        Random random = new Random(2);
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < 200_000; i++) {
            text.append((char) ('a' + random.nextInt(26)));
        }
        return text.toString();
    }
}
