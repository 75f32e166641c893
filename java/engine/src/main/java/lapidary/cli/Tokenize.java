package lapidary.cli;

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.tokenizer.Tokenizer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engine tokenize}: a JSON string a line in, a JSON array of its token ids a line out, no {@code <bos>}. */
@Command(
        name = "tokenize",
        description =
                "Writes the token ids of texts: a JSON string a line in, a JSON array of ids a line out, no <bos>.",
        mixinStandardHelpOptions = true)
final class Tokenize implements Callable<Integer> {
    private static final int BUFFER = 1 << 16; // bytes of output that are written at once

    @Spec
    private CommandSpec spec;

    @Option(
            names = "--tokenizer",
            paramLabel = "FILE|DIR",
            description = "a Gemma 3 tokenizer.json, or the model's folder with it")
    private Path tokenizer;

    @Option(names = "--in", paramLabel = "TEXTS.jsonl", description = "a JSON string a line")
    private Path in;

    @Option(names = "--out", paramLabel = "IDS.jsonl", description = "appears complete, or not at all")
    private Path out;

    @Override
    public Integer call() {
        require(tokenizer, "--tokenizer");
        require(in, "--in");
        require(out, "--out");
        if (!Files.exists(in) || Files.isDirectory(in)) {
            throw new FormatException(
                    Files.exists(in)
                            ? in + " is a folder, expected a file with a JSON string a line"
                            : "no such file: " + in);
        }
        if (isSame(in, out)) {
            throw new FormatException("--out " + out + " is the file to read; name another");
        }
        Tokenizer loaded =
                Tokenizer.load(Files.isDirectory(tokenizer) ? tokenizer.resolve("tokenizer.json") : tokenizer);
        AtomicFile.write(out, channel -> tokenize(loaded, in, channel));
        return 0;
    }

    private void require(Object value, String option) {
        if (value == null) {
            throw new ParameterException(
                    spec.commandLine(), "tokenize needs " + option + "; see engine tokenize --help");
        }
    }

    private static boolean isSame(Path in, Path out) {
        try {
            return Files.exists(out) && Files.isSameFile(in, out);
        } catch (IOException e) {
            throw new FormatException("cannot look at " + out + ": " + e.getMessage(), e);
        }
    }

    private static void tokenize(Tokenizer tokenizer, Path in, FileChannel out) throws IOException {
        StringBuilder ids = new StringBuilder(2 * BUFFER);
        try (InputStream lines = new BufferedInputStream(Files.newInputStream(in), 1 << 16)) {
            ByteArrayOutputStream line = new ByteArrayOutputStream();
            for (long number = 1; readLine(lines, line); number++) {
                append(ids, tokenizer.encode(text(in, number, line.toByteArray())));
                if (ids.length() >= BUFFER) {
                    write(out, ids);
                }
            }
        }
        write(out, ids);
    }

    /** The bytes up to the next newline, which is not kept; false at the end of the file. */
    private static boolean readLine(InputStream in, ByteArrayOutputStream line) throws IOException {
        line.reset();
        int b = in.read();
        if (b < 0) {
            return false;
        }
        for (; b >= 0 && b != '\n'; b = in.read()) {
            line.write(b);
        }
        return true;
    }

    private static String text(Path in, long number, byte[] line) {
        String where = in + ":" + number;
        Json json = Json.parse(where, line);
        if (!json.isString()) {
            throw new FormatException(where + ": is no JSON string, expected one text in quotes a line");
        }
        return json.string();
    }

    private static void append(StringBuilder out, int[] ids) {
        out.append('[');
        for (int i = 0; i < ids.length; i++) {
            out.append(i == 0 ? "" : ",").append(ids[i]);
        }
        out.append("]\n");
    }

    private static void write(FileChannel out, StringBuilder ids) throws IOException {
        ByteBuffer bytes = ByteBuffer.wrap(ids.toString().getBytes(StandardCharsets.US_ASCII));
        while (bytes.hasRemaining()) {
            out.write(bytes);
        }
        ids.setLength(0);
    }
}
