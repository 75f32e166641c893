package lapidary.gemma3;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import lapidary.format.FormatException;

/**
 * Reads one object of a config.json by key and remembers which keys were read, so that what nobody read can be refused.
 * Errors name the file and the key's path.
 */
final class ConfigReader {
    private final String file;
    private final String path; // "" at the top, else "text_config." and the like
    private final JsonNode object;
    private final Set<String> read = new TreeSet<>();

    ConfigReader(String file, String path, JsonNode object) {
        this.file = file;
        this.path = path;
        this.object = object;
        if (!object.isObject()) {
            throw new FormatException(file + ": " + (path.isEmpty() ? "the file" : path) + " is not a JSON object");
        }
    }

    boolean has(String key) {
        read.add(key);
        return object.hasNonNull(key);
    }

    int size(String key, int fallback) {
        return (int) whole(key, fallback, 1, 1 << 24);
    }

    int id(String key, int fallback) {
        return (int) whole(key, fallback, 0, 1 << 24);
    }

    double positive(String key, double fallback) {
        if (!has(key)) {
            return fallback;
        }
        JsonNode value = object.get(key);
        if (!value.isNumber() || !(value.doubleValue() > 0) || Double.isInfinite(value.doubleValue())) {
            throw wrong(key, "a positive number");
        }
        return value.doubleValue();
    }

    double positiveOrZero(String key) {
        JsonNode value = object.get(key);
        return value.isNumber() && value.doubleValue() == 0 ? 0 : positive(key, 0);
    }

    boolean flag(String key, boolean fallback) {
        if (!has(key)) {
            return fallback;
        }
        if (!object.get(key).isBoolean()) {
            throw wrong(key, "true or false");
        }
        return object.get(key).booleanValue();
    }

    String text(String key, String fallback) {
        if (!has(key)) {
            return fallback;
        }
        if (!object.get(key).isTextual()) {
            throw wrong(key, "a string");
        }
        return object.get(key).textValue();
    }

    List<String> texts(String key) {
        if (!has(key)) {
            return List.of();
        }
        List<String> values = new ArrayList<>();
        for (JsonNode value : object.get(key)) {
            if (!value.isTextual()) {
                throw wrong(key, "a list of strings");
            }
            values.add(value.textValue());
        }
        return values;
    }

    ConfigReader object(String key) {
        if (!has(key)) {
            throw new FormatException(file + ": " + path + key + " is missing");
        }
        return new ConfigReader(file, path + key + ".", object.get(key));
    }

    /** An id, or a list of ids. */
    List<Integer> ids(String key, List<Integer> fallback) {
        if (!has(key)) {
            return fallback;
        }
        JsonNode value = object.get(key);
        List<Integer> ids = new ArrayList<>();
        for (JsonNode id : value.isArray() ? value : List.of(value)) {
            if (!id.canConvertToInt() || id.intValue() < 0) {
                throw wrong(key, "a token id or a list of token ids");
            }
            ids.add(id.intValue());
        }
        return ids;
    }

    /** Refuses a setting that this engine does not compute, naming what it has. */
    void require(String key, Object expected) {
        if (has(key) && !object.get(key).asText().equals(String.valueOf(expected))) {
            throw wrong(key, expected + ", the only value that this engine computes");
        }
    }

    /** Refuses a key that is there and not null. */
    void requireAbsent(String key, String reason) {
        if (has(key)) {
            throw new FormatException(file + ": " + path + key + " is set: " + reason);
        }
    }

    void ignore(Set<String> keys) {
        read.addAll(keys);
    }

    /** @throws FormatException naming every key that was neither read nor ignored */
    void refuseUnread() {
        Set<String> unread = new TreeSet<>();
        for (Iterator<String> names = object.fieldNames(); names.hasNext(); ) {
            String name = names.next();
            if (!read.contains(name)) {
                unread.add(path + name);
            }
        }
        if (!unread.isEmpty()) {
            throw new FormatException(file + ": unknown keys " + unread
                    + ": this engine does not know what they change, so it does not guess");
        }
    }

    FormatException wrong(String key, String expected) {
        return new FormatException(file + ": " + path + key + " is " + object.get(key) + ", expected " + expected);
    }

    FormatException invalid(String message) {
        return new FormatException(file + ": " + path + message);
    }

    private long whole(String key, int fallback, long low, long high) {
        if (!has(key)) {
            return fallback;
        }
        JsonNode value = object.get(key);
        if (!value.isIntegralNumber() || value.longValue() < low || value.longValue() > high) {
            throw wrong(key, "a whole number from " + low + " to " + high);
        }
        return value.longValue();
    }
}
