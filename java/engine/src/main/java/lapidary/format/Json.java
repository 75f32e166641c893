package lapidary.format;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonLocation;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CoderResult;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/**
 * One value of a JSON file, and where it stands: every complaint names the file and the path of the key.
 *
 * <p>Reading is strict: UTF-8 (a byte order mark is skipped), no duplicate keys, nothing after the value, bounded depth
 * and size. As Python writes them, {@code NaN}, {@code Infinity} and {@code -Infinity} are numbers. All mistakes are
 * {@link FormatException}s.
 *
 * @param file as the user knows it; for a line of a file, with its number
 * @param path of this value from the root, like {@code text_config.layer_types[3]}; empty for the root
 * @param node the value itself, for those who need more than the getters here
 */
public record Json(String file, String path, JsonNode node) {
    /** Longest JSON file read whole, in bytes: tokenizer.json of Gemma 3 has 33 MB. */
    public static final long MAX_FILE = 512L << 20;

    private static final int MAX_DEPTH = 200;

    private static final JsonFactory FACTORY = new JsonFactoryBuilder()
            .streamReadConstraints(StreamReadConstraints.builder()
                    .maxNestingDepth(MAX_DEPTH)
                    .maxStringLength(Integer.MAX_VALUE) // the file's own size is the limit: images come as base64
                    .maxNameLength(1 << 16)
                    .build())
            // names of vocabularies and tensors are many, short-lived and chosen by others: keep no table of them
            .disable(JsonFactory.Feature.CANONICALIZE_FIELD_NAMES)
            .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS)
            .build();
    private static final ObjectMapper MAPPER = new ObjectMapper(FACTORY);

    /** Reads a whole file. */
    public static Json read(Path file) {
        return parse(file.toString(), readBytes(file, MAX_FILE));
    }

    /** Parses {@code bytes}; {@code file} is the name that complaints give. */
    public static Json parse(String file, byte[] bytes) {
        return parse(file, utf8(file, bytes));
    }

    /** Parses {@code text}; {@code file} is the name that complaints give. */
    public static Json parse(String file, String text) {
        try (JsonParser parser = parser(text)) {
            JsonNode node = MAPPER.readTree(parser);
            if (node == null || node.isMissingNode()) {
                throw new FormatException(file + " is empty, expected JSON");
            }
            if (parser.nextToken() != null) {
                throw new FormatException(file + at(parser.currentTokenLocation())
                        + ": something follows the JSON value, expected the end");
            }
            return new Json(file, "", node);
        } catch (IOException e) {
            throw malformed(file, e);
        }
    }

    /** A strict streaming parser, for files too large to hold as a tree; see {@link #malformed}. */
    public static JsonParser parser(String text) throws IOException {
        return FACTORY.createParser(text);
    }

    /** Tells what a {@link #parser} met, in one line. */
    public static FormatException malformed(String file, IOException e) {
        if (e instanceof JsonProcessingException j) {
            // Where an unclosed object began is told in Jackson's own terms, with a source that it hides: not for a
            // user.
            String why = j.getOriginalMessage()
                    .replaceAll("(?s)\\s*\\(start marker at .*|(?s)\\s*\\(for \\w+ starting at .*", "");
            return new FormatException(file + at(j.getLocation()) + ": not valid JSON: " + oneLine(why), e);
        }
        return new FormatException("cannot read " + file + ": " + oneLine(e.getMessage()), e);
    }

    /** All bytes of a file that is at most {@code limit} bytes long. */
    public static byte[] readBytes(Path file, long limit) {
        try {
            if (Files.isDirectory(file)) {
                throw new FormatException(file + " is a folder, expected a file");
            }
            long size = Files.size(file);
            if (size > limit) {
                throw new FormatException(file + " has " + size + " bytes, more than the " + limit + " allowed");
            }
            return Files.readAllBytes(file);
        } catch (NoSuchFileException e) {
            throw new FormatException("no such file: " + file, e);
        } catch (IOException e) {
            throw new FormatException("cannot read " + file + ": " + why(e), e);
        }
    }

    /** Decodes UTF-8 strictly and skips a byte order mark; {@code file} is the name that the complaint gives. */
    public static String utf8(String file, byte[] bytes) {
        int start = bytes.length >= 3 && bytes[0] == (byte) 0xEF && bytes[1] == (byte) 0xBB && bytes[2] == (byte) 0xBF
                ? 3
                : 0;
        ByteBuffer in = ByteBuffer.wrap(bytes, start, bytes.length - start);
        try {
            return StandardCharsets.UTF_8
                    .newDecoder()
                    .onMalformedInput(CodingErrorAction.REPORT)
                    .onUnmappableCharacter(CodingErrorAction.REPORT)
                    .decode(in)
                    .toString();
        } catch (CharacterCodingException e) {
            throw new FormatException(
                    file + ": byte " + invalidAt(bytes, start) + " is not UTF-8; save the file as UTF-8", e);
        }
    }

    /** Where decoding stops: the offset of the first byte that cannot be. */
    private static int invalidAt(byte[] bytes, int start) {
        ByteBuffer in = ByteBuffer.wrap(bytes, start, bytes.length - start);
        var decoder = StandardCharsets.UTF_8.newDecoder();
        CharBuffer out = CharBuffer.allocate(8192);
        CoderResult result = decoder.decode(in, out, true);
        while (result.isOverflow()) {
            out.clear();
            result = decoder.decode(in, out, true);
        }
        return in.position();
    }

    public boolean isNull() {
        return node.isNull();
    }

    public boolean isObject() {
        return node.isObject();
    }

    public boolean isArray() {
        return node.isArray();
    }

    public boolean isString() {
        return node.isTextual();
    }

    /** Whether this object has {@code key} with a value that is not null. */
    public boolean has(String key) {
        return object().get(key) != null && !object().get(key).isNull();
    }

    /** Keys of this object, in the file's order, those with null included. */
    public Set<String> keys() {
        Set<String> keys = new LinkedHashSet<>();
        object().fieldNames().forEachRemaining(keys::add);
        return keys;
    }

    /** The value of {@code key}, which must be there (it may be null). */
    public Json get(String key) {
        JsonNode value = object().get(key);
        if (value == null) {
            throw new FormatException(where() + " has no " + quoted(key));
        }
        return new Json(file, path.isEmpty() ? key : path + "." + key, value);
    }

    /** Elements of this array. */
    public List<Json> elements() {
        if (!node.isArray()) {
            throw expected("a list");
        }
        List<Json> out = new ArrayList<>(node.size());
        for (int i = 0; i < node.size(); i++) {
            out.add(new Json(file, path + "[" + i + "]", node.get(i)));
        }
        return out;
    }

    /** This value as a string. */
    public String string() {
        if (!node.isTextual()) {
            throw expected("a string");
        }
        return node.textValue();
    }

    /** This value as a whole number; 2.0 is one, 2.5 is not. */
    public long integer() {
        if (node.isIntegralNumber() && node.canConvertToLong()) {
            return node.longValue();
        }
        if (node.isFloatingPointNumber() && node.doubleValue() == (double) node.longValue()) {
            return node.longValue();
        }
        throw expected("a whole number of at most 64 bits");
    }

    /** This value as a whole number within {@code min..max}, both included. */
    public int intBetween(int min, int max) {
        long value = integer();
        if (value < min || value > max) {
            throw expected("a whole number from " + min + " to " + max);
        }
        return (int) value;
    }

    /** This value as a number. */
    public double number() {
        if (!node.isNumber()) {
            throw expected("a number");
        }
        return node.doubleValue();
    }

    public boolean bool() {
        if (!node.isBoolean()) {
            throw expected("true or false");
        }
        return node.booleanValue();
    }

    public String string(String key) {
        return get(key).string();
    }

    public long integer(String key) {
        return get(key).integer();
    }

    public double number(String key) {
        return get(key).number();
    }

    public boolean bool(String key) {
        return get(key).bool();
    }

    /** {@link #string(String)}, or {@code absent} where the key is missing or null; so for the other types. */
    public String string(String key, String absent) {
        return has(key) ? string(key) : absent;
    }

    public long integer(String key, long absent) {
        return has(key) ? integer(key) : absent;
    }

    public double number(String key, double absent) {
        return has(key) ? number(key) : absent;
    }

    public boolean bool(String key, boolean absent) {
        return has(key) ? bool(key) : absent;
    }

    /** A complaint about this value, for the caller to throw: {@code config.json: text_config.num_heads: why}. */
    public FormatException error(String why) {
        return new FormatException(path.isEmpty() ? file + ": " + why : file + ": " + path + ": " + why);
    }

    private FormatException expected(String what) {
        return error("expected " + what + ", got " + shown());
    }

    private String shown() {
        String text = node.toString();
        return text.length() <= 60 ? text : text.substring(0, 60) + "...";
    }

    private JsonNode object() {
        if (!node.isObject()) {
            throw expected("an object {...}");
        }
        return node;
    }

    private String where() {
        return path.isEmpty() ? file + ":" : file + ": " + path;
    }

    static String quoted(String name) {
        return '"' + name + '"';
    }

    /** What an I/O error says, without the path that the message around it already names. */
    static String why(IOException e) {
        if (e instanceof java.nio.file.AccessDeniedException) {
            return "permission denied";
        }
        if (e instanceof java.nio.file.FileSystemException f && f.getReason() != null) {
            return oneLine(f.getReason());
        }
        return e.getMessage() == null ? e.getClass().getSimpleName() : oneLine(e.getMessage());
    }

    private static String at(JsonLocation location) {
        return location == null || location.getLineNr() < 0
                ? ""
                : ":" + location.getLineNr() + ":" + location.getColumnNr();
    }

    static String oneLine(String text) {
        return text == null ? "unknown error" : text.strip().replaceAll("\\s+", " ");
    }
}
