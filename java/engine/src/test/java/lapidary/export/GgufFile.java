package lapidary.export;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A GGUF file as its specification says, read for tests: metadata, and tensors with their bytes. */
record GgufFile(Map<String, Object> metadata, Map<String, Stored> tensors) {
    /** @param axes innermost first, as they stand in the file */
    record Stored(int type, List<Long> axes, byte[] data) {
        long elements() {
            return axes.stream().reduce(1L, (a, b) -> a * b);
        }

        /** Values of type F32, F16, BF16 or Q8_0. */
        float[] floats() {
            float[] values = new float[(int) elements()];
            ByteBuffer bytes = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN);
            for (int i = 0; i < values.length; i++) {
                values[i] = switch (type) {
                    case 0 -> bytes.getFloat();
                    case 1 -> Float.float16ToFloat(bytes.getShort());
                    case 30 -> Float.intBitsToFloat(bytes.getShort() << 16);
                    case 8 -> Float.float16ToFloat(bytes.getShort(i / 32 * 34)) * bytes.get(i / 32 * 34 + 2 + i % 32);
                    default -> throw new IllegalArgumentException("type " + type);
                };
            }
            return values;
        }
    }

    static GgufFile read(Path file) throws IOException {
        ByteBuffer in = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
        require(in.get() == 'G' && in.get() == 'G' && in.get() == 'U' && in.get() == 'F', "magic");
        require(in.getInt() == 3, "version");
        long tensorCount = in.getLong();
        long keyCount = in.getLong();
        Map<String, Object> metadata = new LinkedHashMap<>();
        for (long i = 0; i < keyCount; i++) {
            String key = text(in);
            require(metadata.put(key, value(in, in.getInt())) == null, "one " + key);
        }
        record Info(String name, List<Long> axes, int type, long offset) {}
        List<Info> infos = new ArrayList<>();
        for (long i = 0; i < tensorCount; i++) {
            String name = text(in);
            List<Long> axes = new ArrayList<>();
            for (int n = in.getInt(); n > 0; n--) {
                axes.add(in.getLong());
            }
            infos.add(new Info(name, axes, in.getInt(), in.getLong()));
        }
        int start = (in.position() + 31) / 32 * 32;
        Map<String, Stored> tensors = new LinkedHashMap<>();
        long end = 0;
        for (Info info : infos) {
            require(
                    info.offset() % 32 == 0 && info.offset() >= end && info.offset() - end < 32,
                    "offset of " + info.name());
            long n = info.axes().stream().reduce(1L, (a, b) -> a * b);
            int bytes = (int)
                    switch (info.type()) {
                        case 0 -> 4 * n;
                        case 1, 30 -> 2 * n;
                        case 8 -> n / 32 * 34;
                        default -> throw new IllegalArgumentException("type " + info.type());
                    };
            byte[] data = new byte[bytes];
            in.position(start + (int) info.offset());
            in.get(data);
            end = info.offset() + bytes;
            require(tensors.put(info.name(), new Stored(info.type(), info.axes(), data)) == null, "one " + info.name());
        }
        require(in.limit() == start + (end + 31) / 32 * 32, "nothing behind the last tensor but its padding");
        return new GgufFile(metadata, tensors);
    }

    private static void require(boolean holds, String what) {
        if (!holds) {
            throw new IllegalArgumentException("expected " + what);
        }
    }

    private static String text(ByteBuffer in) {
        byte[] bytes = new byte[(int) in.getLong()];
        in.get(bytes);
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private static Object value(ByteBuffer in, int type) {
        switch (type) {
            case 4, 5:
                return in.getInt();
            case 6:
                return in.getFloat();
            case 7:
                return in.get() == 1;
            case 8:
                return text(in);
            case 9:
                int of = in.getInt();
                List<Object> list = new ArrayList<>();
                for (long n = in.getLong(); n > 0; n--) {
                    list.add(value(in, of));
                }
                return list;
            default:
                throw new IllegalArgumentException("value of type " + type);
        }
    }
}
