package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import lapidary.device.CpuDevice;
import lapidary.device.Device;
import lapidary.device.LimitedDevice;
import lapidary.device.OutOfMemoryException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a run says where its device's memory is exhausted. */
class MemoryAdviceTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");

    @TempDir
    Path dir;

    private SftConfig config(EvalOptions evaluation, String output) throws IOException {
        String row = "{\"prompt\": \"what shape\", \"completion\": \"square\"}\n";
        Path rows = Files.writeString(dir.resolve("rows.jsonl"), row);
        Files.writeString(dir.resolve("held.jsonl"), row.repeat(256));
        return SftConfig.builder(MODEL, rows.toString(), dir.resolve(output))
                .perDeviceTrainBatchSize(1)
                .maxSteps(1)
                .loraTargetModules(List.of("q_proj"))
                .evaluation(evaluation)
                .build();
    }

    private EvalOptions of(int batchSize) {
        String held = dir.resolve("held.jsonl").toString();
        return new EvalOptions(EvalOptions.Strategy.EPOCH, held, "test", 0, batchSize, false, "", null, 0, 0);
    }

    @Test
    void anEvaluationThatDoesNotFitNamesItsOwnBatch() throws IOException {
        long enough;
        try (Device device = CpuDevice.open()) {
            new Sft(config(of(1), "fits"), device, TrainingListener.SILENT).run();
            enough = device.pool().peak() * 3 / 2; // blocks are rounded up, and some are kept
        }
        try (Device device = LimitedDevice.open(enough)) {
            SftConfig config = config(of(256), "out");
            String message = assertThrows(
                            TrainingException.class, () -> new Sft(config, device, TrainingListener.SILENT).run())
                    .getMessage();
            assertTrue(message.startsWith("out of memory: "), message);
            assertTrue(
                    message.endsWith(
                            ". Evaluation takes 256 held-out rows at a time: use --per_device_eval_batch_size 128"
                                    + " or less"),
                    message);
        }
        try (Device device = LimitedDevice.open(enough)) {
            new Sft(config(of(1), "again"), device, TrainingListener.SILENT).run();
        }
    }

    /** Which the kernel does not say the size of. */
    @Test
    void aKernelsOwnWantIsNoStepThatNeedsWhatItHas() throws IOException {
        SftConfig config = config(of(1), "out");
        OutOfMemoryException want = new OutOfMemoryException("[op] on cpu: no memory", 0, 300 << 20, null);
        String message = MemoryAdvice.whileTraining(want, config, 200 << 20, NewRun.NOT_NEEDED)
                .getMessage();
        assertTrue(message.contains(", a step of 1 rows more than the 100 MiB beside them"), message);
    }

    /** What Identity refuses of a run with a checkpoint is advised for a new one alone. */
    @Test
    void onceThereIsACheckpointOtherOptionsAreForANewRun() throws IOException {
        NewRun from = new NewRun(Path.of("checkpoint-2"));
        OutOfMemoryException want = new OutOfMemoryException("[op] on cpu: no memory", 8 << 20, 300 << 20, null);
        String anew = "a new run in another --output_dir, as this one's checkpoints keep their options, with"
                + " --init_adapter checkpoint-2 --";
        SftConfig one = config(of(1), "out");
        for (String message : List.of(
                MemoryAdvice.whileLoading(want, one, from).getMessage(),
                MemoryAdvice.whileTraining(want, one, 200 << 20, from).getMessage(),
                MemoryAdvice.whileEvaluating(want, one, from).getMessage())) {
            assertTrue(message.contains(": try " + anew + "load_in_4bit, or --optim adamw_8bit"), message);
            assertTrue(message.endsWith("adamw_8bit"), message); // --lora_r is the adapter's
        }
        SftConfig four = SftConfig.builder(MODEL, "rows.jsonl", dir.resolve("four"))
                .perDeviceTrainBatchSize(4)
                .gradientCheckpointing(false)
                .build();
        String message = MemoryAdvice.whileTraining(want, four, 200 << 20, from).getMessage();
        assertTrue(
                message.contains(": use --gradient_checkpointing true, or " + anew + "per_device_train_batch_size 2"),
                message);
        message = MemoryAdvice.whileEvaluating(want, config(of(8), "out"), from).getMessage();
        assertTrue(message.endsWith(": use --per_device_eval_batch_size 4 or less"), message);
    }
}
