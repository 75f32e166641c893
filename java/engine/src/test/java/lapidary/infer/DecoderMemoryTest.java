package lapidary.infer;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicInteger;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.LimitedDevice;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What answers take of the system's memory, which is dearer than the pool's. */
final class DecoderMemoryTest {
    private static final GenerationOptions GREEDY = GenerationOptions.GREEDY;
    private static final long VOCABULARY = 768; // of the demo's model

    @TempDir
    private Path folder;

    /** On a large vocabulary the pool would give a block as long back to the system and ask for it again with each token. */
    @Test
    void logitsAreHeldFromTokenToToken() {
        AtomicInteger asked = new AtomicInteger();
        LoadOptions options = LoadOptions.DEFAULT.withDtype(DType.F32).withKeptBytes(0);
        try (Device device = LimitedDevice.watching(VOCABULARY * Float.BYTES, asked);
                LanguageModel model = LanguageModel.load(DemoModel.endless(folder), options, device)) {
            model.generate("Go on", GREEDY.withMaxNewTokens(10)).answer();
            int ten = asked.getAndSet(0);
            model.generate("Go on", GREEDY.withMaxNewTokens(40)).answer();
            assertTrue(asked.get() <= ten, ten + " times for 10 tokens, " + asked.get() + " for 40");
        }
    }
}
