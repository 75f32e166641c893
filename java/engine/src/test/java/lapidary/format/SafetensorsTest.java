package lapidary.format;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Golden files: bench/reference/make_format_golden.py (safetensors 0.8.0). */
class SafetensorsTest {
    @TempDir
    Path dir;

    @Test
    void readsWhatPythonWrote() throws IOException {
        try (Safetensors file = Safetensors.open(golden("mixed.safetensors"))) {
            assertEquals(Map.of("format", "pt"), file.metadata());
            assertEquals(10, file.names().size());
            TensorEntry b = file.entry("b.f32");
            assertEquals("F32", b.dtype());
            assertArrayEquals(new long[] {3, 5}, b.shape());
            assertEquals(15, b.elements());
            for (int i = 0; i < 15; i++) {
                assertEquals(i / 4f, b.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i));
            }
            assertEquals(0x3f40, file.entry("é\n\u0001\"\\ 😀").data().get(ValueLayout.JAVA_SHORT_UNALIGNED, 6));
            assertEquals(7, file.entry("scalar").data().get(ValueLayout.JAVA_LONG_UNALIGNED, 0));
            assertEquals(1, file.entry("scalar").elements());
            assertArrayEquals(new long[] {0, 9}, file.entry("empty").shape());
            assertEquals(0, file.entry("empty").data().byteSize());
            assertEquals("BOOL", file.entry("flags").dtype());
            assertTrue(b.data().isReadOnly());
            assertTrue(b.alignment() >= 1 && b.data().address() % b.alignment() == 0);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"mixed.safetensors", "adapter.safetensors"})
    void writesTheBytesThatPythonWrites(String name) throws IOException {
        Path copy = dir.resolve("copy.safetensors");
        try (Safetensors file = Safetensors.open(golden(name))) {
            List<SafetensorsWriter.Item> items = new ArrayList<>();
            for (TensorEntry e : file.entries().values()) {
                items.add(SafetensorsWriter.Item.of(e.name(), e.dtype(), e.shape(), e.data()));
            }
            Collections.shuffle(items, new Random(1)); // the writer sorts
            SafetensorsWriter.write(copy, file.metadata(), items);
        }
        assertArrayEquals(bytes(name), Files.readAllBytes(copy));
    }

    @Test
    void writesPiecesFromHeapAndNativeMemory() throws IOException {
        Path path = dir.resolve("deep/er/a.safetensors");
        float[] values = {1, 2, 3, -0f, Float.NaN, Float.POSITIVE_INFINITY};
        MemorySegment all = MemorySegment.ofArray(values);
        SafetensorsWriter.write(
                path,
                Map.of(),
                List.of(
                        SafetensorsWriter.Item.of("whole", new long[] {2, 3}, values),
                        new SafetensorsWriter.Item("pieces", "F32", new long[] {6}, out -> {
                            out.accept(all.asSlice(0, 4));
                            out.accept(all.asSlice(4, 0));
                            out.accept(all.asSlice(4));
                        })));
        try (Safetensors file = Safetensors.open(path)) {
            assertTrue(file.metadata().isEmpty());
            assertEquals(
                    -1, file.entry("pieces").data().mismatch(file.entry("whole").data()));
            assertEquals(-1, file.entry("whole").data().mismatch(all));
            assertEquals(List.of("pieces", "whole"), List.copyOf(file.names()));
        }
        assertEquals(List.of("a.safetensors"), list(path.getParent()));
    }

    @Test
    void writerRefusesWrongLengthsAndLeavesNothing() throws IOException {
        Path path = dir.resolve("a.safetensors");
        var wrong = SafetensorsWriter.Item.of("w", "F32", new long[] {2}, MemorySegment.ofArray(new float[3]));
        assertMessage(
                assertThrows(
                        IllegalArgumentException.class, () -> SafetensorsWriter.write(path, Map.of(), List.of(wrong))),
                "\"w\"",
                "12 bytes",
                "expected 8");
        var twin = SafetensorsWriter.Item.of("w", new long[] {1}, new float[1]);
        assertThrows(
                IllegalArgumentException.class, () -> SafetensorsWriter.write(path, Map.of(), List.of(twin, twin)));
        assertThrows(
                IllegalArgumentException.class,
                () -> SafetensorsWriter.Item.of("w", "FLOAT", new long[] {1}, MemorySegment.ofArray(new float[1])));
        assertThrows(
                IllegalArgumentException.class,
                () -> SafetensorsWriter.Item.of("__metadata__", new long[] {1}, new float[1]));
        assertEquals(List.of(), list(dir));
    }

    static Stream<Arguments> damaged() {
        String one = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
        String big = "9223372036854775807";
        return Stream.of(
                damage("header is not JSON", file("{nonsense}", 0), "not valid JSON"),
                damage("header cut", file("{\"a\":{\"dtype\":\"F32\"", 0), "not valid JSON"),
                damage("header is a list", file("[]", 0), "start with {"),
                damage("header starts with a space", file(" {}", 0), "start with {"),
                damage("two objects", file("{}{}", 0), "something after"),
                damage("comment in header", file("{/*x*/}", 0), "not valid JSON"),
                damage(
                        "duplicate tensor",
                        file(
                                "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                                        + "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                                2),
                        "uplicate"),
                damage(
                        "duplicate key in tensor",
                        file("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1),
                        "uplicate"),
                damage("data cut", file(one, 7), "\"a\"", "truncated"),
                damage("rest", file(one, 9), "1 bytes follow"),
                damage("data without tensors", file("{}", 3), "3 bytes follow"),
                damage("hole at start", file(tensor("U8", "[2]", 1, 3), 3), "hole of 1"),
                damage(
                        "hole",
                        file(
                                "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                                        + "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
                                3),
                        "\"b\"",
                        "hole of 1"),
                damage(
                        "overlap",
                        file(
                                "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                                        + "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
                                4),
                        "\"b\"",
                        "inside of \"a\""),
                damage("shape too small", file(tensor("F32", "[1]", 0, 8), 8), "takes 4 bytes"),
                damage("dtype too small", file(tensor("BF16", "[2]", 0, 8), 8), "takes 4 bytes"),
                damage("offsets reversed", file(tensor("U8", "[1]", 1, 0), 1), "data_offsets"),
                damage("offset beyond", file(tensor("U8", "[" + big + "]", 0, Long.MAX_VALUE), 4), "do not lie"),
                damage("product", file(tensor("U8", "[4294967296,4294967296]", 0, 4), 4), "more elements"),
                damage("bits", file(tensor("F64", "[2305843009213693952]", 0, 4), 4), "more elements"),
                damage("before zero", file(tensor("U8", "[" + big + "," + big + ",0]", 0, 0), 0), "more elem"),
                damage("negative axis", file(tensor("U8", "[-1]", 0, 1), 1), "shape holds -1"),
                damage("fraction", file(tensor("U8", "[1.0]", 0, 1), 1), "not a whole number"),
                damage("exponent", file(tensor("U8", "[1e0]", 0, 1), 1), "not a whole number"),
                damage("huge axis", file(tensor("U8", "[99999999999999999999]", 0, 1), 1), "2^63"),
                damage("unknown dtype", file(tensor("F33", "[1]", 0, 4), 4), "\"a\"", "F33", "BF16"),
                damage("half bytes", file(tensor("F4", "[3]", 0, 1), 1), "whole bytes"),
                damage("no dtype", file("{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1), "expected a dtype"),
                damage("no shape", file("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1), "a shape"),
                damage("no offsets", file("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1), "data_offsets"),
                damage(
                        "three offsets",
                        file("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}", 1),
                        "data_offsets"),
                damage("tensor is null", file("{\"a\":null}", 0), "expected an object"),
                damage("metadata is a list", file("{\"__metadata__\":[]}", 0), "__metadata__"),
                damage("metadata value", file("{\"__metadata__\":{\"k\":1}}", 0), "__metadata__", "\"k\""),
                damage("surrogate in name", file("{\"\\ud800\":{}}", 0), "surrogate"),
                damage("bad UTF-8", raw(8, new byte[] {'{', '"', (byte) 0xC3, '"', ':', '1', '}', ' '}), "UTF-8"),
                damage("UTF-16", raw(8, new byte[] {'{', 0, '}', 0, ' ', 0, ' ', 0}), "not valid JSON"),
                damage("empty file", new byte[0], "has 0 bytes", "truncated"),
                damage("seven bytes", new byte[7], "has 7 bytes"),
                damage("length 0", raw(0, new byte[8]), "header length is 0"),
                damage("length negative", raw(-2, new byte[8]), "header length is 18446744073709551614"),
                damage("length > file", raw(9, "{}      ".getBytes(StandardCharsets.UTF_8)), "only 8 bytes follow"),
                damage("length > limit", raw(100_000_001, new byte[8]), "header length is 100000001"),
                damage("length huge", raw(Long.MAX_VALUE, new byte[8]), "header length"),
                damage("LFS pointer", "version https://git-lfs.github.com".getBytes(StandardCharsets.UTF_8), "LFS"),
                damage("zip", "PK\u0003\u0004 and more".getBytes(StandardCharsets.UTF_8), "zip archive"),
                damage("gguf", "GGUF\u0003\0\0\0 more".getBytes(StandardCharsets.UTF_8), "GGUF"),
                damage(
                        "deep",
                        file("{\"a\":{\"x\":" + "[".repeat(5000) + "]".repeat(5000) + "}}", 0),
                        "not valid JSON"));
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("damaged")
    void refusesDamage(String what, byte[] content, List<String> words) throws IOException {
        Path file = dir.resolve("bad.safetensors");
        Files.write(file, content);
        FormatException e = assertThrows(FormatException.class, () -> Safetensors.open(file));
        assertMessage(e, "bad.safetensors");
        assertMessage(e, words.toArray(String[]::new));
        assertFalse(e.getMessage().contains("\n"), e.getMessage());
    }

    private static Arguments damage(String what, byte[] content, String... words) {
        return Arguments.of(what, content, List.of(words));
    }

    static Stream<Arguments> unusual() {
        return Stream.of(
                Arguments.of("nothing", file("{}", 0), 0),
                Arguments.of("only metadata", file("{\"__metadata__\":{\"format\":\"pt\"}}", 0), 0),
                Arguments.of("null metadata", file("{\"__metadata__\":null}", 0), 0),
                Arguments.of("zero axes", file(tensor("F32", "[0," + Long.MAX_VALUE + "]", 0, 0), 0), 1),
                Arguments.of("scalar", file(tensor("F64", "[]", 0, 8), 8), 1),
                Arguments.of("odd header length", file("{} ", 0), 0),
                Arguments.of("four-bit pairs", file(tensor("F4", "[4]", 0, 2), 2), 1),
                Arguments.of(
                        "unknown key and order",
                        file("{\"a\":{\"data_offsets\":[0,1],\"x\":{\"y\":[1]},\"shape\":[1],\"dtype\":\"I8\"}}", 1),
                        1),
                Arguments.of(
                        "empties at every edge",
                        file(
                                "{\"c\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]},"
                                        + "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                                        + "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                                2),
                        3));
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("unusual")
    void readsTheUnusual(String what, byte[] content, int tensors) throws IOException {
        Path path = dir.resolve("ok.safetensors");
        Files.write(path, content);
        try (Safetensors file = Safetensors.open(path)) {
            assertEquals(tensors, file.names().size());
        }
    }

    @ParameterizedTest
    @org.junit.jupiter.params.provider.CsvSource({
        "BOOL,8", "F4,4", "F6_E2M3,6", "F6_E3M2,6", "U8,8", "I8,8", "F8_E5M2,8", "F8_E4M3,8", "F8_E8M0,8", "I16,16",
        "U16,16", "F16,16", "BF16,16", "I32,32", "U32,32", "F32,32", "C64,64", "F64,64", "I64,64", "U64,64"
    })
    void knowsEveryDtypesWidth(String dtype, int bits) throws IOException {
        Path path = dir.resolve("w.safetensors");
        Files.write(path, file(tensor(dtype, "[8]", 0, bits), bits));
        try (Safetensors file = Safetensors.open(path)) {
            assertEquals(bits, file.entry("a").data().byteSize());
        }
    }

    @Test
    void readsManyTensors() throws IOException {
        int n = 100_000;
        StringBuilder header = new StringBuilder("{");
        for (int i = 0; i < n; i++) {
            header.append(i == 0 ? "" : ",")
                    .append("\"model.layers.")
                    .append(i)
                    .append(".weight\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[")
                    .append(i)
                    .append(',')
                    .append(i + 1)
                    .append("]}");
        }
        Path path = dir.resolve("many.safetensors");
        Files.write(path, file(header.append('}').toString(), n));
        try (Safetensors file = Safetensors.open(path)) {
            assertEquals(n, file.names().size());
            assertEquals((byte) 77, file.entry("model.layers.77.weight").data().get(ValueLayout.JAVA_BYTE, 0));
        }
    }

    @Test
    void tellsMissingFilesFoldersTensorsAndChanges() throws IOException {
        assertMessage(
                assertThrows(FormatException.class, () -> Safetensors.open(dir.resolve("none.safetensors"))),
                "no such file",
                "none.safetensors");
        assertMessage(assertThrows(FormatException.class, () -> Safetensors.open(dir)), "is a folder");
        Path path = dir.resolve("a.safetensors");
        Files.write(path, file(tensor("U8", "[1]", 0, 1), 1));
        try (Safetensors file = Safetensors.open(path)) {
            assertMessage(assertThrows(FormatException.class, () -> file.entry("b")), "a.safetensors", "\"b\"");
            assertMessage(file.entry("a").error("too small"), "a.safetensors", "\"a\"", "U8 [1]", "too small");
            file.checkUnchanged();
            Files.setLastModifiedTime(path, FileTime.fromMillis(1));
            assertMessage(assertThrows(FormatException.class, file::checkUnchanged), "was changed");
        }
    }

    @Test
    void dataDieWithTheFile() throws IOException {
        Path path = dir.resolve("a.safetensors");
        Files.write(path, file(tensor("U8", "[1]", 0, 1), 1));
        TensorEntry entry;
        try (Safetensors file = Safetensors.open(path)) {
            entry = file.entry("a");
        }
        assertThrows(IllegalStateException.class, () -> entry.data().get(ValueLayout.JAVA_BYTE, 0));
    }

    /** Any single flipped bit of the header part gives either a readable file or our own error. */
    @Test
    void survivesEveryFlippedBit() throws IOException {
        byte[] good = bytes("adapter.safetensors");
        Set<String> outcomes = new TreeSet<>();
        Path path = dir.resolve("flipped.safetensors");
        for (int bit = 0; bit < 8 * 400; bit++) {
            byte[] bad = good.clone();
            bad[bit / 8] ^= (byte) (1 << bit % 8);
            Files.write(path, bad);
            try {
                Safetensors.open(path).close();
                outcomes.add("read");
            } catch (FormatException e) {
                outcomes.add("refused");
            }
        }
        assertEquals(Set.of("read", "refused"), outcomes);
    }

    static Path golden(String name) {
        return Path.of("src/test/resources/lapidary/format").resolve(name);
    }

    private static byte[] bytes(String name) throws IOException {
        try (InputStream in = SafetensorsTest.class.getResourceAsStream(name)) {
            return in.readAllBytes();
        }
    }

    static List<String> list(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(f -> f.getFileName().toString()).sorted().toList();
        }
    }

    static void assertMessage(Throwable e, String... parts) {
        for (String part : parts) {
            assertTrue(e.getMessage().contains(part), () -> "\"" + part + "\" not in: " + e.getMessage());
        }
    }

    static String tensor(String dtype, String shape, long begin, long end) {
        return "{\"a\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" + begin + "," + end
                + "]}}";
    }

    /** A file with this header and {@code data} bytes 0, 1, 2, ... */
    static byte[] file(String header, int data) {
        byte[] json = header.getBytes(StandardCharsets.UTF_8);
        byte[] rest = new byte[data];
        for (int i = 0; i < data; i++) {
            rest[i] = (byte) i;
        }
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.writeBytes(raw(json.length, json));
        out.writeBytes(rest);
        return out.toByteArray();
    }

    private static byte[] raw(long length, byte[] rest) {
        byte[] out = Arrays.copyOf(
                ByteBuffer.allocate(8)
                        .order(ByteOrder.LITTLE_ENDIAN)
                        .putLong(length)
                        .array(),
                8 + rest.length);
        System.arraycopy(rest, 0, out, 8, rest.length);
        return out;
    }
}
