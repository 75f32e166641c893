package lapidary.data;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import lapidary.format.FormatException;
import lapidary.format.Json;

/**
 * A JSON object a line. Opening notes where the lines start; a line is read and parsed when its row is asked for. Blank
 * lines, a byte order mark and CRLF are passed over. Lines are counted from 1.
 */
final class JsonlDataset implements Dataset {
    private static final int MAX_LINE = 1 << 29; // bytes

    private final Path file;
    private final Path folder;
    private final FileChannel channel;
    private final long[] starts; // of each row's line
    private final long[] ends; // behind the line's last byte, its line break left out
    private final int[] lines;

    private JsonlDataset(Path file, FileChannel channel, Lines found) {
        this.file = file;
        this.folder = file.toAbsolutePath().getParent();
        this.channel = channel;
        this.starts = Arrays.copyOf(found.starts, found.rows);
        this.ends = Arrays.copyOf(found.ends, found.rows);
        this.lines = Arrays.copyOf(found.lines, found.rows);
    }

    /** Finds the lines; there may be none. */
    static JsonlDataset open(Path file) {
        try {
            FileChannel channel = FileChannel.open(file, StandardOpenOption.READ);
            try {
                Lines found = new Lines();
                found.scan(channel, file);
                return new JsonlDataset(file, channel, found);
            } catch (IOException | RuntimeException | Error e) {
                channel.close();
                throw e;
            }
        } catch (NoSuchFileException e) {
            throw new FormatException("no such file: " + file, e);
        } catch (IOException e) {
            throw new FormatException("cannot read " + file + ": " + e.getMessage(), e);
        }
    }

    @Override
    public int size() {
        return lines.length;
    }

    @Override
    public Conversation get(int row) {
        String id = file + ":" + lines[row];
        Json json = Json.parse(id, line(row, id));
        if (!json.isObject()) {
            throw json.error(
                    json.isArray()
                            ? "expected an object {...} on each line, got a list; write its elements a line each"
                                    + " (jq -c '.[]')"
                            : "expected an object {...} on each line");
        }
        return RowParser.parse(id, folder, (Map<?, ?>) plain(json.node()));
    }

    private byte[] line(int row, String id) {
        ByteBuffer bytes = ByteBuffer.allocate((int) (ends[row] - starts[row])); // at most MAX_LINE
        try {
            while (bytes.hasRemaining()) {
                if (channel.read(bytes, starts[row] + bytes.position()) < 0) {
                    throw new FormatException(id + ": the file became shorter after it was opened");
                }
            }
        } catch (IOException e) {
            throw new FormatException("cannot read " + id + ": " + e, e);
        }
        return bytes.array();
    }

    private static Object plain(JsonNode node) {
        if (node.isObject()) {
            Map<String, Object> map = new LinkedHashMap<>();
            node.properties().forEach(e -> map.put(e.getKey(), plain(e.getValue())));
            return map;
        }
        if (node.isArray()) {
            List<Object> list = new ArrayList<>(node.size());
            node.forEach(item -> list.add(plain(item)));
            return list;
        }
        if (node.isTextual()) {
            return node.textValue();
        }
        if (node.isNumber()) {
            return node.numberValue();
        }
        return node.isBoolean() ? node.booleanValue() : null;
    }

    @Override
    public void forEach(Consumer<Conversation> visitor) {
        for (int row = 0; row < size(); row++) {
            visitor.accept(get(row));
        }
    }

    @Override
    public String description() {
        return file + ", " + size() + " rows";
    }

    @Override
    public void close() {
        try {
            channel.close();
        } catch (IOException e) {
            throw new FormatException("cannot close " + file + ": " + e, e);
        }
    }

    /** The lines of a file that hold more than white space. */
    private static final class Lines {
        private long[] starts = new long[1024];
        private long[] ends = new long[1024];
        private int[] lines = new int[1024];
        private int rows;

        private long start; // of the current line
        private boolean blank = true;
        private int line = 1;

        void scan(FileChannel channel, Path file) throws IOException {
            ByteBuffer buffer = ByteBuffer.allocate(1 << 20);
            long at = 0; // of the buffer in the file
            while (channel.read(buffer.clear(), at) > 0) {
                byte[] bytes = buffer.array();
                int n = buffer.position();
                for (int i = 0; i < n; i++) {
                    byte b = bytes[i];
                    if (b == '\n') {
                        endLine(at + i, file);
                        start = at + i + 1;
                        blank = true;
                        line++;
                    } else if (blank && b != ' ' && b != '\t' && b != '\r') {
                        blank = at + i < 3 && "\u00EF\u00BB\u00BF".charAt((int) at + i) == (b & 0xff); // the mark
                    }
                }
                at += n;
            }
            endLine(at, file);
        }

        private void endLine(long end, Path file) {
            if (blank) {
                return;
            }
            if (end - start > MAX_LINE) {
                throw new FormatException(file + ":" + line + " has " + (end - start) + " bytes, more than the "
                        + MAX_LINE + " allowed; is there a line break after each object?");
            }
            if (rows == lines.length) {
                starts = Arrays.copyOf(starts, 2 * rows);
                ends = Arrays.copyOf(ends, 2 * rows);
                lines = Arrays.copyOf(lines, 2 * rows);
            }
            starts[rows] = start;
            ends[rows] = end;
            lines[rows++] = line;
        }
    }
}
