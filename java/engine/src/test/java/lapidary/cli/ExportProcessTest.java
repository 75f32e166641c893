package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code engine export} as a user starts it: files, messages and exit codes. */
final class ExportProcessTest {
    private static final String MODEL = "src/main/resources/lapidary/demo/base";

    @TempDir
    private Path folder;

    private EngineProcess export(String... arguments) throws IOException, InterruptedException {
        List<String> all = new ArrayList<>(List.of("export"));
        all.addAll(List.of(arguments));
        return EngineProcess.run(folder, all);
    }

    @Test
    void writesBothFiles() throws IOException, InterruptedException {
        Path out = folder.resolve("gguf");
        EngineProcess run = export("--model_name_or_path", MODEL, "--output_dir", out.toString(), "--outtype", "Q8_0");
        assertEquals("", run.err());
        assertEquals(0, run.code());
        assertEquals(List.of("base-q8_0.gguf", "mmproj-base-q8_0.gguf"), EngineProcess.list(out));
        assertTrue(run.out().contains("base-q8_0.gguf has 80 tensors"), run.out());
        assertTrue(run.out().contains("note: query_pre_attn_scalar is 24.0"), run.out());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "2|--output_dir OUT|export needs --model_name_or_path",
                "2|--model_name_or_path MODEL|export needs --output_dir",
                "2|--model_name_or_path MODEL --output_dir OUT --format onnx|--format is onnx, expected gguf",
                "2|--model_name_or_path MODEL --output_dir OUT --outtype q4_k_m|expected f32, f16, bf16 or q8_0",
                "1|--model_name_or_path nowhere --output_dir OUT|no such folder: nowhere",
                "1|--model_name_or_path src/test/resources/golden/text --output_dir OUT|tokenizer.json is missing",
                "1|--model_name_or_path MODEL --output_dir src|is not empty",
                "1|--model_name_or_path MODEL --output_dir /proc/gguf|/proc/gguf",
                "1|--model_name_or_path MODEL --output_dir OUT --adapter_name_or_path src/test/resources/golden/text/init|does"
                        + " not belong to",
            })
    void saysInOneLineWhatIsWrong(int code, String options, String said) throws IOException, InterruptedException {
        Path out = folder.resolve("gguf");
        EngineProcess run = export(
                options.replace("MODEL", MODEL).replace("OUT", out.toString()).split(" "));
        assertEquals(code, run.code(), run.err());
        assertEquals(1, run.err().lines().count(), run.err());
        assertTrue(run.err().contains(said), run.err());
        assertTrue(!Files.exists(out), "nothing is left");
    }
}
