package lapidary.nn;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What PEFT's names and expressions select; the expected values are those of {@code re.fullmatch} and {@code endswith}. */
final class LoraSpecTest {
    private static final List<String> MODULES = List.of(
            "model.language_model.layers.0.self_attn.q_proj",
            "model.language_model.layers.10.mlp.up_proj",
            "model.vision_tower.encoder.layers.0.self_attn.q_proj");

    private static LoraSpec spec(String... targets) {
        return new LoraSpec(2, 4, 0, List.of(targets), List.of());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '@',
            value = {
                "all-linear@0 1 2",
                "q_proj@0 2",
                "self_attn.q_proj@0 2",
                "proj@",
                "layers.0@",
                ".*language_model.*\\.(q|k|v|up)_proj@0 1",
                "(?!.*vision_tower).*proj@0 1",
                "(q|up)_proj@",
                "model\\.language_model\\.layers\\.\\d\\.self_attn\\..*@0",
                ".*@0 1 2"
            })
    void selectsWhatPeftDoes(String target, String expected) {
        List<String> selected = MODULES.stream().filter(spec(target)::targets).toList();
        List<String> numbers = expected == null ? List.of() : Arrays.asList(expected.split(" "));
        assertEquals(numbers.stream().map(n -> MODULES.get(Integer.parseInt(n))).toList(), selected);
    }

    @Test
    void oneOfSeveralIsAName() {
        assertTrue(MODULES.stream().noneMatch(spec(".*q_proj", ".*up_proj")::targets));
    }

    @Test
    void aPatternIsNamedAsItWasWritten() {
        LoraPatterns patterns = new LoraPatterns(false, Map.of(), Map.of("(.*.*.*.*.*.*.*.*)*x", 1.0));
        LoraSpec spec = new LoraSpec(2, 4, 0, List.of("all-linear"), List.of(), patterns);
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> spec.scaling(MODULES.get(0)));
        assertTrue(e.getMessage().startsWith("alpha_pattern has (.*.*.*.*.*.*.*.*)*x, which takes"), e.getMessage());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '@',
            value = {"(q_proj@is no regular expression", "(.*.*.*.*.*.*.*.*)*x@takes too long to match"})
    void whatIsNoExpressionIsRefused(String target, String reason) {
        LoraSpec spec = spec(target);
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> spec.targets(MODULES.get(0)));
        assertTrue(
                e.getMessage().startsWith("lora_target_modules has " + target + ", which " + reason), e.getMessage());
    }
}
