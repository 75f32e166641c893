package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.DryDevice;
import lapidary.train.MemoryEstimate.Row;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a run is told of its memory before its first step, and what it is advised to change. */
final class MemoryForecastTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");
    private static final Row ROW = new Row(400, 1);
    private static final int VOCABULARY = 200;

    @TempDir
    private Path folder;

    private SftConfig.Builder config(int batch) {
        return SftConfig.builder(MODEL, "rows.jsonl", folder.resolve("out"))
                .dtype(DType.F32)
                .loraModulesToSave(List.of("lm_head", "embed_tokens"))
                .perDeviceTrainBatchSize(batch)
                .gradientAccumulationSteps(2);
    }

    private static MemoryOutlook outlook(SftConfig config, long memory) {
        return outlook(config, memory, HeldOut.NONE);
    }

    private static MemoryOutlook outlook(SftConfig config, long memory, HeldOut heldOut) {
        return outlook(config, memory, heldOut, NewRun.NOT_NEEDED);
    }

    private static MemoryOutlook outlook(SftConfig config, long memory, HeldOut heldOut, NewRun newRun) {
        try (Device device = CpuDevice.open();
                MemoryForecast forecast =
                        new MemoryForecast(config, LoraChoice.of(config, null), device, newRun, memory)) {
            return forecast.of(Collections.nCopies(config.perDeviceTrainBatchSize(), ROW), VOCABULARY, heldOut);
        }
    }

    @Test
    void aRunThatFitsIsOnlyTold() {
        MemoryOutlook outlook = outlook(config(4).build(), Long.MAX_VALUE);
        assertTrue(outlook.fits());
        assertEquals("", outlook.advice());
        assertEquals(4, outlook.rows());
        assertEquals(1600, outlook.tokens());
        assertEquals(4, outlook.views());
    }

    /** A run of other accumulation is estimated as if it had been asked for: gradients and pictures hang on it. */
    @Test
    void anotherNumberOfMicroBatchesIsEstimatedAsThatRun() {
        List<Row> rows = Collections.nCopies(2, ROW);
        SftConfig run = config(2).build();
        SftConfig other = config(2).gradientAccumulationSteps(12).build();
        try (Device device = CpuDevice.open();
                DryDevice place = DryDevice.inPlaceOf(device);
                MemoryEstimate here = MemoryEstimate.of(run, place);
                DryDevice elsewhere = DryDevice.inPlaceOf(device);
                MemoryEstimate there = MemoryEstimate.of(other, elsewhere)) {
            MemoryNeed expected = there.of(rows, VOCABULARY);
            MemoryNeed actual = here.of(rows, VOCABULARY, 12);
            assertEquals(expected.gradients(), actual.gradients());
            assertEquals(expected.pictures(), actual.pictures());
            assertTrue(here.of(rows, VOCABULARY).pictures() < actual.pictures());
        }
    }

    /** What is advised is forecast to fit, and a batch one size up is not. */
    @Test
    void aSmallerBatchWithMoreGroupsTrainsTheSame() {
        SftConfig run = config(12).build();
        long two = outlook(config(2).gradientAccumulationSteps(12).build(), Long.MAX_VALUE)
                .takes();
        long three = outlook(config(3).gradientAccumulationSteps(8).build(), Long.MAX_VALUE)
                .takes();
        assertTrue(two < three);
        MemoryOutlook outlook = outlook(run, (two + three) / 2);
        assertFalse(outlook.fits());
        assertTrue(
                outlook.advice().startsWith("--per_device_train_batch_size 2 --gradient_accumulation_steps 12 (about "),
                outlook.advice());
    }

    @Test
    void whatCostsNothingComesBeforeWhatCostsTimeAndThatBeforePrecision() {
        SftConfig.Builder run = config(1).gradientCheckpointing(false);
        long checkpointed =
                outlook(run.gradientCheckpointing(true).build(), Long.MAX_VALUE).takes();
        SftConfig plain = run.gradientCheckpointing(false).build();
        assertTrue(outlook(plain, checkpointed).advice().startsWith("--gradient_checkpointing true (about "));
        String more = outlook(plain, checkpointed - checkpointed / 50).advice();
        assertTrue(more.startsWith("--gradient_checkpointing true --optim adamw_8bit"), more);
    }

    /** A held-out batch that is larger than a step is what the run takes, and a smaller one of those is advised. */
    @Test
    void anEvaluationThatTakesMoreThanAStepIsForecast() {
        int[] tokens = new int[64];
        Arrays.fill(tokens, 400);
        HeldOut heldOut = new HeldOut(tokens, new int[64]);
        long without = outlook(evaluated(64), Long.MAX_VALUE).takes();
        long all = outlook(evaluated(64), Long.MAX_VALUE, heldOut).takes();
        long half = outlook(evaluated(32), Long.MAX_VALUE, heldOut).takes();
        assertTrue(without < half && half < all, without + " " + half + " " + all);
        MemoryOutlook outlook = outlook(evaluated(64), (half + all) / 2, heldOut);
        assertFalse(outlook.fits());
        assertTrue(outlook.advice().startsWith("--per_device_eval_batch_size 32 (about "), outlook.advice());
    }

    /** What is forecast of an evaluation is what one takes: here nothing else takes as much. */
    @Test
    void theForecastOfAnEvaluationIsWhatOneTakes() throws IOException {
        String row = "{\"prompt\": \"what shape\", \"completion\": \"square\"}\n";
        Path rows = Files.writeString(folder.resolve("rows.jsonl"), row);
        Path held = Files.writeString(folder.resolve("held.jsonl"), row.repeat(256));
        EvalOptions evaluation =
                new EvalOptions(EvalOptions.Strategy.EPOCH, held.toString(), "test", 0, 256, false, "", null, 0, 0);
        SftConfig run = SftConfig.builder(MODEL, rows.toString(), folder.resolve("out"))
                .perDeviceTrainBatchSize(1)
                .maxSteps(1)
                .loraTargetModules(List.of("q_proj"))
                .evaluation(evaluation)
                .build();
        MemoryOutlook[] told = new MemoryOutlook[1];
        try (Device device = CpuDevice.open()) {
            new Sft(run, device, new TrainingListener() {
                        @Override
                        public void onMemory(MemoryOutlook outlook) {
                            told[0] = outlook;
                        }
                    })
                    .run();
            long forecast = told[0].need().device();
            assertTrue(told[0].inEvaluation());
            assertEquals(256, told[0].rows());
            // A tenth, as MemoryEstimateTest has it for steps.
            long peak = device.pool().peak() + told[0].need().weights(); // some weights are in the mapped files
            assertTrue(
                    forecast > 0.9 * device.pool().peak() && forecast < 1.1 * peak,
                    forecast + " " + device.pool().peak());
        }
    }

    @Test
    void theWorstHeldOutBatchIsOneThatIsMade() {
        HeldOut heldOut = new HeldOut(new int[] {9, 1, 8, 8, 5}, new int[] {0, 0, 0, 0, 1});
        assertEquals(List.of(List.of(new Row(5, 1)), List.of(new Row(8, 0), new Row(8, 0))), heldOut.worst(2));
        assertEquals(5, heldOut.worst(Integer.MAX_VALUE).get(0).size());
        heldOut = new HeldOut(new int[] {9, 1, 8, 8, 5}, new int[5]);
        assertEquals(List.of(List.of(new Row(8, 0), new Row(8, 0))), heldOut.worst(2));
        assertEquals(List.of(), HeldOut.NONE.worst(8));
    }

    private SftConfig evaluated(int atATime) {
        return config(1)
                .evaluation(new EvalOptions(
                        EvalOptions.Strategy.EPOCH, "held.jsonl", "test", 0, atATime, false, "", null, 0, 0))
                .build();
    }

    /** A checkpoint is of its batch, optimiser and precision: other ones would be refused, so they are for a new run. */
    @Test
    void aRunThatIsGoneOnWithIsNotToldToUseWhatIsRefused() {
        NewRun from = new NewRun(Path.of("out", "checkpoint-3"));
        String anew =
                "a new run in another --output_dir, as this one's checkpoints keep their options, with --init_adapter "
                        + Path.of("out", "checkpoint-3") + " ";
        SftConfig.Builder run = config(2).gradientCheckpointing(false);
        long checkpointed =
                outlook(run.gradientCheckpointing(true).build(), Long.MAX_VALUE).takes();
        SftConfig plain = run.gradientCheckpointing(false).build();
        String fits = outlook(plain, checkpointed, HeldOut.NONE, from).advice();
        assertTrue(fits.startsWith("--gradient_checkpointing true (about "), fits);
        String smaller = outlook(plain, checkpointed - checkpointed / 100, HeldOut.NONE, from)
                .advice();
        assertTrue(
                smaller.startsWith(anew + "--gradient_checkpointing true --per_device_train_batch_size 1 "), smaller);
        SftConfig already = run.gradientCheckpointing(true).build();
        String least = outlook(already, checkpointed - checkpointed / 100, HeldOut.NONE, from)
                .advice();
        assertTrue(least.startsWith(anew + "--per_device_train_batch_size 1 "), least);
    }

    @Test
    void whereNothingFitsNothingIsAdvised() {
        MemoryOutlook outlook = outlook(config(2).build(), 1 << 20);
        assertFalse(outlook.fits());
        assertEquals("", outlook.advice());
    }

    /** Told before the model is loaded, with options that make model and optimiser fit. */
    @Test
    void aModelThatIsTooLargeAloneIsToldBeforeItIsLoaded() {
        SftConfig run = config(2).build();
        try (Device device = CpuDevice.open()) {
            LoraChoice lora = LoraChoice.of(run, null);
            try (MemoryForecast forecast = new MemoryForecast(run, lora, device, NewRun.NOT_NEEDED, Long.MAX_VALUE)) {
                assertTrue(forecast.tooLarge().isEmpty());
            }
            try (MemoryForecast forecast =
                    new MemoryForecast(run, lora, device, NewRun.NOT_NEEDED, MemoryEstimate.PROGRAM + (6 << 20))) {
                MemoryOutlook outlook = forecast.tooLarge().orElseThrow();
                Matcher advice = Pattern.compile("--optim adamw_8bit( --dtype bfloat16)?( --load_in_4bit)?")
                        .matcher(outlook.advice());
                assertTrue(advice.matches(), outlook.toString());
                assertEquals(0, outlook.rows());
            }
        }
    }
}
