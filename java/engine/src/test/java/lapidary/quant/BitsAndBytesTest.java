package lapidary.quant;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import lapidary.DeviceTest;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.SafetensorsWriter;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.format.TensorEntry;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Reading and writing bitsandbytes' layout: files that it wrote, and damaged ones. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class BitsAndBytesTest extends DeviceTest {
    private static final Path GOLDEN = Path.of("src/test/resources/golden");
    private static final String STATE = ".quant_state.bitsandbytes__nf4";

    /** One matrix of the nested checkpoint. */
    private static final String FC1 = "vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight";

    @TempDir
    private Path folder;

    BitsAndBytesTest(Device device) {
        super(device);
    }

    private static byte[] bytes(Tensor x) {
        return x.isNone() ? new byte[0] : x.toHost().toArray(ValueLayout.JAVA_BYTE);
    }

    private static void assertSame(Nf4Tensor expected, Nf4Tensor actual) {
        assertArrayEquals(bytes(expected.packed()), bytes(actual.packed()));
        assertArrayEquals(bytes(expected.absmax()), bytes(actual.absmax()));
        assertArrayEquals(bytes(expected.absmaxCodes()), bytes(actual.absmaxCodes()));
        assertArrayEquals(bytes(expected.nestedAbsmax()), bytes(actual.nestedAbsmax()));
        assertArrayEquals(bytes(expected.nestedMap()), bytes(actual.nestedMap()));
        assertEquals(expected.nestedOffset(), actual.nestedOffset());
    }

    /** What bitsandbytes stored is what the quantiser makes of the plain checkpoint, and what is written of it again. */
    @ParameterizedTest
    @CsvSource({"multimodal,true,BFLOAT16,53", "text,false,UINT8,21"})
    void aCheckpointOfBitsandbytes(String model, boolean nested, QuantStorage storage, int matrices) {
        try (Checkpoint plain = Checkpoint.open(GOLDEN.resolve(model));
                Checkpoint stored = Checkpoint.open(GOLDEN.resolve(model + "_nf4"))) {
            BitsAndBytes reader = new BitsAndBytes(stored, frame);
            Nf4Quantizer quantizer = new Nf4Quantizer(frame, DType.BF16, nested);
            int found = 0;
            for (String name : plain.names()) {
                if (!BitsAndBytes.isQuantized(stored, name)) {
                    continue;
                }
                found++;
                TensorEntry entry = plain.entry(name);
                Nf4Tensor quantized = quantizer.quantize(entry);
                assertSame(quantized, reader.read(name, entry.shape()[0], entry.shape()[1]));
                for (Item item : BitsAndBytes.items(name, quantized, DType.BF16, storage)) {
                    TensorEntry expected = stored.entry(item.name());
                    assertEquals(expected.dtype(), item.dtype(), item.name());
                    assertArrayEquals(expected.shape(), item.shape(), item.name());
                    item.data()
                            .accept(data -> assertArrayEquals(
                                    expected.data().toArray(ValueLayout.JAVA_BYTE),
                                    data.toArray(ValueLayout.JAVA_BYTE),
                                    item.name()));
                }
            }
            assertEquals(matrices, found);
        }
    }

    @ParameterizedTest
    @EnumSource
    void everyStorageHoldsTheSameBytes(QuantStorage storage) {
        try (Checkpoint stored = Checkpoint.open(GOLDEN.resolve("multimodal_nf4"))) {
            Nf4Tensor w = new BitsAndBytes(stored, frame).read(FC1, 92, 44);
            List<Item> items = BitsAndBytes.items("w", w, DType.F32, storage);
            SafetensorsWriter.write(folder.resolve("model.safetensors"), Map.of(), items);
            try (Checkpoint again = Checkpoint.open(folder)) {
                assertTrue(BitsAndBytes.isQuantized(again, "w"));
                assertEquals(6, again.names().size());
                assertEquals(5, BitsAndBytes.companions(again, "w").size());
                assertSame(w, new BitsAndBytes(again, frame).read("w", 92, 44));
            }
        }
    }

    @Test
    void aStorageThatDoesNotFitIsRefused() {
        Tensor packed = frame.zeros(DType.U8, 5);
        Nf4Tensor w = Nf4Tensor.of(packed, frame.zeros(DType.F32, 1), 2, 5);
        var error = assertThrows(
                IllegalArgumentException.class, () -> BitsAndBytes.items("w", w, DType.BF16, QuantStorage.BFLOAT16));
        assertTrue(error.getMessage().contains("bfloat16") && error.getMessage().contains("uint8"));
        assertEquals(
                5, BitsAndBytes.items("w", w, DType.BF16, QuantStorage.UINT8).size() + 1);
        var unknown = assertThrows(IllegalArgumentException.class, () -> QuantStorage.of("float8"));
        assertTrue(unknown.getMessage().contains("bfloat16"), unknown.getMessage());
    }

    /** Damage to one matrix's tensors, and words that the complaint holds. */
    private record Damage(String name, java.util.function.Consumer<Map<String, Item>> change, String... words) {
        @Override
        public String toString() {
            return name;
        }
    }

    static Stream<Damage> damages() {
        return Stream.of(
                state("no JSON", "{\"quant_type\": \"nf4\"", "not valid JSON"),
                state("empty", "", "empty"),
                state("not UTF-8", "\u00ff", "UTF-8"),
                state("a list", "[1]", "expected an object"),
                state("a key missing", "{\"quant_type\": \"nf4\", \"blocksize\": 64}", "dtype"),
                replaced("unknown key", "\"quant_type\"", "\"who\": 1, \"quant_type\"", "who", "not a key"),
                replaced("twice", "\"quant_type\"", "\"quant_type\": \"nf4\", \"quant_type\"", "quant_type"),
                replaced("unknown type", "\"nf4\"", "\"nf3\"", "quant_type", "nf3", "expected \"nf4\""),
                replaced("fp4 inside", "\"nf4\"", "\"fp4\"", "quant_type", "fp4"),
                replaced("block size", "\"blocksize\": 64", "\"blocksize\": 128", "blocksize", "128", "64"),
                replaced("block size text", "\"blocksize\": 64", "\"blocksize\": \"64\"", "blocksize", "number"),
                replaced("dtype", "\"bfloat16\"", "\"int8\"", "dtype", "int8"),
                replaced("shape", "[92, 44]", "[44, 92]", "shape", "[44, 92]", "[92, 44]", "config.json"),
                replaced("shape of one", "[92, 44]", "[4048]", "shape"),
                replaced("huge shape", "[92, 44]", "[9223372036854775807, 4]", "shape"),
                replaced("shape of floats", "[92, 44]", "[92.5, 44]", "shape"),
                replaced(
                        "nested block size",
                        "\"nested_blocksize\": 256",
                        "\"nested_blocksize\": 64",
                        "nested_blocksize"),
                replaced(
                        "nested dtype",
                        "\"nested_dtype\": \"float32\"",
                        "\"nested_dtype\": \"float16\"",
                        "nested_dtype"),
                replaced("half nested", ", \"nested_dtype\": \"float32\"", "", "all or none"),
                new Damage(
                        "offset of NaN",
                        items -> withState(
                                items, text -> text.replaceFirst("\"nested_offset\": .*}", "\"nested_offset\": NaN}")),
                        "nested_offset",
                        "finite"),
                new Damage(
                        "offset too large",
                        items -> withState(
                                items, text -> text.replaceFirst("\"nested_offset\": .*}", "\"nested_offset\": 1e60}")),
                        "nested_offset",
                        "finite"),
                removed(".absmax"),
                removed(".quant_map"),
                removed(".nested_absmax"),
                removed(".nested_quant_map"),
                removed(STATE),
                new Damage("a short packed tensor", items -> put(items, "", "BF16", 1011), "2022", "2024"),
                new Damage("a long packed tensor", items -> put(items, "", "U8", 2025), "2025", "2024"),
                new Damage("packed under an odd dtype", items -> put(items, "", "I32", 506), "storage"),
                new Damage("wrong block count", items -> put(items, ".absmax", "U8", 63), ".absmax", "[64]"),
                new Damage("absmax of another dtype", items -> put(items, ".absmax", "F32", 64), ".absmax", "U8 [64]"),
                new Damage(
                        "nested block count", items -> put(items, ".nested_absmax", "F32", 2), ".nested_absmax", "[1]"),
                new Damage("nested map", items -> put(items, ".nested_quant_map", "F32", 255), "[256]"),
                new Damage(
                        "a code one ulp off",
                        items -> {
                            float[] codes = Nf4.codes();
                            codes[3] = Math.nextUp(codes[3]);
                            items.put(".quant_map", Item.of("w.quant_map", new long[] {16}, codes));
                        },
                        ".quant_map",
                        "entry 3"),
                new Damage("code map", items -> put(items, ".quant_map", "F32", 16), ".quant_map", "entry 0", "-1.0"),
                new Damage(
                        "scale of NaN",
                        items -> items.put(
                                ".nested_absmax", Item.of("w.nested_absmax", new long[] {1}, new float[] {Float.NaN})),
                        ".nested_absmax",
                        "entry 0",
                        "NaN"),
                new Damage(
                        "fp4",
                        items -> items.put(
                                "fp4",
                                Item.of(
                                        "w.quant_state.bitsandbytes__fp4",
                                        "U8",
                                        new long[] {2},
                                        MemorySegment.ofArray("{}".getBytes(StandardCharsets.UTF_8)))),
                        "FP4"));
    }

    private static Damage state(String name, String json, String... words) {
        return new Damage("state: " + name, items -> withState(items, text -> json), words);
    }

    private static Damage replaced(String name, String from, String to, String... words) {
        return new Damage(name, items -> withState(items, text -> text.replace(from, to)), words);
    }

    private static Damage removed(String suffix) {
        return new Damage("without " + suffix, items -> items.remove(suffix), "w" + suffix, "missing");
    }

    private static void put(Map<String, Item> items, String suffix, String dtype, int elements) {
        int bytes = dtype.equals("U8") ? 1 : dtype.equals("BF16") ? 2 : 4;
        MemorySegment zeros = MemorySegment.ofArray(new byte[elements * bytes]);
        long[] shape = suffix.isEmpty() ? new long[] {elements, 1} : new long[] {elements};
        items.put(suffix, Item.of("w" + suffix, dtype, shape, zeros));
    }

    private static void withState(Map<String, Item> items, java.util.function.UnaryOperator<String> change) {
        List<String> text = new ArrayList<>();
        items.get(STATE)
                .data()
                .accept(data -> text.add(new String(data.toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8)));
        // ISO 8859-1, so that a letter beyond ASCII makes bytes that are not UTF-8
        byte[] json = change.apply(text.get(0)).getBytes(StandardCharsets.ISO_8859_1);
        items.put(STATE, Item.of("w" + STATE, "U8", new long[] {json.length}, MemorySegment.ofArray(json)));
    }

    @ParameterizedTest
    @MethodSource("damages")
    void damageIsOneClearLine(Damage damage) {
        try (Checkpoint stored = Checkpoint.open(GOLDEN.resolve("multimodal_nf4"))) {
            Nf4Tensor w = new BitsAndBytes(stored, frame).read(FC1, 92, 44);
            Map<String, Item> items = new TreeMap<>();
            for (Item item : BitsAndBytes.items("w", w, DType.BF16, QuantStorage.BFLOAT16)) {
                items.put(item.name().substring(1), item);
            }
            damage.change.accept(items);
            SafetensorsWriter.write(folder.resolve("model.safetensors"), Map.of(), List.copyOf(items.values()));
        }
        try (Checkpoint damaged = Checkpoint.open(folder)) {
            BitsAndBytes reader = new BitsAndBytes(damaged, frame);
            assertTrue(BitsAndBytes.isQuantized(damaged, "w"));
            String message = assertThrows(FormatException.class, () -> reader.read("w", 92, 44))
                    .getMessage();
            assertTrue(message.contains("model.safetensors") && message.contains("w"), message);
            assertFalse(message.contains("\n"), message);
            for (String word : damage.words) {
                assertTrue(message.contains(word), message);
            }
        }
    }

    @Test
    void int8IsRefusedByName() {
        SafetensorsWriter.write(
                folder.resolve("model.safetensors"),
                Map.of(),
                List.of(
                        Item.of("a.weight", "I8", new long[] {2, 2}, MemorySegment.ofArray(new byte[4])),
                        Item.of("a.SCB", new long[] {2}, new float[2])));
        try (Checkpoint checkpoint = Checkpoint.open(folder)) {
            assertTrue(BitsAndBytes.isQuantized(checkpoint, "a.weight"));
            BitsAndBytes reader = new BitsAndBytes(checkpoint, frame);
            String message = assertThrows(FormatException.class, () -> reader.read("a.weight", 2, 2))
                    .getMessage();
            assertTrue(message.contains("a.weight") && message.contains("LLM.int8"), message);
        }
    }
}
