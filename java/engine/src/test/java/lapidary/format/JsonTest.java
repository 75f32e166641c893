package lapidary.format;

import static lapidary.format.SafetensorsTest.assertMessage;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Golden files: bench/reference/make_format_golden.py (Python's json). */
class JsonTest {
    @TempDir
    Path dir;

    @Test
    void floatsAreWrittenAsPythonWritesThem() throws IOException {
        List<String> lines = Files.readAllLines(SafetensorsTest.golden("floats.txt"));
        assertTrue(lines.size() > 2000);
        for (String line : lines) {
            String[] parts = line.split(" ");
            assertEquals(parts[1], JsonWriter.repr(Double.longBitsToDouble(Long.parseUnsignedLong(parts[0], 16))));
        }
    }

    @Test
    void textIsPythons() throws IOException {
        Map<String, Object> x = new LinkedHashMap<>();
        x.put("z", null);
        x.put("a", Arrays.asList(1, 2.5, true, false, List.of(), Map.of(), List.of(List.of()), Map.of("x", Map.of())));
        x.put("", "");
        x.put("é", "naïve 你好 😀 \u2028 \u007f \0\u001f\b\f\n\r\t\"\\/");
        x.put("\uffff", 1e-5);
        x.put("😀", -3L);
        x.put("big", new BigInteger("1000000000000000019884624838656"));
        x.put("nan", Double.NaN);
        x.put("inf", List.of(Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY));
        Map<String, Object> nested = new LinkedHashMap<>();
        nested.put("b", List.of(Map.of("k", "v"), 1e16));
        nested.put("B", 0.0);
        x.put("nested", nested);
        assertEquals(golden("sorted.json"), JsonWriter.sorted(x));
        assertEquals(golden("line.json"), JsonWriter.line(x));
        assertEquals(golden("unicode.json"), JsonWriter.indentedUnicode(x));
        // and what was read is written the same again
        assertEquals(golden("line.json"), JsonWriter.line(Json.parse("x", golden("line.json"))));
        assertEquals(
                golden("sorted.json"),
                JsonWriter.sorted(Json.parse("x", golden("line.json")).node()));
    }

    @Test
    void aFloatIsWidened() {
        assertEquals("[0.10000000149011612]", JsonWriter.line(List.of(0.1f)));
        assertThrows(IllegalArgumentException.class, () -> JsonWriter.line(List.of(new Object())));
    }

    @Test
    void complaintsNameFileAndPath() {
        Json json = Json.parse(
                "config.json",
                "{\"text\": {\"n\": 3, \"layers\": [1, \"x\"], \"f\": 2.0, \"h\": 2.5, \"big\": 1e300, \"no\": null,"
                        + " \"s\": \"str\", \"t\": true}}");
        Json text = json.get("text");
        assertEquals(3, text.integer("n"));
        assertEquals(2, text.integer("f"));
        assertEquals(2.5, text.number("h"));
        assertEquals("str", text.string("s"));
        assertTrue(text.bool("t"));
        assertEquals(7, text.integer("no", 7));
        assertEquals("d", text.string("missing", "d"));
        assertEquals(3, text.get("n").intBetween(3, 3));
        assertFalse(text.has("no"));
        assertTrue(text.get("no").isNull());
        assertEquals(List.of("n", "layers", "f", "h", "big", "no", "s", "t"), List.copyOf(text.keys()));
        refused(() -> text.get("missing"), "config.json", "text has no \"missing\"");
        refused(() -> json.get("missing"), "config.json: has no \"missing\"");
        refused(() -> text.get("layers").elements().get(1).integer(), "text.layers[1]", "whole number", "\"x\"");
        refused(() -> text.integer("h"), "text.h", "2.5");
        refused(() -> text.integer("big"), "text.big");
        refused(() -> text.string("n"), "text.n: expected a string, got 3");
        refused(() -> text.bool("n"), "true or false");
        refused(() -> text.number("s"), "a number");
        refused(() -> text.get("n").get("x"), "text.n", "an object");
        refused(() -> text.get("n").elements(), "a list");
        refused(() -> text.get("n").intBetween(4, 9), "from 4 to 9");
        refused(() -> text.string("n", "default"), "text.n");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "  ",
                "{",
                "{\"a\":1,}",
                "{\"a\":1} x",
                "{\"a\":1}{}",
                "{'a':1}",
                "{\"a\":1,\"a\":2}",
                "{\"x\":{\"b\":1,\"b\":1}}",
                "[01]",
                "nul",
                "\"\u0001\"",
                "// c\n1"
            })
    void refusesWhatIsNotStrictJson(String text) {
        FormatException e = assertThrows(FormatException.class, () -> Json.parse("f.json", text));
        assertMessage(e, "f.json");
        assertFalse(e.getMessage().contains("\n"), e.getMessage());
    }

    @Test
    void keepsLoneSurrogatesOfStrings() {
        assertEquals("a\ud800", Json.parse("x", "\"a\\ud800\"").string());
        assertEquals("\udc00b", Json.parse("x", "\"\\udc00b\"").string());
        assertEquals("\"a\\ud800\"", JsonWriter.compact("a\ud800"));
    }

    @Test
    void tellsLineAndColumn() {
        assertMessage(assertThrows(FormatException.class, () -> Json.parse("f", "{\n \"a\" 1}")), "f:2:");
    }

    @Test
    void readsFiles() throws IOException {
        Path file = dir.resolve("a.json");
        Files.write(file, "\uFEFF{\"a\": NaN, \"b\": -Infinity}".getBytes(StandardCharsets.UTF_8));
        assertTrue(Double.isNaN(Json.read(file).number("a")));
        assertEquals(Double.NEGATIVE_INFINITY, Json.read(file).number("b"));
        Files.write(file, new byte[] {'"', 'a', (byte) 0xff, '"'});
        refused(() -> Json.read(file), "a.json", "byte 2 is not UTF-8");
        byte[] late = new byte[100_000];
        Arrays.fill(late, (byte) ' ');
        late[99_999] = (byte) 0x80;
        Files.write(file, late);
        refused(() -> Json.read(file), "byte 99999 is not UTF-8");
        refused(() -> Json.read(dir.resolve("no.json")), "no such file", "no.json");
        refused(() -> Json.read(dir), "is a folder");
        refused(() -> Json.readBytes(file, 10), "more than the 10 allowed");
        refused(() -> Json.parse("deep", "[".repeat(100_000)), "deep");
        refused(() -> Json.parse("deep", "[".repeat(300) + "]".repeat(300)), "deep");
    }

    private static void refused(org.junit.jupiter.api.function.Executable read, String... parts) {
        assertMessage(assertThrows(FormatException.class, read), parts);
    }

    private static String golden(String name) throws IOException {
        return Files.readString(SafetensorsTest.golden(name));
    }

    @Test
    void anUnclosedObjectIsToldWithoutTheParsersOwnTerms() {
        var error =
                assertThrows(FormatException.class, () -> Json.parse("f.json", "{\"messages\": [{\"role\": \"user\""));
        assertTrue(error.getMessage().startsWith("f.json"), error.getMessage());
        assertFalse(error.getMessage().contains("Source"), error.getMessage());
    }
}
