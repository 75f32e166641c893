package lapidary.infer;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.LimitedDevice;
import lapidary.gemma3.Message;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A request that the device has no memory for takes no other along. */
final class OutOfMemoryTest {
    /**
     * What the global layer keeps of 4096 tokens, 2 heads of 32 floats each, is a block of 1 MiB, of one more 2 MiB. What a
     * piece of 512 tokens takes, next to that many before it, is less than 1.5 MiB at once, and so is each weight.
     */
    private static final long LARGEST = 3 << 19;

    private static final GenerationOptions GREEDY = GenerationOptions.GREEDY.withMaxNewTokens(60);

    @TempDir
    private Path folder;

    /** While its prompt is read, and while its answer is made. */
    @ParameterizedTest
    @ValueSource(ints = {4600, 4090})
    void theOneThatIsTooLongFailsAlone(int tokens) {
        try (Device device = LimitedDevice.ofBlocks(LARGEST);
                LanguageModel model = LanguageModel.load(
                        DemoModel.endless(folder), LoadOptions.DEFAULT.withDtype(DType.F32), device)) {
            List<Integer> alone = model.generate("Go on", GREEDY).answer().tokenIds();
            assertEquals(60, alone.size());
            Generation tooLong = model.generate(question(model, tokens), GREEDY);
            Generation other = model.generate("Go on", GREEDY);
            assertEquals(alone, other.answer().tokenIds());
            InferenceException failure = assertThrows(InferenceException.class, tooLong::answer);
            assertTrue(failure.getMessage().contains("memory"), failure.getMessage());
            assertEquals(alone, model.generate("Go on", GREEDY).answer().tokenIds());
        }
    }

    private static String question(LanguageModel model, int tokens) {
        int others = model.countTokens(List.of(Message.of("user", "7"))) - 1;
        String question = "7".repeat(tokens - others);
        assertEquals(tokens, model.countTokens(List.of(Message.of("user", question))));
        return question;
    }
}
