package lapidary.data;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import lapidary.format.FormatException;
import lapidary.format.Json;

/**
 * A JSON object a line, or one list of objects over any lines. Opening notes where the objects start; one is read and parsed when
 * its row is asked for. Blank lines, a byte order mark and CRLF are passed over. Lines are counted from 1.
 */
final class JsonlDataset implements Dataset {
    private static final int MAX_LINE = 1 << 29; // bytes

    private final Path file;
    private final PictureFiles pictures;
    private final Set<RowForm> forms;
    private final FileChannel channel;
    private final long[] starts; // of each row's line
    private final long[] ends; // behind the line's last byte, its line break left out
    private final int[] lines;

    private JsonlDataset(Path file, PictureFiles pictures, FileChannel channel, Lines found, Set<RowForm> forms) {
        this.file = file;
        this.pictures = pictures;
        this.forms = forms;
        this.channel = channel;
        this.starts = Arrays.copyOf(found.starts, found.rows);
        this.ends = Arrays.copyOf(found.ends, found.rows);
        this.lines = Arrays.copyOf(found.lines, found.rows);
    }

    /** Finds the rows, which have one of the {@code forms}; there may be none. */
    static JsonlDataset open(Path file, Set<RowForm> forms) {
        return open(file, file, new PictureFiles(file), forms, StandardOpenOption.READ);
    }

    /**
     * Reads what may be read but once to its end, into a temporary file of this program's.
     *
     * @param name of the data; paths of pictures begin in the working directory
     */
    static JsonlDataset of(InputStream in, Path name, Set<RowForm> forms) {
        try {
            Path copy = Files.createTempFile("lapidary-", ".jsonl"); // its owner's only
            try {
                try (OutputStream out = Files.newOutputStream(copy)) {
                    in.transferTo(out);
                }
                return open(
                        copy,
                        name,
                        new PictureFiles(Path.of("data")),
                        forms,
                        StandardOpenOption.READ,
                        StandardOpenOption.DELETE_ON_CLOSE);
            } catch (IOException | RuntimeException | Error e) {
                Files.deleteIfExists(copy);
                throw e;
            }
        } catch (IOException e) {
            throw new FormatException("cannot read " + name + ": " + e.getMessage(), e);
        }
    }

    private static JsonlDataset open(
            Path place, Path file, PictureFiles pictures, Set<RowForm> forms, OpenOption... options) {
        try {
            FileChannel channel = FileChannel.open(place, options);
            try {
                Lines found = new Lines();
                found.scan(channel, file);
                return new JsonlDataset(file, pictures, channel, found, forms);
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
    public List<Path> files() {
        return List.of(file);
    }

    @Override
    public int size() {
        return lines.length;
    }

    /** Names of the row's fields. */
    Set<String> columns(int row) {
        return json(row).keys();
    }

    @Override
    public Conversation get(int row) {
        return RowParser.parse(
                file + ":" + lines[row], pictures, (Map<?, ?>) plain(json(row).node()), forms);
    }

    private Json json(int row) {
        String id = file + ":" + lines[row];
        byte[] line = line(row, id);
        if (new String(line, 0, Math.min(line.length, 8), StandardCharsets.UTF_8)
                .strip()
                .equals("{")) {
            throw new FormatException(id + ": an object that goes over several lines; put each on a line of its own"
                    + " (to_json(..., lines=True)), or make the file one list [...]");
        }
        Json json = Json.parse(id, line);
        if (!json.isObject()) {
            throw json.error(
                    json.isArray()
                            ? "expected an object {...} on each line, got a list"
                            : "expected an object {...} on each line");
        }
        return json;
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
        pictures.close();
        try {
            channel.close();
        } catch (IOException e) {
            throw new FormatException("cannot close " + file + ": " + e, e);
        }
    }

    /** The lines of a file that hold more than white space; of a file that is one list, the elements. */
    private static final class Lines {
        private long[] starts = new long[1024];
        private long[] ends = new long[1024];
        private int[] lines = new int[1024];
        private int rows;

        private long start; // of the current line
        private boolean blank = true;
        private int line = 1;

        // Within a file that is one list:
        private boolean list;
        private boolean ended; // its closing bracket has come
        private boolean wanted; // a comma asks for an element
        private boolean string;
        private boolean escaped;
        private int depth; // of brackets in the element at hand
        private int startLine;

        void scan(FileChannel channel, Path file) throws IOException {
            ByteBuffer buffer = ByteBuffer.allocate(1 << 20);
            long at = 0; // of the buffer in the file
            while (channel.read(buffer.clear(), at) > 0) {
                byte[] bytes = buffer.array();
                int n = buffer.position();
                for (int i = 0; i < n; i++) {
                    byte b = bytes[i];
                    if (list) {
                        inList(b, at + i, file);
                    } else if (b == '[' && blank && rows == 0) {
                        list = true;
                    } else if (b == '\n') {
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
            if (!list) {
                endLine(at, file);
            } else if (!ended) {
                throw new FormatException(
                        file + ":" + line + ": the list that the file begins with does not end; the file is truncated");
            }
        }

        /** Finds where elements begin and end; whether they are JSON is seen when they are read. */
        private void inList(byte b, long at, Path file) {
            line += b == '\n' ? 1 : 0;
            boolean space = b == ' ' || b == '\t' || b == '\r' || b == '\n';
            if (string) {
                string = escaped || b != '"';
                escaped = !escaped && b == '\\';
                return;
            }
            if (space) {
                return;
            }
            if (ended || blank && (b == ',' || b == ']' && wanted)) {
                throw new FormatException(
                        file + ":" + line + ": not valid JSON: unexpected '" + (char) (b & 0xff) + "'");
            }
            if (depth == 0 && (b == ',' || b == ']')) {
                int elementEnd = line;
                line = startLine;
                endLine(at, file);
                line = elementEnd;
                blank = true;
                wanted = b == ',';
                ended = b == ']';
                return;
            }
            if (blank) {
                blank = false;
                start = at;
                startLine = line;
            }
            string = b == '"';
            depth += b == '{' || b == '[' ? 1 : b == '}' || b == ']' ? -1 : 0;
        }

        private void endLine(long end, Path file) {
            if (blank) {
                return;
            }
            if (end - start > MAX_LINE) {
                throw new FormatException(file + ":" + line + " has " + (end - start) + " bytes, more than the "
                        + MAX_LINE + " allowed for a row; is there a line break after each object?");
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
