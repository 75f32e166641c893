package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import lapidary.image.PngWriter;
import lapidary.image.Rgb;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;

/**
 * What {@code engine check} says of every kind of bad input: of data sets, images, archives and tokenizers. What it says is
 * bench/results/bad-inputs.md, which this test compares with what is said now and writes to target/bad-inputs.md.
 */
final class BadInputsTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");
    private static final Path IMAGES = Path.of("src/test/resources/lapidary/image");
    private static final Path DATA = Path.of("src/test/resources/lapidary/data");
    private static final Path TABLE = Path.of("../../bench/results/bad-inputs.md");
    private static final Path WRITTEN = Path.of("target/bad-inputs.md");
    private static final String GOOD = chat("\"q\"", "\"a\"");

    @TempDir
    Path root;

    private Path dir;
    private int models;

    private final StringBuilder table = new StringBuilder();
    private Path data;
    private Path model;
    private List<String> options = List.of();

    private static String chat(String question, String answer) {
        return "{\"messages\": [{\"role\": \"user\", \"content\": " + question
                + "}, {\"role\": \"assistant\", \"content\": " + answer + "}]}";
    }

    /** A row that shows pictures. */
    private static String shows(String... paths) {
        StringBuilder parts = new StringBuilder();
        for (String path : paths) {
            parts.append("{\"type\": \"image\", \"image\": \"").append(path).append("\"}, ");
        }
        return chat("[" + parts + "{\"type\": \"text\", \"text\": \"q\"}]", "\"a\"");
    }

    @Test
    void everyKindOfBadInputIsToldInOneLine() throws IOException {
        dir = Files.createDirectory(root.resolve("data"));
        Files.write(dir.resolve("a.png"), png(8, 6));
        table.append("# Bad inputs, and what `engine check` says of them\n\n")
                .append(
                        "Written by BadInputsTest; DIR is the folder of the data, ABOVE the one that holds it. Where a case is"
                                + " no mistake, or a policy takes care of it, the table says so.\n");
        datasets();
        images();
        archives();
        tokenizers();
        Files.createDirectories(WRITTEN.getParent());
        Files.writeString(WRITTEN, table);
        assertEquals(Files.readString(TABLE), table.toString(), "copy " + WRITTEN + " to " + TABLE + " if it is right");
    }

    private void group(String name) {
        table.append("\n## ").append(name).append("\n\n| case | what is said |\n|---|---|\n");
    }

    /** Runs a check of these rows; {@code says} must be in what it says, empty for what is no mistake. */
    private void rows(String name, String says, String... rows) throws IOException {
        data = Files.writeString(dir.resolve("rows.jsonl"), String.join("\n", rows));
        check(name, says);
    }

    private void file(String name, String says, String fileName, byte[] bytes) throws IOException {
        data = Files.write(dir.resolve(fileName), bytes);
        check(name, says);
    }

    private void check(String name, String says) throws IOException {
        StringWriter out = new StringWriter();
        StringWriter err = new StringWriter();
        CommandLine engine = Engine.commandLine();
        engine.setOut(new PrintWriter(out, true));
        engine.setErr(new PrintWriter(err, true));
        List<String> args = new ArrayList<>(List.of(
                "check",
                "--model_name_or_path",
                (model == null ? MODEL : model).toString(),
                "--dataset_name",
                data.toString()));
        args.addAll(options);
        int code = engine.execute(args.toArray(String[]::new));
        List<String> bad =
                out.toString().lines().filter(line -> line.startsWith("row ")).toList();
        String said;
        if (says.isEmpty()) {
            assertEquals(0, code, name + ": " + out + err);
            assertEquals(List.of(), bad, name);
            String rows = out.toString()
                    .lines()
                    .filter(line -> line.startsWith("Rows "))
                    .findFirst()
                    .orElseThrow();
            said = "no mistake: " + rows.substring(12);
        } else {
            assertEquals(1, code, name + ": " + out + err);
            long reasons = bad.stream()
                    .map(line -> line.substring(line.indexOf(": ")))
                    .distinct()
                    .count();
            assertTrue(reasons <= 1, name + ": " + bad);
            said = bad.isEmpty() ? err.toString().strip() : bad.get(0);
            assertFalse(said.contains("\n"), name + ": " + said);
            assertFalse(said.contains("internal error"), name + ": " + said);
            assertTrue(said.contains(says), name + ": \"" + says + "\" is not in: " + said);
        }
        add(name, said);
    }

    private void add(String name, String said) {
        String shown = said.replace(dir.toString(), "DIR").replace(root.toString(), "ABOVE");
        table.append("| ")
                .append(name)
                .append(" | ")
                .append(shown.replace("|", "\\|"))
                .append(" |\n");
        options = List.of();
        model = null;
    }

    private void datasets() throws IOException {
        group("Data sets");
        rows("bad JSON line", "not valid JSON", GOOD, "{\"messages\": [}");
        rows("line cut off", "not valid JSON", GOOD, GOOD.substring(0, 40));
        rows("byte order mark, CRLF, blank lines", "", "\uFEFF" + GOOD + "\r", "\r", GOOD + "\r");
        file(
                "not UTF-8",
                "is not UTF-8",
                "rows.jsonl",
                GOOD.replace("q", "\u00e9").getBytes(StandardCharsets.ISO_8859_1));
        byte[] parquet = Files.readAllBytes(DATA.resolve("llava-none.parquet"));
        file("truncated Parquet", "truncated", "a.parquet", Arrays.copyOf(parquet, parquet.length / 2));
        byte[] spoilt = parquet.clone();
        Arrays.fill(spoilt, 4, 60, (byte) 0x55);
        file("corrupt Parquet page", "cannot decode", "b.parquet", spoilt);
        file("no Parquet at all", "cannot decode", "c.parquet", "words".getBytes(StandardCharsets.UTF_8));
        rows("null messages", "messages is null", "{\"messages\": null}");
        rows("null message", "messages[0] is null", "{\"messages\": [null]}");
        rows("null content", "content is null", chat("null", "\"a\""));
        rows("null parts among others", "", chat("[null, {\"type\": \"text\", \"text\": \"q\"}]", "\"a\""));
        rows("null text", "text is null", chat("[{\"type\": \"text\", \"text\": null}]", "\"a\""));
        rows("empty data set", "has no rows", "");
        rows(
                "no assistant turn: all words are trained on by default",
                "",
                "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}");
        options = List.of("--assistant_only_loss");
        rows(
                "no assistant turn under --assistant_only_loss",
                "give it an answer",
                "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}");
        rows("no messages", "messages is empty", "{\"messages\": []}");
        rows("empty content: an empty turn is trained as it stands", "", chat("\"\"", "[]"));
        rows(
                "two users in a row",
                "must alternate",
                "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"user\", \"content\": \"b\"}]}");
        rows("assistant first", "must alternate", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}");
        rows(
                "system in the middle",
                "of role \"system\"",
                GOOD.replace("]}", ", {\"role\": \"system\", \"content\": \"s\"}]}"));
        rows("unknown role", "of role \"tool\"", "{\"messages\": [{\"role\": \"tool\", \"content\": \"a\"}]}");
        rows(
                "fewer images than places",
                "asks for picture 1",
                chat("[{\"type\": \"image\"}, {\"type\": \"image\"}]", "\"a\"")
                        .replace("]}]}", "]}")
                        .replaceFirst("}$", ", \"images\": [\"a.png\"]}"));
        rows(
                "more images than places",
                "has 2 pictures but image parts for 1",
                chat("[{\"type\": \"image\"}]", "\"a\"").replaceFirst("}$", ", \"images\": [\"a.png\", \"a.png\"]}"));
        rows(
                "placeholder in words without an image",
                "1 <start_of_image> but 0 images",
                chat("\"<start_of_image>\"", "\"a\""));
        rows("all labels masked", "none of its", "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}]}");
        options = List.of("--max_length", "20");
        rows("too long", "more than --max_length 20", chat("\"" + "word ".repeat(40) + "\"", "\"a\""));
        options = List.of("--max_length", "20", "--max_length_policy", "drop");
        rows("too long, policy drop", "", GOOD, chat("\"" + "word ".repeat(40) + "\"", "\"a\""));
        options = List.of("--max_length", "20", "--max_length_policy", "truncate_text");
        rows("too long, policy truncate_text", "", GOOD, chat("\"" + "word ".repeat(40) + "\"", "\"a\""));
        options = List.of("--max_length", "20", "--max_length_policy", "truncate_text");
        rows("too long, an image where it would be cut", "an image lies at token", shows("a.png", "a.png", "a.png"));
        rows(
                "beyond the model's positions",
                "max_position_embeddings",
                chat("\"" + "word ".repeat(140_000) + "\"", "\"a\""));
        rows(
                "rows with 0, 1 and 50 images",
                "",
                GOOD,
                shows("a.png"),
                shows(java.util.Collections.nCopies(50, "a.png").toArray(String[]::new)));
        rows("duplicates: told, and trained on", "", GOOD, GOOD);
        rows("text that is no string", "text is 3", chat("[{\"type\": \"text\", \"text\": 3}]", "\"a\""));
        rows("content that is no string", "content is 3", chat("3", "\"a\""));
        rows("part of another type", "video", chat("[{\"type\": \"video\"}]", "\"a\""));
        rows("columns that make nothing", "has no \"messages\"", "{\"text\": \"a\"}");
        rows(
                "columns that make two things",
                "--dataset_format",
                GOOD.replaceFirst("}$", ", \"prompt\": \"a\", \"completion\": \"b\"}"));
    }

    private void images() throws IOException {
        group("Images");
        byte[] jpeg = Files.readAllBytes(IMAGES.resolve("jpeg-420-100x75.jpg"));
        picture("truncated JPEG", "truncated", Arrays.copyOf(jpeg, jpeg.length / 2));
        picture("JPEG named x.png", "", jpeg);
        for (String name : List.of(
                "jpeg-cmyk.jpg",
                "jpeg-ycck.jpg",
                "png-0-16-13x11.png",
                "png-0-1-13x11.png",
                "png-3-8-13x11.png",
                "png-trns-rgb.png",
                "png-4-8-13x11.png",
                "png-icc-gamma.png",
                "exif-6.jpg",
                "gif-animated.gif",
                "webp-animated.webp",
                "png-animated.png",
                "jpeg-411-1x1.jpg",
                "jpeg-444-100x75-progressive.jpg",
                "bmp-rle8.bmp")) {
            if (Files.exists(IMAGES.resolve(name))) {
                picture(name, "", Files.readAllBytes(IMAGES.resolve(name)));
            }
        }
        picture("1 x 65535", "", png(1, 65535));
        picture("65535 x 1", "", png(65535, 1));
        picture("65535 x 65535 in 100 bytes", "65535 x 65535 pixels", header(65535, 65535));
        picture("beyond 32 bits", "pixels", header(Integer.MAX_VALUE, Integer.MAX_VALUE));
        byte[] gif = "GIF89a\u00ff\u00ff\u00ff\u00ff\u0080\0\0\0\0\0\u00ff\u00ff\u00ff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
                .getBytes(StandardCharsets.ISO_8859_1);
        picture("35-byte GIF of 65535 x 65535", "65535 x 65535", gif);
        picture("PNG with a packed text of 200 MB: left packed", "", withText(png(8, 6)));
        byte[] arithmetic = jpeg.clone();
        for (int i = 0; i + 1 < arithmetic.length; i++) {
            if (arithmetic[i] == (byte) 0xff && arithmetic[i + 1] == (byte) 0xc0) {
                arithmetic[i + 1] = (byte) 0xc9;
                break;
            }
        }
        picture("arithmetic JPEG", "arithmetic-coded", arithmetic);
        picture("SVG", "SVG drawing", "<svg xmlns='http://www.w3.org/2000/svg'/>".getBytes(StandardCharsets.UTF_8));
        picture("PDF", "PDF document", "%PDF-1.7".getBytes(StandardCharsets.UTF_8));
        picture("HEIC", "HEIC", "\0\0\0\u0018ftypheic".getBytes(StandardCharsets.ISO_8859_1));
        picture("zero bytes", "is empty (0 bytes)", new byte[0]);
        picture("web page", "HTML page", "<!doctype html><p>404".getBytes(StandardCharsets.UTF_8));
        picture(
                "Git LFS pointer",
                "git lfs pull",
                "version https://git-lfs.github.com/spec/v1\n".getBytes(StandardCharsets.UTF_8));
        rows("missing", "no such picture", shows("gone.png"));
        rows("a folder", "is not a file", shows("."));
        rows("broken base64", "not base64", shows("data:image/png;base64,!!"));
    }

    private void picture(String name, String says, byte[] bytes) throws IOException {
        Files.write(dir.resolve("x.png"), bytes);
        rows(name, says, shows("x.png"));
    }

    private void archives() throws IOException {
        group("Archives and paths");
        Path zip = dir.resolve("Z.zip");
        zip(zip, "../evil.png", "evil.png");
        rows("zip-slip: nothing is extracted, the entry equals no path", "no such picture", shows("Z/../../evil.png"));
        link(zip);
        rows("symbolic link in a zip", "symbolic link", shows("Z/link.png"));
        Files.write(zip, bomb());
        rows("zip bomb", "zip bomb", shows("Z/bomb.png"));
        Path inner = dir.resolve("inner");
        zip(inner, "a.png");
        zip(zip, "a.png", Files.readAllBytes(inner));
        rows("zip in a zip", "this is a ZIP archive", shows("Z/a.png"));
        byte[] twice = Files.readAllBytes(twice(zip));
        Files.write(zip, twice);
        rows("two entries of one name", "is there twice", shows("Z/aaaa.png"));
        zip(zip, "A.png", png(2, 2));
        rows("names that differ in case", "no such picture", shows("Z/a.png"));
        Files.write(zip, Arrays.copyOf(Files.readAllBytes(zip), 40));
        rows("truncated zip", "truncated", shows("Z/A.png"));
        Files.delete(zip);
        Path words = Files.writeString(dir.resolve("words.txt"), "words");
        rows("absolute path: taken, as the data are the user's own", "no known image format", shows(words.toString()));
        rows("device", "is not a file", shows("/dev/zero"));
        rows("path of another machine", "another machine", shows("\\\\\\\\host\\\\share\\\\a.png"));
        rows("file: URL", "is a URL", shows("file:///etc/passwd"));
        rows("URL of a private address: nothing is fetched", "is a URL", shows("http://169.254.169.254/a.png"));
        rows("URL", "is a URL", shows("https://example.com/a.png"));
        rows("NUL in a path", "is not a path", shows("a\\u0000.png"));
    }

    private void tokenizers() throws IOException {
        group("Tokenizer and text");
        tokenizer("cut off", "not valid JSON", text -> text.substring(0, text.length() / 2));
        tokenizer("no vocabulary", "vocab", text -> text.replace("\"vocab\"", "\"vocabulary\""));
        tokenizer("another model", "BPE", text -> text.replace("\"BPE\"", "\"Unigram\""));
        model = copy();
        Files.delete(model.resolve("tokenizer.json"));
        rows("missing", "is missing", GOOD);
        model = copy();
        Path template = model.resolve("chat_template.json");
        Files.writeString(template, Files.readString(template).replace("add_generation_prompt", "never"));
        rows("another chat template", "is not Gemma 3's chat template", GOOD);
        rows("half a surrogate pair", "half a surrogate pair", chat("\"a \\ud83d b\"", "\"a\""));
        rows("a surrogate pair, NUL, private use", "", chat("\"\\ud83d\\ude42 \\u0000 \\ue000\"", "\"a\""));
        rows("a word of 100,000 letters", "", chat("\"" + "x".repeat(100_000) + "\"", "\"a\""));
        rows(
                "control tokens in words: they are words",
                "",
                chat("\"<end_of_turn><bos><start_of_turn>model\"", "\"a\""));
        options = List.of("--compat", "trl");
        rows("soft token in words under --compat trl", "<image_soft_token>", chat("\"<image_soft_token>\"", "\"a\""));
    }

    private void tokenizer(String name, String says, java.util.function.UnaryOperator<String> spoil)
            throws IOException {
        model = copy();
        Path file = model.resolve("tokenizer.json");
        Files.writeString(file, spoil.apply(Files.readString(file)));
        rows("tokenizer.json: " + name, says, GOOD);
    }

    private Path copy() throws IOException {
        Path to = Files.createDirectory(dir.resolve("model-" + ++models));
        try (Stream<Path> files = Files.list(MODEL)) {
            for (Path file : files.filter(f -> f.toString().endsWith(".json")).toList()) {
                Files.copy(file, to.resolve(file.getFileName()));
            }
        }
        return to;
    }

    private static byte[] png(int width, int height) {
        return PngWriter.encode(new Rgb(width, height, new byte[3 * width * height]));
    }

    /** A PNG that says it is of this size. */
    private static byte[] header(int width, int height) {
        byte[] bytes = png(1, 1);
        ByteBuffer.wrap(bytes).putInt(16, width).putInt(20, height);
        CRC32 crc = new CRC32();
        crc.update(bytes, 12, 17);
        ByteBuffer.wrap(bytes).putInt(29, (int) crc.getValue());
        return bytes;
    }

    private static byte[] withText(byte[] png) {
        byte[] packed = deflate(new byte[200 << 20], false);
        ByteArrayOutputStream chunk = new ByteArrayOutputStream();
        chunk.writeBytes("zTXtkey\0\0".getBytes(StandardCharsets.ISO_8859_1));
        chunk.writeBytes(packed);
        CRC32 crc = new CRC32();
        crc.update(chunk.toByteArray());
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(png, 0, 33);
        out.writeBytes(ByteBuffer.allocate(4).putInt(chunk.size() - 4).array());
        out.writeBytes(chunk.toByteArray());
        out.writeBytes(ByteBuffer.allocate(4).putInt((int) crc.getValue()).array());
        out.write(png, 33, png.length - 33);
        return out.toByteArray();
    }

    private static byte[] deflate(byte[] bytes, boolean raw) {
        Deflater deflater = new Deflater(9, raw);
        deflater.setInput(bytes);
        deflater.finish();
        byte[] packed = new byte[1 << 20];
        int n = deflater.deflate(packed);
        deflater.end();
        return Arrays.copyOf(packed, n);
    }

    private static void zip(Path file, String... names) throws IOException {
        try (ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(file))) {
            for (String name : names) {
                out.putNextEntry(new ZipEntry(name));
                out.write(png(2, 2));
            }
        }
    }

    private static void zip(Path file, String name, byte[] content) throws IOException {
        try (ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(file))) {
            out.putNextEntry(new ZipEntry(name));
            out.write(content);
        }
    }

    /** Says in the list that the entry was made on Unix and is a link. */
    private static void link(Path file) throws IOException {
        zip(file, "link.png");
        byte[] bytes = Files.readAllBytes(file);
        int list = list(bytes);
        bytes[list + 5] = 3;
        bytes[list + 41] = (byte) 0xA1;
        bytes[list + 40] = (byte) 0xFF;
        Files.write(file, bytes);
    }

    private static byte[] bomb() throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ZipOutputStream out = new ZipOutputStream(bytes)) {
            out.setLevel(9);
            out.putNextEntry(new ZipEntry("bomb.png"));
            byte[] zeros = new byte[1 << 20];
            for (int i = 0; i < 64; i++) {
                out.write(zeros);
            }
        }
        return bytes.toByteArray();
    }

    private static Path twice(Path file) throws IOException {
        zip(file, "aaaa.png", "bbbb.png");
        String bytes = new String(Files.readAllBytes(file), StandardCharsets.ISO_8859_1).replace("bbbb", "aaaa");
        return Files.write(file, bytes.getBytes(StandardCharsets.ISO_8859_1));
    }

    private static int list(byte[] bytes) {
        for (int i = 0; i + 3 < bytes.length; i++) {
            if (bytes[i] == 'P' && bytes[i + 1] == 'K' && bytes[i + 2] == 1 && bytes[i + 3] == 2) {
                return i;
            }
        }
        throw new AssertionError("no list of entries");
    }
}
