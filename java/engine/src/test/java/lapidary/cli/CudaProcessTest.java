package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import lapidary.device.FakeCuda;
import lapidary.format.Json;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code --device cuda} in a process of its own, on the CUDA for tests, which it finds as it would find a real one. */
@EnabledOnOs(value = OS.LINUX, architectures = "amd64")
final class CudaProcessTest {
    private static final double TEXT_WEIGHTS = 6 * 128 * (2 * 32 * (4 + 2) + 3 * 384) + 768 * 128; // layers and head

    @TempDir
    private Path folder;

    private final Map<String, String> environment = new HashMap<>();
    private String classes;
    private Path model;
    private Path data;

    @BeforeEach
    void prepare() throws IOException {
        Path jar = Files.createDirectories(folder.resolve("classes/lapidary/native"));
        Files.copy(FakeCuda.folder().resolve("liblapidary_cuda.so"), jar.resolve("liblapidary_cuda.so"));
        classes = folder.resolve("classes") + ":";
        environment.put("LD_LIBRARY_PATH", FakeCuda.folder().toString());
        environment.put("XDG_CACHE_HOME", folder.resolve("cache").toString());
        model = EngineProcess.model(folder.resolve("model"));
        data = folder.resolve("data.jsonl");
        List<String> rows = new ArrayList<>();
        for (int i = 0; i < 8; i++) {
            rows.add("{\"messages\": [{\"role\": \"user\", \"content\": \"Say " + i
                    + "\"}, {\"role\": \"assistant\", \"content\": \"It is " + i + ".\"}]}");
        }
        Files.write(data, rows);
    }

    private EngineProcess train(String device, String output) throws IOException, InterruptedException {
        return train(device, output, "float32");
    }

    private EngineProcess train(String device, String output, String dtype) throws IOException, InterruptedException {
        return EngineProcess.run(
                folder,
                environment,
                classes,
                List.of(
                        "train",
                        "--model_name_or_path",
                        model.toString(),
                        "--dataset_name",
                        data.toString(),
                        "--output_dir",
                        folder.resolve(output).toString(),
                        "--device",
                        device,
                        "--max_steps",
                        "3",
                        "--logging_steps",
                        "1",
                        "--learning_rate",
                        "1e-3",
                        "--load_in_4bit",
                        "--dtype",
                        dtype));
    }

    private List<JsonNode> log(String output) {
        List<JsonNode> entries = new ArrayList<>();
        Path state = folder.resolve(output).resolve("trainer_state.json");
        Json.read(state).node().get("log_history").forEach(entries::add);
        return entries;
    }

    @Test
    void trainsAsTheCpuDoes() throws IOException, InterruptedException {
        EngineProcess cuda = train("cuda", "cuda");
        assertEquals(0, cuda.code(), cuda.err());
        assertTrue(cuda.out().contains("Test GPU"), cuda.out());
        EngineProcess cpu = train("cpu", "cpu");
        assertEquals(0, cpu.code(), cpu.err());
        for (int step = 0; step < 3; step++) {
            for (String key : List.of("loss", "grad_norm", "entropy", "mean_token_accuracy")) {
                double expected = log("cpu").get(step).get(key).doubleValue();
                assertEquals(expected, log("cuda").get(step).get(key).doubleValue(), 1e-3 * expected, key);
            }
        }
    }

    /** And agrees with the tokens of the same line. */
    @ParameterizedTest
    @CsvSource({"NVIDIA H100 80GB HBM3, bfloat16, 989e12", "NVIDIA H100 80GB HBM3, float32, 0", "Test GPU, bfloat16, 0"
    })
    void mfuIsToldWhereThePeakIsKnown(String card, String dtype, double peak) throws Exception {
        environment.put("FAKE_CUDA_NAME", card);
        EngineProcess run = train("cuda", "out", dtype);
        assertEquals(0, run.code(), run.err());
        assertEquals(peak > 0 ? 4 : 0, run.out().split("MFU", -1).length - 1, run.out()); // three steps and the end
        for (String line : Files.readAllLines(folder.resolve("out/metrics.jsonl"))) {
            Json entry = Json.parse("metrics", line);
            assertEquals(peak > 0, entry.has("mfu"), line);
            if (peak > 0) { // no pictures
                double useful = 4 * TEXT_WEIGHTS * entry.number("tokens_per_second");
                assertEquals(useful / peak, entry.number("mfu"), 1e-9 * useful / peak);
            }
        }
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "cudaGetDeviceCount:0:35 | 0 | 90 | no NVIDIA driver answers: install one that supports CUDA 13.0",
                "cudaGetDeviceCount:0:35 | 12040 | 90 | the NVIDIA driver supports CUDA 12.4 and this build needs 13.0: update",
                "cudaGetDeviceCount:0:100 | 13000 | 90 | shows no device; CUDA_VISIBLE_DEVICES may hide them",
                "none:0:1 | 13000 | 75 | Test GPU has compute capability 7.5, expected 8.0 or higher",
                "cudaMemcpyAsync:40:719 | 13000 | 90 | the device is lost for this process",
            })
    void aFaultIsOneLine(String fail, String driver, String capability, String line)
            throws IOException, InterruptedException {
        environment.putAll(
                Map.of("FAKE_CUDA_FAIL", fail, "FAKE_CUDA_DRIVER", driver, "FAKE_CUDA_CAPABILITY", capability));
        EngineProcess process = train("cuda", "out");
        assertEquals(1, process.code(), process.err());
        assertTrue(process.err().contains(line), process.err());
        assertEquals(1, process.err().lines().count(), process.err());
    }

    @ParameterizedTest
    @CsvSource({
        "36, do not fit: try --dtype bfloat16",
        "40, use --per_device_train_batch_size 4 --gradient_accumulation_steps 2"
    })
    void exhaustedMemoryProposesWhatFits(int mebibytes, String advice) throws IOException, InterruptedException {
        environment.put("FAKE_CUDA_MEMORY", String.valueOf((long) mebibytes << 20));
        EngineProcess process = train("cuda", "out");
        assertEquals(1, process.code(), process.err());
        assertTrue(process.err().contains("out of memory: ") && process.err().contains(advice), process.err());
        assertEquals(1, process.err().lines().count(), process.err());
    }

    @Test
    void infoSaysWhatIsThereAndWhatIsMissing() throws IOException, InterruptedException {
        EngineProcess info = EngineProcess.run(folder, environment, classes, List.of("info"));
        assertEquals(0, info.code(), info.err());
        assertTrue(info.out().contains("libcublasLt.so.13"), info.out());
        EngineProcess without = EngineProcess.run(folder, Map.of("LD_LIBRARY_PATH", ""), classes, List.of("info"));
        assertTrue(without.out().contains("device cuda  missing: "), without.out());
    }
}
