package lapidary.format;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;

/**
 * Writes safetensors files, byte for byte as the reference library does: compact header padded with spaces to a multiple of
 * eight, metadata first (its keys sorted, where the library's order is random), then tensors by width of dtype, then
 * by name. Data are streamed, no second copy is made. The file appears complete or not at all ({@link AtomicFile}).
 */
public final class SafetensorsWriter {
    private SafetensorsWriter() {}

    /**
     * A tensor to write.
     *
     * @param dtype the format's word, like {@code BF16}
     * @param data asked once, when the tensor's turn comes: hands its bytes, row-major and little-endian, to the consumer in
     *     as many pieces as it likes
     */
    public record Item(String name, String dtype, long[] shape, Consumer<Consumer<MemorySegment>> data) {
        public Item {
            if (name.equals("__metadata__")) {
                throw new IllegalArgumentException("a tensor cannot be called __metadata__");
            }
            if (TensorEntry.bits(dtype) < 0) {
                throw new IllegalArgumentException("unknown dtype \"" + dtype + "\" of tensor \"" + name + "\"");
            }
            for (long axis : shape) {
                if (axis < 0) {
                    throw new IllegalArgumentException(
                            "tensor \"" + name + "\" has a negative axis: " + Arrays.toString(shape));
                }
            }
        }

        /** A tensor that lies in memory as it goes to the file. */
        public static Item of(String name, String dtype, long[] shape, MemorySegment data) {
            return new Item(name, dtype, shape, out -> out.accept(data));
        }

        /** An F32 tensor. */
        public static Item of(String name, long[] shape, float[] data) {
            return of(name, "F32", shape, littleEndian(data));
        }

        /** Length of the data in the file. */
        public long bytes() {
            long bits = TensorEntry.bits(dtype);
            for (long axis : shape) {
                bits = Math.multiplyExact(bits, axis);
            }
            if (bits % 8 != 0) {
                throw new IllegalArgumentException("tensor \"" + name + "\" does not fill whole bytes");
            }
            return bits / 8;
        }

        private static MemorySegment littleEndian(float[] data) {
            if (ByteOrder.nativeOrder() == ByteOrder.LITTLE_ENDIAN) {
                return MemorySegment.ofArray(data);
            }
            ByteBuffer bytes =
                    ByteBuffer.allocate(Math.multiplyExact(4, data.length)).order(ByteOrder.LITTLE_ENDIAN);
            bytes.asFloatBuffer().put(data);
            return MemorySegment.ofBuffer(bytes);
        }
    }

    /**
     * Writes {@code items} to {@code file}.
     *
     * @throws IllegalArgumentException two items of one name, or an item whose data have another length than its shape
     * @throws FormatException the file cannot be written
     */
    public static void write(Path file, Map<String, String> metadata, List<Item> items) {
        List<Item> sorted = sorted(items);
        byte[] header = header(metadata, sorted);
        AtomicFile.write(file, out -> {
            ByteBuffer start = ByteBuffer.allocate(8 + header.length).order(ByteOrder.LITTLE_ENDIAN);
            AtomicFile.writeFully(out, start.putLong(header.length).put(header).flip());
            for (Item item : sorted) {
                writeData(out, item);
            }
        });
    }

    private static void writeData(FileChannel out, Item item) throws IOException {
        long start = out.position();
        item.data().accept(piece -> {
            try {
                AtomicFile.writeFully(out, piece);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        });
        long written = out.position() - start;
        if (written != item.bytes()) {
            throw new IllegalArgumentException("tensor \"" + item.name() + "\" gave " + written + " bytes, expected "
                    + item.bytes() + " for " + item.dtype() + " " + Arrays.toString(item.shape()));
        }
    }

    private static List<Item> sorted(List<Item> items) {
        Set<String> names = new HashSet<>();
        for (Item item : items) {
            if (!names.add(item.name())) {
                throw new IllegalArgumentException("two tensors are called \"" + item.name() + "\"");
            }
        }
        Comparator<Item> wideFirst = Comparator.comparing(
                (Item item) -> TensorEntry.DTYPES.indexOf(item.dtype()), Collections.reverseOrder());
        return items.stream()
                .sorted(wideFirst.thenComparing(Item::name, JsonWriter::compareCodePoints))
                .toList();
    }

    private static byte[] header(Map<String, String> metadata, List<Item> items) {
        Map<String, Object> header = new LinkedHashMap<>();
        if (!metadata.isEmpty()) {
            Map<String, String> ordered = new TreeMap<>(JsonWriter::compareCodePoints);
            ordered.putAll(metadata);
            header.put("__metadata__", ordered);
        }
        long at = 0;
        for (Item item : items) {
            long end = Math.addExact(at, item.bytes());
            Map<String, Object> slot = new LinkedHashMap<>();
            slot.put("dtype", item.dtype());
            slot.put("shape", Arrays.stream(item.shape()).boxed().toList());
            slot.put("data_offsets", List.of(at, end));
            header.put(item.name(), slot);
            at = end;
        }
        byte[] json = JsonWriter.compact(header).getBytes(StandardCharsets.UTF_8);
        byte[] padded = Arrays.copyOf(json, (json.length + 7) / 8 * 8);
        Arrays.fill(padded, json.length, padded.length, (byte) ' ');
        return padded;
    }
}
