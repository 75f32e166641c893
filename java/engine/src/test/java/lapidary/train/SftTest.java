package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import lapidary.DeviceTest;
import lapidary.data.DataOptions;
import lapidary.data.LengthLimit;
import lapidary.data.LossOn;
import lapidary.data.Profile;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Checkpoint;
import lapidary.format.Json;
import lapidary.format.Safetensors;
import lapidary.format.SafetensorsWriter;
import lapidary.format.TensorEntry;
import lapidary.image.PanAndScan;
import lapidary.image.PanAndScanSettings;
import lapidary.optim.OptimizerOptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Whole runs on the demo's model; golden ones are TRL's (bench/reference/sft_golden.py). */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class SftTest extends DeviceTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");
    private static final Path GOLDEN = Path.of("src/test/resources/lapidary/train/sft");
    private static final String ROWS = GOLDEN.resolve("rows.parquet").toString();

    @TempDir
    private Path folder;

    SftTest(Device device) {
        super(device);
    }

    private SftConfig.Builder config(Path model, String data, String output) {
        return SftConfig.builder(model, data, folder.resolve(output))
                .dtype(DType.F32)
                .profile(Profile.TRL)
                .initAdapter(GOLDEN.resolve("init"))
                .loraDropout(0)
                .learningRate(2e-3)
                .perDeviceTrainBatchSize(2)
                .loggingSteps(1);
    }

    private SftConfig.Builder config(String output) {
        return config(MODEL, ROWS, output);
    }

    private List<JsonNode> run(SftConfig config) throws IOException {
        new Sft(config, device, TrainingListener.SILENT).run();
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(config.outputDir().resolve("metrics.jsonl"))) {
            lines.add(new ObjectMapper().readTree(line));
        }
        return lines;
    }

    private static double[] losses(List<JsonNode> lines) {
        return lines.stream()
                .mapToDouble(line -> line.get("loss").doubleValue())
                .toArray();
    }

    private static Map<String, float[]> tensors(Path file) {
        Map<String, float[]> tensors = new HashMap<>();
        try (Safetensors opened = Safetensors.open(file)) {
            for (String name : opened.names()) {
                TensorEntry entry = opened.entry(name);
                assertEquals("F32", entry.dtype(), name);
                float[] values = new float[(int) (entry.data().byteSize() / 4)];
                for (int i = 0; i < values.length; i++) {
                    values[i] = entry.data().getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i);
                }
                tensors.put(name, values);
            }
        }
        return tensors;
    }

    private Map<String, float[]> adapter(String output) {
        return tensors(folder.resolve(output).resolve("adapter_model.safetensors"));
    }

    private byte[] bytes(String output) throws IOException {
        return Files.readAllBytes(folder.resolve(output).resolve("adapter_model.safetensors"));
    }

    /** How far each tensor went from {@code start}: the norm of the difference within {@code tolerance} of that. */
    private static void assertSameWay(
            Map<String, float[]> start, Map<String, float[]> expected, Map<String, float[]> actual, double tolerance) {
        assertEquals(expected.keySet(), actual.keySet());
        expected.forEach((name, values) -> {
            double difference = 0;
            double way = 0;
            for (int i = 0; i < values.length; i++) {
                difference += Math.pow(values[i] - actual.get(name)[i], 2);
                way += Math.pow(values[i] - start.get(name)[i], 2);
            }
            assertTrue(way > 0, name + " was not trained");
            double relative = Math.sqrt(difference / way);
            assertTrue(relative <= tolerance, name + " differs by " + relative + " of its way");
        });
    }

    private static Map<String, float[]> start() {
        return tensors(GOLDEN.resolve("init").resolve("adapter_model.safetensors"));
    }

    private static void assertMetric(JsonNode expected, JsonNode actual, String name, double tolerance) {
        double value = expected.get(name).doubleValue();
        assertEquals(
                value,
                actual.get(name).doubleValue(),
                tolerance * Math.abs(value),
                name + " of step " + expected.get("step"));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2})
    void followsTrl(int loggingSteps) throws IOException {
        JsonNode golden =
                Json.read(GOLDEN.resolve("every_" + loggingSteps + ".json")).node();
        SftConfig config = config("out")
                .gradientAccumulationSteps(2)
                .numTrainEpochs(2)
                .warmupSteps(2)
                .optimizer(OptimizerOptions.adamw(0.1))
                .loggingSteps(loggingSteps)
                .build();
        List<JsonNode> lines = run(config);
        JsonNode state = Json.read(folder.resolve("out/trainer_state.json")).node();
        assertEquals(golden.get("global_step"), state.get("global_step"));
        assertEquals(golden.get("epoch"), state.get("epoch"));
        JsonNode expected = golden.get("log_history");
        JsonNode history = state.get("log_history");
        assertEquals(expected.size(), history.size());
        int logged = expected.size() - 1;
        assertEquals(logged, lines.size());
        for (int i = 0; i < logged; i++) {
            for (JsonNode actual : List.of(lines.get(i), history.get(i))) {
                assertEquals(expected.get(i).get("step"), actual.get("step"));
                assertMetric(expected.get(i), actual, "loss", 1e-4);
                assertMetric(expected.get(i), actual, "grad_norm", 1e-3);
                assertMetric(expected.get(i), actual, "learning_rate", 1e-12);
                assertMetric(expected.get(i), actual, "entropy", 1e-4);
                assertMetric(expected.get(i), actual, "num_tokens", 0);
                assertMetric(expected.get(i), actual, "mean_token_accuracy", 1e-6);
                assertMetric(expected.get(i), actual, "epoch", 1e-12);
            }
        }
        assertEquals(expected.get(logged).get("step"), history.get(logged).get("step"));
        assertMetric(expected.get(logged), history.get(logged), "train_loss", 1e-4);
        assertMetric(expected.get(logged), history.get(logged), "epoch", 1e-12);
        assertSameWay(start(), tensors(GOLDEN.resolve("final.safetensors")), adapter("out"), 1e-2);
    }

    /** From a checkpoint as TRL wrote it; its SGD has no state, so that the rest of TRL's own run is to be met. */
    @Test
    void goesOnFromTrlsCheckpointAndEvaluatesAsItDoes() throws IOException {
        Path golden = GOLDEN.resolve("evaluated");
        String held = GOLDEN.resolve("eval.parquet").toString();
        SftConfig config = config("out")
                .initAdapter(null)
                .optimizer(new OptimizerOptions(OptimizerOptions.SGD, 0.9, 0.999, 1e-8, 0))
                .learningRate(1)
                .gradientAccumulationSteps(2)
                .numTrainEpochs(2)
                .saving(new SaveOptions(
                        SaveOptions.Strategy.NO,
                        500,
                        0,
                        golden.resolve("checkpoint-2").toString()))
                .evaluation(new EvalOptions(EvalOptions.Strategy.STEPS, held, "test", 2, 2, false, "", null, 0, 0))
                .build();
        run(config);
        JsonNode expected = Json.read(golden.resolve("log_history.json")).node();
        JsonNode actual = Json.read(folder.resolve("out/trainer_state.json"))
                .get("log_history")
                .node();
        assertEquals(expected.size(), actual.size());
        int evaluations = 0;
        for (int i = 0; i < expected.size() - 1; i++) {
            String prefix = expected.get(i).has("eval_loss") ? "eval_" : "";
            evaluations += prefix.isEmpty() ? 0 : 1;
            assertEquals(expected.get(i).get("step"), actual.get(i).get("step"));
            assertMetric(expected.get(i), actual.get(i), prefix + "loss", 1e-4);
            assertMetric(expected.get(i), actual.get(i), prefix + "entropy", 1e-4);
            assertMetric(expected.get(i), actual.get(i), prefix + "mean_token_accuracy", 1e-6);
            assertMetric(expected.get(i), actual.get(i), prefix + "num_tokens", 0);
            assertMetric(expected.get(i), actual.get(i), "epoch", 1e-12);
            if (prefix.isEmpty()) {
                assertMetric(expected.get(i), actual.get(i), "grad_norm", 1e-3);
                assertMetric(expected.get(i), actual.get(i), "learning_rate", 1e-12);
            }
        }
        assertEquals(3, evaluations);
    }

    @Test
    void microBatchesAddUpToTheBatch() throws IOException {
        double[] whole = losses(
                run(config("whole").perDeviceTrainBatchSize(4).maxSteps(2).build()));
        double[] halves = losses(
                run(config("halves").gradientAccumulationSteps(2).maxSteps(2).build()));
        assertArrayEquals(whole, halves, 1e-5 * whole[0]);
        assertSameWay(start(), adapter("whole"), adapter("halves"), 1e-2);
    }

    /** Whoever asks the adapter shows pictures as the run did; where that is what the model's file says, it is copied. */
    @Test
    void theAdaptersFolderSaysHowPicturesWereShown() throws IOException {
        String file = "preprocessor_config.json";
        run(config("whole").maxSteps(1).build());
        assertEquals(
                -1, Files.mismatch(MODEL.resolve(file), folder.resolve("whole").resolve(file)));
        run(config("cut")
                .maxSteps(1)
                .data(new DataOptions(
                        DataOptions.DEFAULT.forms(), LossOn.DEFAULT, 0, LengthLimit.Overlong.ERROR, false, true))
                .saving(new SaveOptions(SaveOptions.Strategy.STEPS, 1, 0, ""))
                .build());
        PanAndScanSettings cut = new PanAndScanSettings(true, PanAndScan.DEFAULT);
        assertEquals(cut, PanAndScanSettings.find(folder.resolve("cut")).orElseThrow());
        assertEquals(
                cut, PanAndScanSettings.find(folder.resolve("cut/checkpoint-1")).orElseThrow());
    }

    @Test
    void theSeedDecidesEveryByte() throws IOException {
        for (String output : List.of("first", "again", "other")) {
            run(config(output)
                    .initAdapter(null)
                    .loraR(4)
                    .loraDropout(0.3)
                    .seed(output.equals("other") ? 8 : 7)
                    .maxSteps(2)
                    .build());
        }
        assertArrayEquals(bytes("first"), bytes("again"));
        assertFalse(Arrays.equals(bytes("first"), bytes("other")));
    }

    /** At learning rate 0 two equal rows differ by their dropout only. */
    @Test
    void everyMicroBatchDropsOutAnew() throws IOException {
        String row = "{\"messages\":[{\"role\":\"user\",\"content\":\"Count the shapes.\"},"
                + "{\"role\":\"assistant\",\"content\":\"One blue square.\"}]}\n";
        String data = Files.writeString(folder.resolve("rows.jsonl"), row + row).toString();
        SftConfig.Builder single = config(MODEL, data, "single")
                .profile(Profile.DEFAULT)
                .learningRate(0)
                .loraDropout(0.5)
                .perDeviceTrainBatchSize(1);
        double[] apart = losses(run(single.maxSteps(4).build()));
        assertEquals(4, Arrays.stream(apart).distinct().count(), Arrays.toString(apart));
        SftConfig.Builder pair = config(MODEL, data, "pair")
                .profile(Profile.DEFAULT)
                .learningRate(0)
                .loraDropout(0.5)
                .perDeviceTrainBatchSize(1)
                .gradientAccumulationSteps(2);
        double[] together = losses(run(pair.maxSteps(2).build()));
        assertArrayEquals(
                new double[] {(apart[0] + apart[1]) / 2, (apart[2] + apart[3]) / 2}, together, 1e-6 * apart[0]);
    }

    @Test
    void checkpointingSavesMemoryAndChangesNoLoss() throws IOException {
        List<double[]> losses = new ArrayList<>();
        List<Long> peaks = new ArrayList<>();
        for (boolean on : new boolean[] {true, false}) {
            try (Device fresh = CpuDevice.open()) {
                SftConfig config = config("checkpointing-" + on)
                        .gradientCheckpointing(on)
                        .perDeviceTrainBatchSize(4)
                        .maxSteps(2)
                        .build();
                new Sft(config, fresh, TrainingListener.SILENT).run();
                peaks.add(fresh.pool().peak());
            }
            List<JsonNode> lines = new ArrayList<>();
            for (String line : Files.readAllLines(folder.resolve("checkpointing-" + on + "/metrics.jsonl"))) {
                lines.add(new ObjectMapper().readTree(line));
            }
            losses.add(losses(lines));
        }
        assertArrayEquals(losses.get(0), losses.get(1));
        assertTrue(peaks.get(0) < 0.75 * peaks.get(1), "peak with and without checkpointing: " + peaks);
    }

    /** The demo's model with a NaN in the last norm. */
    private Path broken() throws IOException {
        Path broken = Files.createDirectory(folder.resolve("broken"));
        try (Stream<Path> files = Files.list(MODEL)) {
            for (Path file : files.toList()) {
                if (!file.getFileName().toString().startsWith("model")) {
                    Files.copy(file, broken.resolve(file.getFileName().toString()));
                }
            }
        }
        try (Checkpoint checkpoint = Checkpoint.open(MODEL)) {
            List<SafetensorsWriter.Item> items = new ArrayList<>();
            for (String name : checkpoint.names()) {
                TensorEntry entry = checkpoint.entry(name);
                byte[] data = entry.data().toArray(ValueLayout.JAVA_BYTE);
                if (name.endsWith("language_model.norm.weight") || name.endsWith("language_model.model.norm.weight")) {
                    data[0] = (byte) 0xC0;
                    data[1] = 0x7F;
                }
                items.add(SafetensorsWriter.Item.of(
                        name, entry.dtype(), entry.shape(), java.lang.foreign.MemorySegment.ofArray(data)));
            }
            SafetensorsWriter.write(broken.resolve("model.safetensors"), Map.of("format", "pt"), items);
        }
        return broken;
    }

    @Test
    void aLossThatIsNotFiniteStopsTheRunNamingStepAndRows() throws IOException {
        SftConfig config = config(broken(), ROWS, "out").maxSteps(3).build();
        TrainingException e =
                assertThrows(TrainingException.class, () -> new Sft(config, device, TrainingListener.SILENT).run());
        assertTrue(e.getMessage().startsWith("step 1: loss is NaN"), e.getMessage());
        assertTrue(e.getMessage().contains("rows.parquet"), e.getMessage());
        assertFalse(Files.exists(folder.resolve("out")), "nothing is written");
    }

    /** Without epsilon AdamW divides 0 by 0: a fresh adapter's A has no gradient in the first step. */
    @Test
    void weightsThatAreNotFiniteAreNotSaved() {
        SftConfig config = config("out")
                .initAdapter(null)
                .optimizer(new OptimizerOptions(OptimizerOptions.ADAMW, 0.9, 0.999, 0, 0))
                .maxSteps(1)
                .build();
        TrainingException e =
                assertThrows(TrainingException.class, () -> new Sft(config, device, TrainingListener.SILENT).run());
        assertTrue(e.getMessage().contains("lora_A.weight holds values that are not finite"), e.getMessage());
        assertFalse(Files.exists(folder.resolve("out/adapter_model.safetensors")));
    }

    private static List<String> dtypes(Path file) {
        try (Safetensors opened = Safetensors.open(file)) {
            return opened.names().stream()
                    .map(name -> (name.contains(".lora_") ? "lora " : "table ")
                            + opened.entry(name).dtype())
                    .distinct()
                    .sorted()
                    .toList();
        }
    }

    /** PEFT casts factors beside 4-bit matrices to the compute type; by default they are F32 masters. */
    @ParameterizedTest
    @ValueSource(strings = {"TRL", "DEFAULT"})
    void theProfileDecidesTheAdaptersType(Profile profile) throws IOException {
        run(config("out")
                .profile(profile)
                .dtype(DType.BF16)
                .loadIn4bit(true)
                .maxSteps(1)
                .build());
        String factors = profile == Profile.TRL ? "BF16" : "F32";
        assertTrue(
                dtypes(folder.resolve("out/adapter_model.safetensors")).contains("lora " + factors),
                dtypes(folder.resolve("out/adapter_model.safetensors")).toString());
    }

    /** Steps below half a unit in the last place of a BF16 table: TRL loses them, a master adds them up. */
    @Test
    void onlyTrlLosesSmallSteps() throws IOException {
        List<Integer> moved = new ArrayList<>();
        for (Profile profile : List.of(Profile.TRL, Profile.DEFAULT)) {
            run(config(profile.toString())
                    .profile(profile)
                    .dtype(DType.BF16)
                    .learningRate(2e-5)
                    .lrSchedulerType("constant")
                    .maxSteps(8)
                    .build());
            moved.add(moved(folder.resolve(profile.toString()).resolve("adapter_model.safetensors")));
        }
        assertNotEquals(0, moved.get(1));
        assertTrue(moved.get(0) < 0.7 * moved.get(1), "moved under TRL and by default: " + moved);
    }

    /** How many values of the head are not the initial adapter's. */
    private static int moved(Path file) {
        String name = "base_model.model.lm_head.weight";
        float[] start = start().get(name);
        int moved = 0;
        try (Safetensors opened = Safetensors.open(file)) {
            TensorEntry entry = opened.entry(name);
            assertEquals("BF16", entry.dtype());
            for (int i = 0; i < start.length; i++) {
                int bits = entry.data().getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i) << 16;
                moved += Float.intBitsToFloat(bits) == start[i] ? 0 : 1;
            }
        }
        return moved;
    }
}
