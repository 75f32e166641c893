package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import lapidary.train.MemoryNeed;
import lapidary.train.MemoryOutlook;
import org.junit.jupiter.api.Test;

/** What train says of its memory before its first step. */
final class MemoryTextTest {
    private static final long GIB = 1L << 30;
    private static final MemoryNeed NEED =
            new MemoryNeed(3 * GIB, GIB, 2 * GIB, GIB, 4 * GIB, 0, 4 * GIB, GIB / 2, GIB / 2);

    @Test
    void aRunThatFitsHasOneLine() {
        assertEquals(
                "Memory: about 12.00 GiB for the longest rows, 2 with 1,200 tokens and 2 pictures; this machine has 32.00 GiB"
                        + " (weights 3.00 GiB, adapters and saved tables 1.00 GiB, optimiser 2.00 GiB, gradients 1.00 GiB,"
                        + " activations 4.00 GiB (no logits are held), decoded pictures 0.50 GiB, Java and libraries 0.50 GiB)",
                MemoryText.line(new MemoryOutlook(NEED, 12 * GIB, 32 * GIB, true, false, 2, 1200, 2, "")));
    }

    @Test
    void oneThatDoesNotHasAWarningAndWhatFits() {
        assertEquals(
                "Memory: about 11.50 GiB for the longest rows, 8 with 4,800 tokens, but this GPU has 8.00 GiB"
                        + " (weights 3.00 GiB, adapters and saved tables 1.00 GiB, optimiser 2.00 GiB, gradients 1.00 GiB,"
                        + " activations 4.00 GiB (no logits are held), libraries 0.50 GiB; on the host decoded pictures"
                        + " 0.50 GiB)" + System.lineSeparator()
                        + "Warning: this run will most likely end for want of memory; use --per_device_train_batch_size 2"
                        + " --gradient_accumulation_steps 4 (about 7.10 GiB)",
                MemoryText.line(new MemoryOutlook(
                        NEED,
                        12 * GIB - GIB / 2,
                        8 * GIB,
                        false,
                        false,
                        8,
                        4800,
                        0,
                        "--per_device_train_batch_size 2 --gradient_accumulation_steps 4 (about 7.10 GiB)")));
    }

    @Test
    void anEvaluationThatTakesMostIsNamed() {
        String line = MemoryText.line(new MemoryOutlook(NEED, 12 * GIB, 32 * GIB, true, true, 8, 4800, 0, ""));
        assertTrue(
                line.startsWith(
                        "Memory: about 12.00 GiB while the longest held-out rows are evaluated, 8 with 4,800 tokens;"),
                line);
    }

    @Test
    void aModelThatIsTooLargeAloneIsSaidToBe() {
        assertEquals(
                "Memory: the model and what is trained take about 6.50 GiB alone, but this machine has 4.00 GiB"
                        + System.lineSeparator()
                        + "Warning: this run will most likely end for want of memory; smaller batches, gradient"
                        + " checkpointing, adamw_8bit and load_in_4bit do not make it fit: it takes fewer"
                        + " --lora_modules_to_save, a smaller --lora_r, a lower --max_length or a smaller model",
                MemoryText.line(new MemoryOutlook(NEED, 6 * GIB + GIB / 2, 4 * GIB, true, false, 0, 0, 0, "")));
    }
}
