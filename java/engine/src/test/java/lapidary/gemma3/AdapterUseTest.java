package lapidary.gemma3;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.Map;
import lapidary.nn.LoraPatterns;
import lapidary.nn.LoraSpec;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class AdapterUseTest {
    private static final String TEXT = "model.language_model.layers.0.self_attn.q_proj";
    private static final String VISION = "model.vision_tower.encoder.layers.0.self_attn.q_proj";

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "16|false|''|false|loads it with --enable-lora",
                "17|false|''|false|loads it with --enable-lora --max-lora-rank 32",
                "64|true|''|false|loads it with --enable-lora --max-lora-rank 64 --enable-tower-connector-lora (without it"
                        + " the vision tower's part is left out in silence)",
                "8|true|lm_head|false|does not load it: it trained lm_head whole (modules_to_save); engine merge writes a"
                        + " checkpoint that it loads",
                "1024|false|''|true|does not load it: its layers differ in rank or alpha (rank_pattern, alpha_pattern); its"
                        + " rank is 1024, more than 512; engine merge writes a checkpoint that it loads",
            })
    void vllmLoadsWhatItCanCompute(int r, boolean vision, String saved, boolean patterns, String said) {
        LoraSpec spec = new LoraSpec(
                r,
                8,
                0,
                List.of("q_proj"),
                saved.isEmpty() ? List.of() : List.of(saved),
                patterns ? new LoraPatterns(false, Map.of(), Map.of("q_proj", 3.0)) : LoraPatterns.NONE);
        AdapterUse use = AdapterUse.of(spec, vision ? List.of(TEXT, VISION) : List.of(TEXT));
        assertEquals(said, use.vllm());
        assertEquals("The adapter loads in PEFT as it is; vLLM " + said, use.line());
    }
}
