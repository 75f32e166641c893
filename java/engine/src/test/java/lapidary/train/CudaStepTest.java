package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import lapidary.device.CudaDevice;
import lapidary.device.DType;
import lapidary.device.FakeCuda;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** What whole steps ask of the driver, on the CUDA for tests. */
@EnabledOnOs(value = OS.LINUX, architectures = "amd64")
final class CudaStepTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");
    private static final List<String> ALLOCATING =
            List.of("cudaMallocAsync", "cudaFreeAsync", "cudaHostAlloc", "cudaFreeHost", "cudaMemPoolTrimTo");
    private static final List<String> WAITING =
            List.of("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize");

    private static final List<String> OPTIMISER = List.of("adamw", "sum_squares", "memory_zero");

    @TempDir
    private Path folder;

    /** Rows of one length, so that every step is of one shape. */
    private String rows(int n) throws IOException {
        List<String> rows = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            char letter = (char) ('a' + i % 26);
            rows.add("{\"messages\": [{\"role\": \"user\", \"content\": \"Say " + letter
                    + "\"}, {\"role\": \"assistant\", \"content\": \"" + letter + "!\"}]}");
        }
        Path file = folder.resolve("rows.jsonl");
        Files.write(file, rows);
        return file.toString();
    }

    /** Calls so far at the end of each step. */
    private List<Map<String, Long>> calls(SftConfig config) {
        List<Map<String, Long>> calls = new ArrayList<>();
        TrainingListener listener = new TrainingListener() {
            @Override
            public void onStep(int step, int maxSteps, double loss) {
                Map<String, Long> now = new TreeMap<>();
                ALLOCATING.forEach(name -> now.put(name, FakeCuda.calls(name)));
                WAITING.forEach(name -> now.put(name, FakeCuda.calls(name)));
                OPTIMISER.forEach(name -> now.put(name, FakeCuda.calls(name)));
                calls.add(now);
            }
        };
        CudaDevice device = FakeCuda.open();
        try {
            new Sft(config, device, listener).run();
        } finally {
            device.close();
        }
        return calls;
    }

    /**
     * From the third step on, steps of one shape take nothing from the driver and give nothing back, and the host waits only
     * for what is logged: loss, entropy and accuracy of each micro-batch, and the norm of the gradient. The optimiser calls a
     * kernel for the norm and one for all adapters, and clears no gradient of theirs.
     */
    @Test
    void stepsOfOneShapeAllocateNothingAndWaitForLoggedNumbersAlone() throws IOException {
        List<Map<String, Long>> calls = calls(SftConfig.builder(MODEL, rows(20), folder.resolve("out"))
                .dtype(DType.BF16)
                .loadIn4bit(true)
                .perDeviceTrainBatchSize(1)
                .gradientAccumulationSteps(2)
                .gradientCheckpointing(true)
                .loraDropout(0.05)
                .loggingSteps(1)
                .maxSteps(5)
                .build());
        assertEquals(5, calls.size());
        assertTrue(calls.get(0).get("cudaMallocAsync") > 0, "allocations of the first step are counted");
        for (String name : ALLOCATING) {
            assertEquals(calls.get(1).get(name), calls.get(4).get(name), name + " in steps 3 to 5");
        }
        for (int step = 2; step < 5; step++) {
            long waits = 0;
            for (String name : WAITING) {
                waits += calls.get(step).get(name) - calls.get(step - 1).get(name);
            }
            assertEquals(2 * 3 + 1, waits, "waits in step " + (step + 1));
            assertEquals(1, calls.get(step).get("adamw") - calls.get(step - 1).get("adamw"), "adamw");
            assertEquals(
                    1, calls.get(step).get("sum_squares") - calls.get(step - 1).get("sum_squares"), "sum_squares");
            // One a micro-batch: the loss's gradient of the rows that have no target.
            assertEquals(
                    2, calls.get(step).get("memory_zero") - calls.get(step - 1).get("memory_zero"), "memory_zero");
        }
    }
}
