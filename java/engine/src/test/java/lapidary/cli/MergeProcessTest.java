package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import lapidary.format.Json;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code engine merge} as a user starts it: files, messages and exit codes. */
final class MergeProcessTest {
    private static final String MODEL = "src/test/resources/golden/multimodal";

    @TempDir
    private Path folder;

    private EngineProcess merge(String... more) throws IOException, InterruptedException {
        List<String> arguments = new ArrayList<>(List.of("merge", "--model_name_or_path", MODEL));
        arguments.addAll(List.of(more));
        return EngineProcess.run(folder, arguments);
    }

    @Test
    void writesACheckpointAndSaysHowNearItIs() throws IOException, InterruptedException {
        Path merged = folder.resolve("made/merged");
        EngineProcess run = merge("--adapter_name_or_path", MODEL + "/init", "--output_dir", merged.toString());
        assertEquals("", run.err());
        assertEquals(0, run.code());
        assertTrue(run.out().contains("merged 53 layers"), run.out());
        assertTrue(run.out().contains("tie_word_embeddings is false now"), run.out());
        assertTrue(run.out().contains("the likeliest token is the same at"), run.out());
        assertEquals(List.of("config.json", "merge_report.json", "model.safetensors"), EngineProcess.list(merged));
        assertEquals(List.of("merged"), EngineProcess.list(folder.resolve("made")));
    }

    @Test
    void whatIsPrintedIsInTheReport() throws IOException, InterruptedException {
        Path adapter = Files.createDirectory(folder.resolve("adapter"));
        for (String file : List.of("adapter_config.json", "adapter_model.safetensors")) {
            Files.copy(Path.of(MODEL + "/init", file), adapter.resolve(file));
        }
        Files.writeString(adapter.resolve("train_config.yaml"), "load_in_4bit: true\n");
        Path merged = folder.resolve("merged");
        EngineProcess run = merge("--adapter_name_or_path", adapter.toString(), "--output_dir", merged.toString());
        assertEquals(0, run.code(), run.err());
        List<String> printed = run.out().lines().toList();
        assertTrue(printed.stream().anyMatch(line -> line.contains("--load_in_4bit, which was not given")), run.out());
        List<String> kept = Json.read(merged.resolve("merge_report.json")).get("printed").elements().stream()
                .map(Json::string)
                .toList();
        assertEquals(printed.subList(0, printed.size() - 1), kept); // the last line names the folder
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "2|--output_dir OUT|merge needs --adapter_name_or_path",
                "2|--adapter_name_or_path INIT|merge needs --output_dir",
                "2|--adapter_name_or_path INIT --output_dir OUT --merge_base original|no effect without --load_in_4bit",
                "2|--adapter_name_or_path INIT --output_dir OUT --load_in_4bit --merge_base odd|--merge_base is odd",
                "2|--adapter_name_or_path INIT --output_dir OUT --dtype float16|float16",
                "2|--adapter_name_or_path INIT --output_dir OUT --max_shard_size 5|expected a size like 5GB",
                "1|--adapter_name_or_path INIT --output_dir OUT --prompt Why?|no tokenizer.json",
                "1|--adapter_name_or_path nowhere --output_dir OUT|no such folder",
                "1|--adapter_name_or_path INIT --output_dir pom.xml|is a file, expected a new or an empty folder",
                "1|--adapter_name_or_path INIT --output_dir pom.xml/merged|is a file, not a folder",
                "1|--adapter_name_or_path INIT --output_dir /proc/merged|/proc/merged",
                "1|--adapter_name_or_path INIT --output_dir src|is not empty",
            })
    void saysInOneLineWhatIsWrong(int code, String options, String said) throws IOException, InterruptedException {
        Path out = folder.resolve("merged");
        String given = options.replace("INIT", MODEL + "/init").replace("OUT", out.toString());
        EngineProcess run = merge(given.split(" "));
        assertEquals(code, run.code(), run.err());
        assertEquals(1, run.err().lines().count(), run.err());
        assertTrue(run.err().contains(said), run.err());
        assertTrue(!Files.exists(out), "nothing is left");
    }
}
