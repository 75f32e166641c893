package lapidary.format;

import com.fasterxml.jackson.databind.JsonNode;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON text exactly as Python's {@code json.dumps} writes it, so that files of ours differ from Hugging Face's only where
 * their content does.
 *
 * <p>Values are maps with string keys, lists, strings, booleans, whole numbers, {@code Double}, {@code Float} (widened),
 * null, {@link JsonNode} and {@link Json}. Numbers follow Python's {@code repr}: {@code 2e-05}, {@code 1e+16},
 * {@code 3.0}, {@code NaN}.
 */
public final class JsonWriter {
    private final StringBuilder out = new StringBuilder();
    private final int indent; // spaces a level; -1: one line
    private final boolean sortKeys;
    private final boolean ascii;
    private final String itemSeparator;
    private final String keySeparator;

    private JsonWriter(int indent, boolean sortKeys, boolean ascii, String itemSeparator, String keySeparator) {
        this.indent = indent;
        this.sortKeys = sortKeys;
        this.ascii = ascii;
        this.itemSeparator = itemSeparator;
        this.keySeparator = keySeparator;
    }

    /** {@code json.dumps(value, indent=2, sort_keys=True)}: what Hugging Face configs are. No final newline. */
    public static String sorted(Object value) {
        return new JsonWriter(2, true, true, ",", ": ").write(value, 0);
    }

    /** {@code json.dumps(value, indent=2)}: keys in the map's order. No final newline. */
    public static String indented(Object value) {
        return new JsonWriter(2, false, true, ",", ": ").write(value, 0);
    }

    /** {@code json.dumps(value, indent=2, ensure_ascii=False)}, as tokenizer files are. No final newline. */
    public static String indentedUnicode(Object value) {
        return new JsonWriter(2, false, false, ",", ": ").write(value, 0);
    }

    /** {@code json.dumps(value)}: one line, for JSONL. No final newline. */
    public static String line(Object value) {
        return new JsonWriter(-1, false, true, ", ", ": ").write(value, 0);
    }

    /** {@code json.dumps(value, separators=(",", ":"), ensure_ascii=False)}: as short as can be. */
    public static String compact(Object value) {
        return new JsonWriter(-1, false, false, ",", ":").write(value, 0);
    }

    private String write(Object value, int depth) {
        put(value, depth);
        return out.toString();
    }

    private void put(Object value, int depth) {
        if (value == null) {
            out.append("null");
        } else if (value instanceof Json json) {
            put(json.node(), depth);
        } else if (value instanceof JsonNode node) {
            putNode(node, depth);
        } else if (value instanceof Map<?, ?> map) {
            putMap(map, depth);
        } else if (value instanceof List<?> list) {
            putList(list, depth);
        } else if (value instanceof String text) {
            putString(text);
        } else if (value instanceof Double || value instanceof Float) {
            out.append(repr(((Number) value).doubleValue()));
        } else if (value instanceof Boolean
                || value instanceof Integer
                || value instanceof Long
                || value instanceof Short
                || value instanceof Byte
                || value instanceof BigInteger) {
            out.append(value);
        } else {
            throw new IllegalArgumentException(
                    "no JSON for a " + value.getClass().getName());
        }
    }

    private void putNode(JsonNode node, int depth) {
        if (node.isObject()) {
            Map<String, Object> map = new LinkedHashMap<>();
            node.properties().forEach(e -> map.put(e.getKey(), e.getValue()));
            putMap(map, depth);
        } else if (node.isArray()) {
            List<JsonNode> list = new ArrayList<>();
            node.forEach(list::add);
            putList(list, depth);
        } else if (node.isTextual()) {
            putString(node.textValue());
        } else if (node.isIntegralNumber()) {
            out.append(node.bigIntegerValue());
        } else if (node.isNumber()) {
            out.append(repr(node.doubleValue()));
        } else if (node.isBoolean()) {
            out.append(node.booleanValue());
        } else {
            out.append("null");
        }
    }

    private void putMap(Map<?, ?> map, int depth) {
        List<Map.Entry<?, ?>> entries = new ArrayList<>(map.entrySet());
        if (sortKeys) {
            entries.sort(Comparator.comparing(e -> (String) e.getKey(), JsonWriter::compareCodePoints));
        }
        out.append('{');
        String separator = "";
        for (Map.Entry<?, ?> entry : entries) {
            out.append(separator);
            newLine(depth + 1);
            putString((String) entry.getKey());
            out.append(keySeparator);
            put(entry.getValue(), depth + 1);
            separator = itemSeparator;
        }
        if (!entries.isEmpty()) {
            newLine(depth);
        }
        out.append('}');
    }

    private void putList(List<?> list, int depth) {
        out.append('[');
        String separator = "";
        for (Object item : list) {
            out.append(separator);
            newLine(depth + 1);
            put(item, depth + 1);
            separator = itemSeparator;
        }
        if (!list.isEmpty()) {
            newLine(depth);
        }
        out.append(']');
    }

    private void newLine(int depth) {
        if (indent >= 0) {
            out.append('\n').append(" ".repeat(indent * depth));
        }
    }

    private void putString(String text) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c == '\n') {
                out.append("\\n");
            } else if (c == '\r') {
                out.append("\\r");
            } else if (c == '\t') {
                out.append("\\t");
            } else if (c == '\b') {
                out.append("\\b");
            } else if (c == '\f') {
                out.append("\\f");
            } else if (c < 0x20 || (c > 0x7e && ascii) || unpaired(text, i)) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }

    /** Whether the char at {@code i} is half a surrogate pair without its other half: it has no UTF-8. */
    static boolean unpaired(String text, int i) {
        char c = text.charAt(i);
        if (Character.isHighSurrogate(c)) {
            return i + 1 == text.length() || !Character.isLowSurrogate(text.charAt(i + 1));
        }
        return Character.isLowSurrogate(c) && (i == 0 || !Character.isHighSurrogate(text.charAt(i - 1)));
    }

    /** Python's and UTF-8's order; {@code String.compareTo} differs beyond U+FFFF. */
    static int compareCodePoints(String a, String b) {
        int n = Math.min(a.length(), b.length());
        for (int i = 0; i < n; i++) {
            char x = a.charAt(i);
            char y = b.charAt(i);
            if (x != y) {
                boolean high = Character.isSurrogate(x);
                return high == Character.isSurrogate(y) ? Character.compare(x, y) : high ? 1 : -1;
            }
        }
        return Integer.compare(a.length(), b.length());
    }

    /** Python's {@code repr} of a float: the fewest digits that read back equal; an exponent below 1e-4 and from 1e16. */
    public static String repr(double x) {
        if (Double.isNaN(x)) {
            return "NaN";
        }
        if (Double.isInfinite(x)) {
            return x > 0 ? "Infinity" : "-Infinity";
        }
        String sign = Double.doubleToRawLongBits(x) < 0 ? "-" : "";
        if (x == 0) {
            return sign + "0.0";
        }
        BigDecimal shortest = new BigDecimal(Double.toString(Math.abs(x))).stripTrailingZeros();
        if (shortest.precision() == 2) { // Java never gives fewer than two digits: 4.9E-324 where 5e-324 is enough
            BigDecimal one = shortest.round(new java.math.MathContext(1));
            shortest = one.doubleValue() == Math.abs(x) ? one.stripTrailingZeros() : shortest;
        }
        String digits = shortest.unscaledValue().toString();
        int point = digits.length() - shortest.scale(); // digits before the decimal point
        if (point <= -4 || point > 16) {
            int exponent = point - 1;
            String fraction = digits.length() > 1 ? "." + digits.substring(1) : "";
            return sign
                    + digits.charAt(0)
                    + fraction
                    + (exponent < 0 ? "e-" : "e+")
                    + (Math.abs(exponent) < 10 ? "0" : "")
                    + Math.abs(exponent);
        }
        if (point <= 0) {
            return sign + "0." + "0".repeat(-point) + digits;
        }
        if (point >= digits.length()) {
            return sign + digits + "0".repeat(point - digits.length()) + ".0";
        }
        return sign + digits.substring(0, point) + "." + digits.substring(point);
    }
}
