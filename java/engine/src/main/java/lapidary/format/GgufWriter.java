package lapidary.format;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;

/**
 * Writes GGUF files, version 3, little-endian: metadata, then the tensors' descriptions, then their data, each at a multiple of
 * 32 bytes. Data are streamed. The file appears complete or not at all ({@link AtomicFile}).
 *
 * @see <a href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md">the format</a>
 */
public final class GgufWriter {
    static final int MAGIC = 0x46554747; // "GGUF"
    static final int VERSION = 3;
    static final int ALIGNMENT = 32; // bytes, the format's default

    /** Longest name of a tensor that ggml holds, bytes. */
    private static final int MAX_NAME = 63;

    private GgufWriter() {}

    /** How a tensor's values are stored: so many in a block of so many bytes. */
    public enum Type {
        F32(0, 1, 4),
        F16(1, 1, 2),
        /** Blocks of 32: a scale in F16, then 32 signed bytes. */
        Q8_0(8, 32, 34),
        BF16(30, 1, 2);

        private final int code;
        private final int block;
        private final int bytes;

        Type(int code, int block, int bytes) {
            this.code = code;
            this.block = block;
            this.bytes = bytes;
        }

        /** The format's number. */
        public int code() {
            return code;
        }

        /** Values in a block; rows are whole blocks. */
        public int block() {
            return block;
        }

        /** Bytes of so many values. */
        public long bytes(long values) {
            return Math.multiplyExact(values / block, (long) bytes);
        }
    }

    /**
     * A tensor to write.
     *
     * @param shape outermost axis first; the file has them the other way round
     * @param data asked once, when the tensor's turn comes: hands its bytes on in as many pieces as it likes
     */
    public record Item(String name, Type type, long[] shape, Consumer<Consumer<MemorySegment>> data) {
        public Item {
            if (name.getBytes(StandardCharsets.UTF_8).length > MAX_NAME) {
                throw new IllegalArgumentException(
                        "[gguf] name " + name + " is longer than " + MAX_NAME + " bytes, which ggml does not read");
            }
            if (shape.length < 1 || shape.length > 4 || Arrays.stream(shape).anyMatch(axis -> axis < 1)) {
                throw new IllegalArgumentException("[gguf] " + name + " is " + Arrays.toString(shape)
                        + ", expected one to four axes of at least 1");
            }
            if (shape[shape.length - 1] % type.block() != 0) {
                throw new IllegalArgumentException("[gguf] rows of " + name + " " + Arrays.toString(shape)
                        + " are no whole blocks of " + type.block() + ", which " + type + " needs");
            }
        }

        /** Length of the data. */
        public long bytes() {
            return type.bytes(Arrays.stream(shape).reduce(1, Math::multiplyExact));
        }
    }

    /** Bytes of a file with these tensors, less its metadata. */
    public static long bytes(List<Item> items) {
        return items.stream().mapToLong(item -> padded(item.bytes())).reduce(0, Math::addExact);
    }

    /**
     * Writes a file.
     *
     * @param metadata by key: Integer (as u32), Float, Boolean, String, float[], int[] (as i32), boolean[] or a list of
     *     String; in this order
     * @throws IllegalArgumentException for a value of another class, two items of one name, or data of another length
     * @throws FormatException where the file cannot be written
     */
    public static void write(Path file, Map<String, Object> metadata, List<Item> items) {
        byte[] head = head(metadata, items);
        AtomicFile.write(file, out -> {
            AtomicFile.writeFully(out, ByteBuffer.wrap(head));
            for (Item item : items) {
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
            throw new IllegalArgumentException("[gguf] " + item.name() + " gave " + written + " bytes, expected "
                    + item.bytes() + " for " + item.type() + " " + Arrays.toString(item.shape()));
        }
        AtomicFile.writeFully(out, ByteBuffer.allocate((int) (padded(written) - written)));
    }

    private static long padded(long bytes) {
        return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }

    private static byte[] head(Map<String, Object> metadata, List<Item> items) {
        Bytes head = new Bytes();
        head.u32(MAGIC);
        head.u32(VERSION);
        head.u64(items.size());
        head.u64(metadata.size());
        metadata.forEach((key, value) -> {
            head.text(key);
            head.value(key, value);
        });
        Set<String> names = new HashSet<>();
        long at = 0;
        for (Item item : items) {
            if (!names.add(item.name())) {
                throw new IllegalArgumentException("[gguf] two tensors are called " + item.name());
            }
            head.text(item.name());
            head.u32(item.shape().length);
            for (int i = item.shape().length - 1; i >= 0; i--) {
                head.u64(item.shape()[i]);
            }
            head.u32(item.type().code());
            head.u64(at);
            at += padded(item.bytes());
        }
        head.pad();
        return head.out.toByteArray();
    }

    /** Values as the format has them, little-endian. */
    private static final class Bytes {
        private static final int U32 = 4;
        private static final int I32 = 5;
        private static final int F32 = 6;
        private static final int BOOL = 7;
        private static final int STRING = 8;
        private static final int ARRAY = 9;

        private final ByteArrayOutputStream out = new ByteArrayOutputStream();

        void u32(int x) {
            out.writeBytes(ByteBuffer.allocate(4)
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .putInt(x)
                    .array());
        }

        void u64(long x) {
            out.writeBytes(ByteBuffer.allocate(8)
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .putLong(x)
                    .array());
        }

        void text(String text) {
            byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
            u64(bytes.length);
            out.writeBytes(bytes);
        }

        void pad() {
            while (out.size() % ALIGNMENT != 0) {
                out.write(0);
            }
        }

        void value(String key, Object value) {
            if (value instanceof Integer x && x >= 0) {
                u32(U32);
                u32(x);
            } else if (value instanceof Float x) {
                u32(F32);
                u32(Float.floatToRawIntBits(x));
            } else if (value instanceof Boolean x) {
                u32(BOOL);
                out.write(x ? 1 : 0);
            } else if (value instanceof String x) {
                u32(STRING);
                text(x);
            } else if (value instanceof float[] array) {
                array(F32, array.length);
                for (float x : array) {
                    u32(Float.floatToRawIntBits(x));
                }
            } else if (value instanceof int[] array) {
                array(I32, array.length);
                for (int x : array) {
                    u32(x);
                }
            } else if (value instanceof boolean[] array) {
                array(BOOL, array.length);
                for (boolean x : array) {
                    out.write(x ? 1 : 0);
                }
            } else if (value instanceof List<?> list) {
                array(STRING, list.size());
                list.forEach(x -> text((String) x));
            } else {
                throw new IllegalArgumentException("[gguf] key " + key + " has the value " + value);
            }
        }

        private void array(int type, int length) {
            u32(ARRAY);
            u32(type);
            u64(length);
        }
    }
}
