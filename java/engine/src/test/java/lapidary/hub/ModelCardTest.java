package lapidary.hub;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

final class ModelCardTest {
    private static List<Map<String, Object>> history(int reports) {
        List<Map<String, Object>> history = new ArrayList<>();
        for (int i = 1; i <= reports; i++) {
            Map<String, Object> entry = new LinkedHashMap<>();
            entry.put("step", i * 10);
            entry.put("epoch", i * 0.5);
            entry.put("loss", 4.0 / i);
            entry.put("mean_token_accuracy", 0.5);
            entry.put("learning_rate", 2e-5);
            history.add(entry);
        }
        history.add(Map.of("step", reports * 10, "epoch", 2.0, "train_loss", 1.25, "train_runtime", 61.4));
        return history;
    }

    private static ModelCard card(String base, String data, String name, int reports) {
        return new ModelCard(
                name, RepoId.model("me/out"), base, data, Map.of("learning_rate", 2e-5), "0.1.0", history(reports));
    }

    @Test
    void theHeadIsWhatTheHubReads() {
        String text = card("google/gemma-3-4b-it", "HuggingFaceH4/llava-instruct-mix-vsft", "out", 3)
                .text();
        assertTrue(
                text.startsWith(
                        """
                ---
                base_model: google/gemma-3-4b-it
                datasets:
                - HuggingFaceH4/llava-instruct-mix-vsft
                library_name: peft
                model_name: out
                tags:
                - base_model:adapter:google/gemma-3-4b-it
                - generated_from_trainer
                - lapidary
                - lora
                - sft
                - transformers
                ---

                # Model Card for out
                """),
                text);
        assertTrue(text.contains("[google/gemma-3-4b-it](https://huggingface.co/google/gemma-3-4b-it)"), text);
        assertTrue(text.contains("| `learning_rate` | 2e-05 |"), text);
        assertTrue(text.contains("30 steps, 2.000 epochs, 61 s, mean loss 1.250."), text);
        assertTrue(text.contains("| 20 | 1.000 | 2.000 | 0.5000 | 2.000e-05 |"), text);
    }

    @Test
    void aLocalBaseIsNotNamed() {
        String text = card("", "", "out", 1).text();
        assertFalse(text.contains("base_model") || text.contains("datasets:") || text.contains("Quick start"), text);
    }

    @Test
    void theCurveIsAsWideAsItHasReportsAndNoWider() {
        for (int reports : new int[] {3, 60, 1000}) {
            String text = card("", "", "out", reports).text();
            String chart = text.substring(text.indexOf("```text"), text.lastIndexOf("```"));
            assertEquals(12, chart.lines().filter(line -> line.contains(" |")).count(), chart);
            assertEquals(
                    Math.min(60, reports), chart.chars().filter(c -> c == '*').count(), chart);
            assertTrue(chart.lines().noneMatch(line -> line.length() > 80), chart);
            assertTrue(text.lines().filter(line -> line.startsWith("| ")).count() < 30, text);
        }
        assertTrue(card("", "", "out", 0).text().contains("Training procedure"));
    }

    @Test
    void linesInNamesDoNotBreakOut() {
        String text = card("a/b\r\nlicense: mit", "c/d\n---\n# evil", "x: y\r\n---\n<script>", 1)
                .text();
        assertEquals(2, text.lines().filter(line -> line.equals("---")).count(), text);
        assertTrue(text.lines().noneMatch(line -> line.startsWith("license") || line.startsWith("# evil")), text);
        assertTrue(text.contains("model_name: \"x: y\\r\\n---\\n<script>\""), text);
        assertFalse(text.contains("\r"), text);
        assertFalse(
                text.substring(text.indexOf("# Model Card"))
                        .lines()
                        .findFirst()
                        .orElse("")
                        .contains(" <script"),
                text);
        assertTrue(card("true/x", "", "yes", 1).text().contains("model_name: \"yes\""));
    }
}
