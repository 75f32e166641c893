package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
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
        try (Device device = CpuDevice.open();
                MemoryForecast forecast = new MemoryForecast(config, LoraChoice.of(config, null), device, memory)) {
            return forecast.of(Collections.nCopies(config.perDeviceTrainBatchSize(), ROW), VOCABULARY);
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
            try (MemoryForecast forecast = new MemoryForecast(run, lora, device, Long.MAX_VALUE)) {
                assertTrue(forecast.tooLarge().isEmpty());
            }
            try (MemoryForecast forecast = new MemoryForecast(run, lora, device, MemoryEstimate.PROGRAM + (6 << 20))) {
                MemoryOutlook outlook = forecast.tooLarge().orElseThrow();
                Matcher advice = Pattern.compile("--optim adamw_8bit( --dtype bfloat16)?( --load_in_4bit)?")
                        .matcher(outlook.advice());
                assertTrue(advice.matches(), outlook.toString());
                assertEquals(0, outlook.rows());
            }
        }
    }
}
