package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code engine adapter} as a user starts it. */
final class AdapterProcessTest {
    private static final String GOLDEN = "src/test/resources/golden/";

    @TempDir
    private Path folder;

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "0|multimodal/init|vLLM: does not load it",
                "0|text/patterns|r 2",
                "2||adapter needs one folder",
                "2|a --adapter_name_or_path b|adapter needs one folder",
                "1|nowhere|no such folder",
                "1|text|no PEFT adapter",
            })
    void saysWhatItIs(int code, String arguments, String said) throws IOException, InterruptedException {
        List<String> all = new ArrayList<>(List.of("adapter"));
        if (arguments != null) {
            for (String word : arguments.split(" ")) {
                all.add(word.contains("-") || word.length() == 1 ? word : GOLDEN + word);
            }
        }
        EngineProcess run = EngineProcess.run(folder, all);
        assertEquals(code, run.code(), run.err());
        assertEquals(code == 0 ? 0 : 1, run.err().lines().count(), run.err());
        assertTrue((run.out() + run.err()).contains(said), run.out() + run.err());
    }
}
