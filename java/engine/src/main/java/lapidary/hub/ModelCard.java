package lapidary.hub;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import lapidary.format.JsonWriter;

/**
 * README.md of a trained adapter: what the Hub reads at its head, and for people what was trained on what, with which options,
 * and how the loss went.
 *
 * @param name of the model, as a title
 * @param repo where it is published
 * @param baseModel name of the base model on the Hub, or empty where it is a folder of this machine
 * @param dataset name of the data set on the Hub, or empty where it is files of this machine
 * @param options of the training, by TRL's and PEFT's names, in the order in which they are shown
 * @param version of this program
 * @param history of the run: entries of trainer_state.json
 */
public record ModelCard(
        String name,
        RepoId repo,
        String baseModel,
        String dataset,
        Map<String, Object> options,
        String version,
        List<Map<String, Object>> history) {
    private static final int CHART_WIDTH = 60; // columns
    private static final int CHART_HEIGHT = 12; // rows
    private static final int TABLE_ROWS = 20;

    /** The whole file. */
    public String text() {
        StringBuilder out = new StringBuilder();
        head(out);
        out.append("\n# Model Card for ").append(inline(name)).append("\n\n");
        out.append("This is a LoRA adapter for ")
                .append(baseModel.isEmpty() ? "a local base model" : link(baseModel, ""));
        out.append(dataset.isEmpty() ? "" : ", trained on " + link(dataset, "datasets/"));
        out.append(". It was trained with supervised fine-tuning (SFT) by Lapidary ")
                .append(inline(version));
        out.append(", in the format of [PEFT](https://github.com/huggingface/peft).\n");
        quickStart(out);
        facts(out);
        curve(out);
        return out.toString();
    }

    /** YAML as the Hub's own libraries write it; strings that could mean something else are quoted as JSON is. */
    private void head(StringBuilder out) {
        out.append("---\n");
        if (!baseModel.isEmpty()) {
            out.append("base_model: ").append(yaml(baseModel)).append('\n');
        }
        if (!dataset.isEmpty()) {
            out.append("datasets:\n- ").append(yaml(dataset)).append('\n');
        }
        out.append("library_name: peft\n");
        out.append("model_name: ").append(yaml(name)).append('\n');
        out.append("tags:\n");
        if (!baseModel.isEmpty()) {
            out.append("- ").append(yaml("base_model:adapter:" + baseModel)).append('\n');
        }
        out.append("- generated_from_trainer\n- lapidary\n- lora\n- sft\n- transformers\n---\n");
    }

    private void quickStart(StringBuilder out) {
        if (baseModel.isEmpty()) {
            return;
        }
        out.append("\n## Quick start\n\n```python\n")
                .append("from peft import PeftModel\n")
                .append("from transformers import AutoModelForImageTextToText, AutoProcessor\n\n")
                .append("base = AutoModelForImageTextToText.from_pretrained(")
                .append(python(baseModel))
                .append(")\n")
                .append("model = PeftModel.from_pretrained(base, ")
                .append(python(repo.name()))
                .append(")\n")
                .append("processor = AutoProcessor.from_pretrained(")
                .append(python(repo.name()))
                .append(")\n```\n");
    }

    private void facts(StringBuilder out) {
        out.append("\n## Training procedure\n\n| option | value |\n|---|---|\n");
        options.forEach((option, value) -> out.append("| `")
                .append(option)
                .append("` | ")
                .append(inline(value instanceof String text ? text : JsonWriter.line(value)))
                .append(" |\n"));
        if (history.isEmpty()) {
            return;
        }
        Map<String, Object> last = history.get(history.size() - 1);
        if (last.get("train_runtime") instanceof Number seconds) {
            out.append(String.format(
                    Locale.ROOT,
                    "%n%s steps, %s epochs, %.0f s, mean loss %s.%n",
                    last.get("step"),
                    number(last.get("epoch")),
                    seconds.doubleValue(),
                    number(last.get("train_loss"))));
        }
    }

    private void curve(StringBuilder out) {
        List<Map<String, Object>> logged = new ArrayList<>(history);
        logged.removeIf(entry -> !(entry.get("loss") instanceof Number loss && Double.isFinite(loss.doubleValue())));
        if (logged.isEmpty()) {
            return;
        }
        out.append("\n### Training loss\n");
        if (logged.size() > 2) {
            chart(out, logged);
        }
        out.append("\n| step | epoch | loss | accuracy | learning rate |\n|--:|--:|--:|--:|--:|\n");
        int rows = Math.min(TABLE_ROWS, logged.size());
        for (int i = 0; i < rows; i++) {
            Map<String, Object> entry = logged.get(rows == 1 ? 0 : (int) ((long) i * (logged.size() - 1) / (rows - 1)));
            out.append("| ").append(entry.get("step"));
            for (String key : List.of("epoch", "loss", "mean_token_accuracy", "learning_rate")) {
                out.append(" | ").append(number(entry.get(key)));
            }
            out.append(" |\n");
        }
    }

    /** A column holds the mean of its share of the reports. */
    private static void chart(StringBuilder out, List<Map<String, Object>> logged) {
        int width = Math.min(CHART_WIDTH, logged.size());
        double[] columns = new double[width];
        double low = Double.POSITIVE_INFINITY;
        double high = Double.NEGATIVE_INFINITY;
        for (int c = 0; c < width; c++) {
            int from = (int) ((long) c * logged.size() / width);
            int to = (int) ((long) (c + 1) * logged.size() / width);
            for (int i = from; i < to; i++) {
                columns[c] += loss(logged.get(i)) / (to - from);
            }
            low = Math.min(low, columns[c]);
            high = Math.max(high, columns[c]);
        }
        double step = (high - low) / (CHART_HEIGHT - 1);
        out.append("\n```text\n");
        for (int row = CHART_HEIGHT - 1; row >= 0; row--) {
            out.append(String.format(Locale.ROOT, "%10.4f |", low + row * step));
            StringBuilder line = new StringBuilder();
            for (double value : columns) {
                line.append(step == 0 ? row == 0 ? '*' : ' ' : Math.round((value - low) / step) == row ? '*' : ' ');
            }
            out.append(line.toString().stripTrailing()).append('\n');
        }
        String first = String.valueOf(logged.get(0).get("step"));
        String last = String.valueOf(logged.get(logged.size() - 1).get("step"));
        out.append(" ".repeat(11)).append('+').append("-".repeat(width)).append('\n');
        out.append(" ".repeat(5)).append("step  ").append(' ').append(first);
        out.append(" ".repeat(Math.max(1, width - first.length() - last.length())))
                .append(last)
                .append("\n```\n");
    }

    private static double loss(Map<String, Object> entry) {
        return entry.get("loss") instanceof Number loss ? loss.doubleValue() : 0;
    }

    private static String number(Object value) {
        return value instanceof Number number && !(value instanceof Integer)
                ? String.format(Locale.ROOT, "%.4g", number.doubleValue())
                : value == null ? "" : inline(String.valueOf(value));
    }

    private static String link(String name, String prefix) {
        return "[" + inline(name) + "](https://huggingface.co/" + prefix + Text.path(name) + ")";
    }

    /** A plain scalar where it can be nothing else, else quoted: YAML reads JSON's strings. */
    private static String yaml(String text) {
        boolean plain = text.matches("[A-Za-z][A-Za-z0-9._/-]*(:[A-Za-z0-9._/-]+)*")
                && !text.matches("(?i)true|false|yes|no|on|off|null|y|n");
        return plain ? text : JsonWriter.line(text);
    }

    private static String python(String text) {
        return JsonWriter.line(text); // a JSON string is one of Python's
    }

    /** One line, without what Markdown or HTML would read as more than text. */
    private static String inline(String text) {
        return Text.oneLine(text).replaceAll("[\\\\`*_\\[\\]<>|#]", "\\\\$0");
    }
}
