package lapidary.cli;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.LinkedHashMap;
import java.util.Map;
import lapidary.format.FormatException;
import lapidary.format.Json;

/** Reads an option whose value is a JSON object of numbers, strings and booleans; null is as good as not given. */
final class JsonObject {
    private JsonObject() {}

    /** @throws IllegalArgumentException naming the option, where the text is anything else */
    static Map<String, Object> parse(String option, String text) {
        JsonNode node;
        try {
            node = Json.parse("JSON", text).node();
        } catch (FormatException e) {
            throw new IllegalArgumentException(option + " " + text + " is not a JSON object: " + e.getMessage(), e);
        }
        if (!node.isObject()) {
            throw new IllegalArgumentException(option + " " + text + " is not a JSON object such as {\"power\": 2}");
        }
        Map<String, Object> values = new LinkedHashMap<>();
        for (Map.Entry<String, JsonNode> entry : node.properties()) {
            JsonNode value = entry.getValue();
            if (value.isNumber()) {
                values.put(entry.getKey(), value.numberValue());
            } else if (value.isTextual()) {
                values.put(entry.getKey(), value.textValue());
            } else if (value.isBoolean()) {
                values.put(entry.getKey(), value.booleanValue());
            } else if (!value.isNull()) {
                throw new IllegalArgumentException(
                        option + " has " + entry.getKey() + " " + value + ", expected a number, a string or a boolean");
            }
        }
        return values;
    }
}
