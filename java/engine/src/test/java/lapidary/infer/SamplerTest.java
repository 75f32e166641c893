package lapidary.infer;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Which tokens may be drawn, and how often. */
final class SamplerTest {
    /** Of probabilities 0.4, 0.05, 0.3, 0.05, 0.2, behind five numbers that are another row's. */
    private static final float[] LOGITS = logits(0.4, 0.05, 0.3, 0.05, 0.2);

    private static float[] logits(double... probabilities) {
        float[] logits = new float[probabilities.length];
        for (int i = 0; i < probabilities.length; i++) {
            logits[i] = (float) Math.log(probabilities[i]) + 3;
        }
        return logits;
    }

    private static double[] shares(GenerationOptions options, float[] logits, float softcap) {
        Sampler sampler = new Sampler(options, softcap, 7);
        double[] shares = new double[logits.length];
        for (int i = 0; i < 20_000; i++) {
            shares[sampler.next(logits)] += 1 / 20_000.0;
        }
        return shares;
    }

    private static GenerationOptions options(double temperature, int topK, double topP, double minP) {
        return new GenerationOptions(1, temperature, topK, topP, minP, null, List.of(), null);
    }

    /** Expected shares are Transformers' filters by hand; drawing is within five standard deviations. */
    @ParameterizedTest
    @CsvSource({
        "1,   0, 1,    0,    0.4 0.05 0.3 0.05 0.2",
        "0.5, 0, 1,    0,    0.5424 0.0085 0.3051 0.0085 0.1356",
        "1,   3, 1,    0,    0.4444 0 0.3333 0 0.2222",
        "1,   4, 1,    0,    0.4 0.05 0.3 0.05 0.2", // two are equals of the fourth
        "1,   0, 0.69, 0,    0.5714 0 0.4286 0 0",
        "1,   0, 0.71, 0,    0.4444 0 0.3333 0 0.2222",
        "1,   2, 0.5,  0,    1 0 0 0 0", // 0.5714 of the two that top_k leaves
        "1,   0, 1,    0.6,  0.5714 0 0.4286 0 0",
        "1,   0, 1,    1,    1 0 0 0 0",
        "1,   0, 1e-9, 0,    1 0 0 0 0",
        "0,   0, 1,    0,    1 0 0 0 0",
        "4.9e-324, 0, 1, 0,  1 0 0 0 0", // a logit over it is infinite
        "1e308, 0, 1,  0,    0.2 0.2 0.2 0.2 0.2",
    })
    void drawsWhatTheFiltersLeave(double temperature, int topK, double topP, double minP, String expected) {
        double[] shares = shares(options(temperature, topK, topP, minP), LOGITS, 0);
        String[] parts = expected.split(" ");
        for (int i = 0; i < shares.length; i++) {
            double p = Double.parseDouble(parts[i]);
            assertEquals(p, shares[i], 5 * Math.sqrt(p * (1 - p) / 20_000) + 1e-4 * p, "token " + i);
        }
    }

    @Test
    void aSoftcapFlattens() {
        double[] shares = shares(options(1, 0, 1, 0), logits(0.9, 0.1), 2);
        double a = 2 * Math.tanh((Math.log(0.9) + 3) / 2);
        double b = 2 * Math.tanh((Math.log(0.1) + 3) / 2);
        assertEquals(1 / (1 + Math.exp(b - a)), shares[0], 0.02);
    }

    @Test
    void equalSeedsDrawEqualTokens() {
        List<List<Integer>> runs = new ArrayList<>();
        for (long seed : new long[] {1, 1, 2}) {
            Sampler sampler = new Sampler(options(1, 0, 1, 0), 0, seed);
            List<Integer> run = new ArrayList<>();
            for (int i = 0; i < 50; i++) {
                run.add(sampler.next(LOGITS));
            }
            runs.add(run);
        }
        assertEquals(runs.get(0), runs.get(1));
        assertTrue(!runs.get(0).equals(runs.get(2)));
    }

    @Test
    void greedyTakesTheFirstOfEquals() {
        assertEquals(1, new Sampler(GenerationOptions.GREEDY, 0, 0).next(new float[] {1, 3, 2, 3}));
    }

    @ParameterizedTest
    @ValueSource(floats = {Float.NaN, Float.POSITIVE_INFINITY})
    void logitsThatAreNotFiniteAreAnError(float bad) {
        Sampler sampler = new Sampler(options(1, 2, 1, 0), 0, 0);
        assertThrows(InferenceException.class, () -> sampler.next(new float[] {1, bad, 2}));
    }

    @ParameterizedTest
    @CsvSource({
        "-1, 0, 1, 0, temperature is -1",
        "NaN, 0, 1, 0, temperature is NaN",
        "1, -1, 1, 0, top_k is -1",
        "1, 0, 0, 0, top_p is 0",
        "1, 0, 1.5, 0, top_p is 1.5",
        "1, 0, 1, -0.1, min_p is -0.1"
    })
    void optionsOutOfRangeAreNamed(double temperature, int topK, double topP, double minP, String why) {
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> options(temperature, topK, topP, minP));
        assertTrue(e.getMessage().contains(why), e.getMessage());
    }
}
