package lapidary.cli;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import lapidary.format.FormatException;
import lapidary.format.Json;
import org.snakeyaml.engine.v2.api.LoadSettings;
import org.snakeyaml.engine.v2.api.lowlevel.Compose;
import org.snakeyaml.engine.v2.api.lowlevel.Parse;
import org.snakeyaml.engine.v2.events.AliasEvent;
import org.snakeyaml.engine.v2.events.CollectionEndEvent;
import org.snakeyaml.engine.v2.events.CollectionStartEvent;
import org.snakeyaml.engine.v2.events.DocumentStartEvent;
import org.snakeyaml.engine.v2.events.Event;
import org.snakeyaml.engine.v2.exceptions.MarkedYamlEngineException;
import org.snakeyaml.engine.v2.exceptions.YamlEngineException;
import org.snakeyaml.engine.v2.nodes.MappingNode;
import org.snakeyaml.engine.v2.nodes.Node;
import org.snakeyaml.engine.v2.nodes.NodeTuple;
import org.snakeyaml.engine.v2.nodes.ScalarNode;
import org.snakeyaml.engine.v2.nodes.SequenceNode;

/**
 * The YAML of {@code --config}: option names and values. Values keep the letters of the file, as on a command line, so that
 * both are read by the same converters: PyYAML's {@code 2e-5}, which it takes for a string, is a number here too.
 *
 * @param file as the user named it
 * @param entries by key, in the order of the file
 */
record ConfigFile(Path file, Map<String, Entry> entries) {
    private static final String CARRIED = "lapidary/examples/"; // in the jar
    private static final long MAX_BYTES = 1 << 20;
    private static final int MAX_DEPTH = 8; // of mappings and lists in each other; the composer is recursive

    /**
     * One value.
     *
     * @param line counted from 1
     * @param values one, or those of a list; of a mapping its JSON; {@code null} as the word
     * @param kind what the file has
     */
    record Entry(int line, List<String> values, Kind kind) {
        /** A list of nothing is as good as not given, too. */
        boolean isNull() {
            return values.isEmpty() || (kind == Kind.SCALAR && values.get(0).equals("null"));
        }
    }

    enum Kind {
        SCALAR,
        LIST,
        /** A mapping, or a list with more than words in it; its value is JSON. */
        NESTED
    }

    /**
     * Reads a file, or where there is none of a name without folders, one of that name that the jar carries.
     *
     * @throws FormatException naming file and line of what is wrong
     */
    static ConfigFile read(Path file) {
        String text = Json.utf8(file.toString(), bytes(file));
        LoadSettings settings = LoadSettings.builder()
                .setLabel(file.toString())
                .setCodePointLimit((int) MAX_BYTES)
                .setAllowNonScalarKeys(true) // told below, with its line
                .build();
        try {
            int documents = 0;
            int depth = 0;
            for (Event event : new Parse(settings).parseString(text)) {
                int line = event.getStartMark().map(mark -> mark.getLine() + 1).orElse(1);
                documents += event instanceof DocumentStartEvent ? 1 : 0;
                depth += event instanceof CollectionStartEvent ? 1 : event instanceof CollectionEndEvent ? -1 : 0;
                if (event instanceof AliasEvent) {
                    throw wrong(file, line, "aliases are not taken; write the value out");
                }
                if (documents > 1) {
                    throw wrong(file, line, "a second document begins, expected one");
                }
                if (depth > MAX_DEPTH) {
                    throw wrong(file, line, "lists and mappings are more than " + MAX_DEPTH + " deep");
                }
            }
            Node root = new Compose(settings).composeString(text).orElse(null);
            if (root == null) {
                throw new FormatException(file + " is empty, expected lines such as lora_r: 16");
            }
            return new ConfigFile(file, entries(file, root));
        } catch (MarkedYamlEngineException e) {
            int line = e.getProblemMark().map(mark -> mark.getLine() + 1).orElse(1);
            throw wrong(file, line, "not valid YAML: " + Printable.line(e.getProblem()));
        } catch (YamlEngineException e) { // a character that YAML has not
            throw new FormatException(file + ": not valid YAML: " + Printable.line(e.getMessage()), e);
        }
    }

    private static byte[] bytes(Path file) {
        if (!Files.exists(file) && file.getParent() == null && file.toString().endsWith(".yaml")) {
            try (InputStream carried = ConfigFile.class.getClassLoader().getResourceAsStream(CARRIED + file)) {
                if (carried != null) {
                    return carried.readAllBytes();
                }
            } catch (IOException e) {
                throw new FormatException("cannot read " + file + " out of the jar: " + e.getMessage(), e);
            }
        }
        return Json.readBytes(file, MAX_BYTES);
    }

    private static Map<String, Entry> entries(Path file, Node root) {
        if (!(root instanceof MappingNode)) {
            throw wrong(file, line(root), "expected option names with values, such as lora_r: 16");
        }
        Map<String, Entry> entries = new LinkedHashMap<>();
        for (NodeTuple tuple : ((MappingNode) root).getValue()) {
            if (!(tuple.getKeyNode() instanceof ScalarNode)) {
                throw wrong(file, line(tuple.getKeyNode()), "a list or mapping stands where an option's name should");
            }
            String key = ((ScalarNode) tuple.getKeyNode()).getValue();
            int line = line(tuple.getKeyNode());
            Entry before = entries.put(key, entry(file, line, tuple.getValueNode()));
            if (before != null) {
                throw wrong(file, line, Printable.line(key) + " is given again, line " + before.line + " has it too");
            }
        }
        return entries;
    }

    private static Entry entry(Path file, int line, Node value) {
        if (value instanceof ScalarNode scalar) {
            return new Entry(line, List.of(word(scalar)), Kind.SCALAR);
        }
        if (value instanceof SequenceNode sequence) {
            if (sequence.getValue().stream().allMatch(ScalarNode.class::isInstance)) {
                return new Entry(
                        line,
                        sequence.getValue().stream()
                                .map(item -> word((ScalarNode) item))
                                .toList(),
                        Kind.LIST);
            }
        }
        return new Entry(line, List.of(json(file, value).toString()), Kind.NESTED);
    }

    /** As on a command line; nothing at all is null. */
    private static String word(ScalarNode scalar) {
        boolean isNull =
                scalar.isPlain() && List.of("", "~", "null", "Null", "NULL").contains(scalar.getValue());
        return isNull ? "null" : scalar.getValue();
    }

    private static JsonNode json(Path file, Node node) {
        JsonNodeFactory make = JsonNodeFactory.instance;
        if (node instanceof MappingNode mapping) {
            var object = make.objectNode();
            for (NodeTuple tuple : mapping.getValue()) {
                if (!(tuple.getKeyNode() instanceof ScalarNode)) {
                    throw wrong(file, line(tuple.getKeyNode()), "a list or mapping stands where a name should");
                }
                String key = ((ScalarNode) tuple.getKeyNode()).getValue();
                if (object.has(key)) {
                    throw wrong(file, line(tuple.getKeyNode()), Printable.line(key) + " is given again");
                }
                object.set(key, json(file, tuple.getValueNode()));
            }
            return object;
        }
        if (node instanceof SequenceNode sequence) {
            var array = make.arrayNode();
            sequence.getValue().forEach(item -> array.add(json(file, item)));
            return array;
        }
        ScalarNode scalar = (ScalarNode) node;
        String word = word(scalar);
        if (!scalar.isPlain()) {
            return make.textNode(word);
        }
        return switch (word) {
            case "null" -> make.nullNode();
            case "true", "True", "TRUE" -> make.booleanNode(true);
            case "false", "False", "FALSE" -> make.booleanNode(false);
            default -> number(word);
        };
    }

    private static JsonNode number(String word) {
        JsonNodeFactory make = JsonNodeFactory.instance;
        if (word.matches("[-+]?[0-9]{1,18}")) {
            return make.numberNode(Long.parseLong(word));
        }
        return word.matches("[-+]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][-+]?[0-9]+)?")
                ? make.numberNode(Double.parseDouble(word))
                : make.textNode(word);
    }

    private static int line(Node node) {
        return node.getStartMark().map(mark -> mark.getLine() + 1).orElse(1);
    }

    /** What is wrong with a key of this file. */
    FormatException wrong(String key, String why) {
        return wrong(file, entries.get(key).line(), why);
    }

    /** What is wrong with several keys of this file, in the order of its lines. */
    FormatException wrong(Map<String, String> whys) {
        String all = whys.entrySet().stream()
                .sorted(Comparator.comparingInt(
                        each -> entries.get(each.getKey()).line()))
                .map(each -> "line " + entries.get(each.getKey()).line() + ": " + each.getValue())
                .collect(Collectors.joining("; and "));
        return new FormatException(file + ", " + all);
    }

    private static FormatException wrong(Path file, int line, String why) {
        return new FormatException(file + ", line " + line + ": " + why);
    }
}
