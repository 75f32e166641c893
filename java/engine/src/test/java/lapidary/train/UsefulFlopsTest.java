package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import java.util.Arrays;
import lapidary.format.Checkpoint;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Gemma3Config;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Against what a checkpoint's files hold. */
final class UsefulFlopsTest {
    @ParameterizedTest
    @ValueSource(
            strings = {
                "src/main/resources/lapidary/demo/base",
                "src/test/resources/golden/multimodal",
                "src/test/resources/golden/text"
            })
    void isFourAWeightOfTheFiles(String folder) {
        Gemma3Config config = Gemma3.readConfig(Path.of(folder));
        double text = 0;
        double picture = 0;
        try (Checkpoint checkpoint = Checkpoint.open(Path.of(folder))) {
            for (String name : checkpoint.names()) {
                long[] shape = checkpoint.entry(name).shape();
                double weights = Arrays.stream(shape).asDoubleStream().reduce(1, (a, b) -> a * b);
                if (shape.length < 2 || name.contains("position_embedding")) {
                    continue;
                }
                if (name.contains("vision_tower")) {
                    picture += weights * Math.pow(config.vision().side(), 2);
                } else if (name.contains("projector")) {
                    picture += weights * config.mmTokensPerImage();
                } else if (!(name.endsWith("embed_tokens.weight") && hasHead(checkpoint))) {
                    text += weights;
                }
            }
        }
        assertEquals(new UsefulFlops(4 * text, 4 * picture), UsefulFlops.of(config));
    }

    private static boolean hasHead(Checkpoint checkpoint) {
        return checkpoint.names().stream().anyMatch(name -> name.endsWith("lm_head.weight"));
    }
}
