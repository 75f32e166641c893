package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import lapidary.format.Safetensors;
import lapidary.image.ImageDecoder;
import lapidary.image.PngWriter;
import lapidary.image.Rgb;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import picocli.CommandLine;

final class CheckTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");

    @TempDir
    Path dir;

    private final StringWriter out = new StringWriter();
    private final StringWriter err = new StringWriter();
    private final List<String> rows = new ArrayList<>();

    @BeforeEach
    void picture() throws IOException {
        byte[] pixels = new byte[3 * 40 * 30];
        Arrays.fill(pixels, (byte) 200);
        Files.write(dir.resolve("a.png"), PngWriter.encode(new Rgb(40, 30, pixels)));
    }

    private int check(String... options) throws IOException {
        Path data = Files.write(dir.resolve("rows.jsonl"), rows);
        List<String> args = new ArrayList<>(
                List.of("check", "--model_name_or_path", MODEL.toString(), "--dataset_name", data.toString()));
        args.addAll(List.of(options));
        CommandLine engine = Engine.commandLine();
        out.getBuffer().setLength(0);
        err.getBuffer().setLength(0);
        engine.setOut(new PrintWriter(out, true));
        engine.setErr(new PrintWriter(err, true));
        return engine.execute(args.toArray(String[]::new));
    }

    private static String chat(String question, String answer, String... images) {
        StringBuilder parts = new StringBuilder();
        for (String image : images) {
            parts.append("{\"type\": \"image\", \"image\": \"").append(image).append("\"}, ");
        }
        return "{\"messages\": [{\"role\": \"user\", \"content\": [" + parts + "{\"type\": \"text\", \"text\": \""
                + question + "\"}]}, {\"role\": \"assistant\", \"content\": \"" + answer + "\"}]}";
    }

    private void assertSays(String... parts) {
        for (String part : parts) {
            assertTrue(out.toString().contains(part), "\"" + part + "\" is not in: " + out);
        }
    }

    @Test
    void goodRowsAreCounted() throws IOException {
        rows.addAll(List.of(
                chat("what shape", "square", "a.png"),
                chat("what", "red", "a.png", "a.png"),
                chat("what shape", "square"),
                chat("what shape", "square", "a.png")));
        assertEquals(0, check(), err.toString());
        assertEquals("", err.toString());
        assertSays(
                "4: 4 good, 0 bad",
                "4 in 3 rows, at most 2 in one; sizes 40x30 (4)",
                "1 rows have words and pictures of");
        assertSays("3 of 0", "3 steps of 8 rows for 3 epochs");
        assertSays(
                "Memory  ", "for the longest rows in one batch: 8 with", "weights 4 MiB", "a GPU of 24 GiB would need");
    }

    /** The guide's model: shapes alone, of a config.json as Google publishes it. */
    @Test
    void memoryIsToldFromConfigJsonAlone() throws IOException {
        Files.writeString(
                dir.resolve("config.json"),
                "{\"model_type\": \"gemma3\", \"image_token_index\": 262144, \"mm_tokens_per_image\": 256, \"text_config\":"
                        + " {\"hidden_size\": 2560, \"intermediate_size\": 10240, \"model_type\": \"gemma3_text\","
                        + " \"num_hidden_layers\": 34, \"rope_scaling\": {\"factor\": 8.0, \"rope_type\": \"linear\"},"
                        + " \"sliding_window\": 1024}, \"vision_config\": {\"hidden_size\": 1152, \"image_size\": 896,"
                        + " \"intermediate_size\": 4304, \"model_type\": \"siglip_vision_model\", \"num_attention_heads\":"
                        + " 16, \"num_hidden_layers\": 27, \"patch_size\": 14}}");
        CommandLine engine = Engine.commandLine();
        engine.setOut(new PrintWriter(out, true));
        engine.setErr(new PrintWriter(err, true));
        String[] options = ("check --model_name_or_path " + dir + " --device cpu --row_tokens 800 --row_pictures 3"
                        + " --per_device_train_batch_size 1 --load_in_4bit --use_bnb_nested_quant")
                .split(" ");
        assertEquals(0, engine.execute(options), err.toString());
        // 1.26 GB of embedding, 3.6 G other weights at 0.516 bytes, and 33 M numbers of adapters in F32.
        assertSays("1 with 800 tokens and 3 pictures", "weights 3.07 GiB, adapters and saved tables 0.14 GiB");
        options[6] = "700";
        assertEquals(2, engine.execute(options));
        assertTrue(err.toString().contains("at least the pictures' own 768"), err.toString());
        err.getBuffer().setLength(0);
        assertEquals(2, engine.execute("check", "--model_name_or_path", dir.toString(), "--row_pictures", "1"));
        assertTrue(err.toString().contains("--row_tokens is 0"), err.toString());
    }

    @Test
    void whatDoesNotFitTheModelIsToldBeforeTheLook() throws IOException {
        rows.add(chat("q", "a"));
        assertEquals(1, check("--lora_target_modules", "no_proj"));
        assertTrue(err.toString().contains("no_proj"), err.toString());
        assertFalse(out.toString().contains("good"), out.toString());
    }

    @Test
    void rowsWithoutAnAnswerAreTold() throws IOException {
        rows.addAll(List.of(chat("q", "a"), "{\"messages\": [{\"role\": \"user\", \"content\": \"hello\"}]}"));
        assertEquals(0, check(), err.toString());
        assertSays("2: 2 good, 0 bad", "No answer   1 rows end without what the model is to say: 1");
    }

    @Test
    void everyBadRowHasALine() throws IOException {
        Files.writeString(dir.resolve("broken.png"), "\u0089PNG but no more");
        Files.write(dir.resolve("empty.png"), new byte[0]);
        Files.write(dir.resolve("cut.png"), Arrays.copyOf(Files.readAllBytes(dir.resolve("a.png")), 60));
        rows.addAll(List.of(
                chat("q", "a", "broken.png"),
                chat("q", "a"),
                chat("q", "a", "gone.png"),
                "{\"messages\": [",
                chat("q", "a", "a.png", "empty.png"),
                chat("q \\u001b[31m\\nrow 1: x", "a"),
                chat("q", "a", "cut.png"),
                "{\"text\": \"a\"}",
                chat("q <start_of_image>", "a")));
        assertEquals(1, check());
        List<String> bad =
                out.toString().lines().filter(line -> line.startsWith("row ")).toList();
        assertEquals(7, bad.size(), bad.toString());
        String file = dir.resolve("rows.jsonl").toString();
        List<String> expected = List.of(
                "row 0: " + file + ":1: " + dir.resolve("broken.png") + ": ",
                "row 2: " + file + ":3: messages[0].content[0].image: no such picture: " + dir.resolve("gone.png"),
                "row 3: " + file + ":4:",
                "row 4: " + file + ":5: " + dir.resolve("empty.png") + " is empty (0 bytes)",
                "row 6: " + file + ":7: " + dir.resolve("cut.png") + ": PNG is truncated",
                "row 7: " + file + ":8: has no \"messages\"",
                "row 8: " + file + ":9: the prompt has 1 <start_of_image>");
        for (int i = 0; i < bad.size(); i++) {
            assertTrue(bad.get(i).startsWith(expected.get(i)), bad.get(i));
        }
        assertEquals(
                "engine: 7 of 9 rows are bad; mend them, or leave them out with --on_bad_sample drop",
                err.toString().strip());
        assertEquals(
                0, check("--on_bad_sample", "drop", "--dump", dir.resolve("d").toString()), err.toString());
        assertSays("row 0: ", "9: 2 good, 7 bad", ": 2 samples");
        assertEquals("", err.toString());
        try (Safetensors dump = Safetensors.open(dir.resolve("d"))) {
            assertEquals(
                    List.of(1, 5),
                    dump.names().stream()
                            .filter(name -> name.endsWith(".labels"))
                            .map(name -> Integer.parseInt(name.split("\\.")[1]))
                            .sorted()
                            .toList());
        }
        rows.retainAll(List.of("{\"text\": \"a\"}"));
        assertEquals(1, check("--on_bad_sample", "drop"));
        assertEquals("engine: no row is left to train on", err.toString().strip());
    }

    @Test
    void tooLongRowsFollowThePolicy() throws IOException {
        rows.addAll(List.of(chat("short", "a"), chat("long ".repeat(60), "a"), chat("long ".repeat(60), "a", "a.png")));
        assertEquals(1, check("--max_length", "40"));
        assertSays("row 1: ", "more than --max_length 40", "row 2: ");
        assertEquals(0, check("--max_length", "40", "--max_length_policy", "drop"));
        assertSays("3: 1 good, 0 bad, 2 too long and dropped", "row 1 (", "dropped)");
        assertEquals(0, check("--max_length", "40", "--max_length_policy", "truncate_text"));
        assertSays("3: 3 good, 0 bad, 2 too long and cut", "cut to 40)", "longest 40");
        assertEquals(0, check("--max_length", "40", "--compat", "trl"), "TRL cuts");
        assertSays("3: 3 good, 0 bad, 2 too long and cut", "longest 40");
        assertEquals(1, check("--max_length", "40", "--compat", "trl", "--max_length_policy", "error"));
        assertEquals(1, check("--max_length", "99999999"));
        assertTrue(err.toString().contains("max_position_embeddings"), err.toString());
    }

    /** As the guide opens them, while datasets turns what is in a data set. */
    @Test
    void filesOfMmiuAreTurnedByExifButNotInCompatTrl() throws IOException {
        Path picture = dir.resolve("turned.jpg");
        Files.copy(Path.of("src/test/resources/lapidary/image/exif-6.jpg"), picture);
        Rgb stored = ImageDecoder.decode(Files.readAllBytes(picture), "x", false);
        String asStored = "pictures [" + stored.width() + "x" + stored.height() + "]";
        String turned = "pictures [" + stored.height() + "x" + stored.width() + "]";
        rows.add(
                "{\"context\": \"c\", \"question\": \"q\", \"input_image_path\": [\"turned.jpg\"], \"output\": \"A\"}");
        assertEquals(0, check("--show", "1"));
        assertSays(turned);
        assertEquals(0, check("--show", "1", "--compat", "trl"));
        assertSays(asStored);
        rows.set(0, chat("q", "a", "turned.jpg"));
        assertEquals(0, check("--show", "1", "--compat", "trl"));
        assertSays(turned);
    }

    @Test
    void samplesAreShownWithWhatIsTrained() throws IOException {
        rows.addAll(List.of(chat("what \\u001b[2J shape", "square", "a.png"), chat("x", "y")));
        assertEquals(0, check("--show", "1", "--assistant_only_loss"));
        assertSays("row 0: ", "pictures [40x30]", "[picture, ", "model\n\u00BBsquare<end_of_turn>\u00AB", "\\u001b[2J");
        assertFalse(out.toString().contains("row 1: "), out.toString());
        assertFalse(out.toString().contains("\u001B"));
    }

    @Test
    void theReportIsOnePageWithThePictures() throws IOException {
        Files.writeString(dir.resolve("broken.png"), "no picture");
        rows.addAll(List.of(
                chat("<script>alert(1)</script> & shape", "square", "a.png"), chat("q", "a", "a.png", "broken.png")));
        Path page = dir.resolve("page.html");
        assertEquals(1, check("--report", page.toString()));
        String html = Files.readString(page);
        assertTrue(html.startsWith("<!doctype html>"));
        assertFalse(html.contains("<script"), "text from the data is escaped");
        assertTrue(html.contains("&lt;script&gt;alert(1)"));
        assertFalse(html.matches("(?s).*(src|href)=\"(?!data:).*"), "nothing is fetched");
        assertTrue(html.contains("Bad rows (1)"));
        assertTrue(html.contains("no picture</div>"));
        assertEquals(2, html.split("data:image/png;base64,").length - 1, "a sample's view and a thumbnail");
        assertTrue(html.contains("prefers-color-scheme: dark"));
    }

    @ParameterizedTest
    @CsvSource({
        "--max_length_policy cut, expected one of",
        "--on_bad_sample skip, error or drop",
        "--dataset_format csv, expected one of",
        "--assistant_only_loss --completion_only_loss true, give one",
        "--max_length 1, 2 or more",
        "--compat hf, neither of",
        "--dataset_train_split train[1], --dataset_train_split",
        "--per_device_train_batch_size 0, at least 1",
        "--num_train_epochs 0, more than 0",
        "--push_to_hub, only train and upload publish",
        "--hub_model_id a/b, only train and upload publish",
        "--row_tokens 5, go without --dataset_name",
        "--use_bnb_nested_quant, no effect without --load_in_4bit",
    })
    void wrongOptionsAreNamed(String options, String why) throws IOException {
        rows.add(chat("q", "a"));
        assertEquals(2, check(options.split(" ")));
        assertTrue(err.toString().contains(why), err.toString());
        assertEquals(1, err.toString().lines().count(), err.toString());
    }

    @Test
    void writtenPngIsReadBack() throws IOException {
        byte[] pixels = new byte[3 * 7 * 5];
        for (int i = 0; i < pixels.length; i++) {
            pixels[i] = (byte) (i * 37);
        }
        Rgb back = ImageDecoder.decode(PngWriter.encode(new Rgb(7, 5, pixels)), "x", true);
        assertEquals(7, back.width());
        assertTrue(Arrays.equals(pixels, back.pixels()));
    }
}
