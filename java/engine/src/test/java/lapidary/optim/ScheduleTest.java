package lapidary.optim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import lapidary.format.Json;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class ScheduleTest {
    private static final Path GOLDEN = Path.of("src/test/resources/lapidary/optim/schedules.json");

    private static Map<String, Object> arguments(JsonNode node) {
        Map<String, Object> arguments = new HashMap<>();
        node.properties()
                .forEach(e -> arguments.put(
                        e.getKey(),
                        e.getValue().isTextual()
                                ? e.getValue().textValue()
                                : e.getValue().numberValue()));
        return arguments;
    }

    /** Every name, warm-up and step of the golden file; cosines and powers may differ in their last bits. */
    @Test
    void everyStepIsTransformers() {
        JsonNode golden = Json.read(GOLDEN).node();
        double peak = golden.path("peak").doubleValue();
        Set<String> seen = new TreeSet<>();
        for (JsonNode c : golden.path("cases")) {
            String type = c.path("type").textValue();
            seen.add(type);
            Schedule schedule = Schedule.of(
                    type,
                    peak,
                    c.path("warmup").doubleValue(),
                    c.path("total").intValue(),
                    arguments(c.path("kwargs")));
            for (int step = 0; step < c.path("rates").size(); step++) {
                double expected = c.path("rates").get(step).doubleValue();
                assertEquals(expected, schedule.at(step), 8 * Math.ulp(peak), () -> c.toString());
            }
        }
        assertEquals(10, seen.size(), seen.toString());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "cosin | {} | --lr_scheduler_type is cosin, expected one of constant, ",
                "reduce_lr_on_plateau | {} | evaluation does not steer",
                "linear | {\"num_cycles\": 1} | --lr_scheduler_kwargs has num_cycles, but linear takes none",
                "cosine | {\"num_cycle\": 1} | has num_cycle, but cosine takes num_cycles",
                "cosine | {\"num_cycles\": \"x\"} | has num_cycles x, expected a number",
                "cosine_with_min_lr | {} | needs one of min_lr and min_lr_rate",
                "cosine_with_min_lr | {\"min_lr\": 0, \"min_lr_rate\": 0} | needs one of min_lr and min_lr_rate",
                "polynomial | {\"lr_end\": 0.01} | --learning_rate is 0.001, expected more than lr_end",
                "inverse_sqrt | {\"timescale\": 0} | has timescale 0, expected more than 0",
                "warmup_stable_decay | {} | needs --lr_scheduler_kwargs {\"num_decay_steps\": N}",
                "warmup_stable_decay | {\"num_decay_steps\": 1.5} | has num_decay_steps 1.5, expected a number of steps",
                "warmup_stable_decay | {\"num_decay_steps\": 1, \"decay_type\": \"exp\"} | expected linear, cosine or 1-sqrt"
            })
    void whatCannotBeIsRefused(String type, String json, String message) {
        Map<String, Object> arguments = arguments(Json.parse("test", json).node());
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> Schedule.of(type, 1e-3, 0, 10, arguments));
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    /** A least rate is a share of the peak, and nothing is a share of 0. */
    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "cosine_with_min_lr | {\"min_lr\": 0} | 0",
                "cosine_with_min_lr | {\"min_lr\": 1e-5} | 0",
                "cosine_with_min_lr | {\"min_lr\": 1e-5} | 1e-320",
                "cosine_warmup_with_min_lr | {\"min_lr\": 1e-5} | 0",
                "polynomial | {\"lr_end\": -1} | 0"
            })
    void aPeakThatNothingIsAShareOfIsRefused(String type, String json, double peak) {
        Map<String, Object> arguments = arguments(Json.parse("test", json).node());
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> Schedule.of(type, peak, 0, 10, arguments));
        assertTrue(e.getMessage().startsWith("--learning_rate is " + peak + ", "), e.getMessage());
    }

    @Test
    void aShareOfPeakZeroIsZero() {
        assertEquals(
                0,
                Schedule.of("cosine_with_min_lr", 0, 0, 10, Map.of("min_lr_rate", 0.1))
                        .at(5));
    }
}
