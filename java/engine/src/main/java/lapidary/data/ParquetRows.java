package lapidary.data;

import dev.hardwood.metadata.ColumnChunk;
import dev.hardwood.metadata.LogicalType;
import dev.hardwood.metadata.PhysicalType;
import dev.hardwood.metadata.RepetitionType;
import dev.hardwood.schema.ColumnSchema;
import dev.hardwood.schema.FileSchema;
import dev.hardwood.schema.SchemaNode;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/**
 * Puts rows together from columns: a struct becomes a map, a list a list, a text a string. The heap holds one row.
 *
 * @see <a href="https://research.google/pubs/pub36632/">Dremel</a>, where record assembly is described
 */
final class ParquetRows implements AutoCloseable {
    private final FileChannel channel;
    private final List<Column> columns = new ArrayList<>();

    /**
     * Opens a file of {@code schema}.
     *
     * @param chunks the columns to read of a row group
     * @param bytes what becomes of values that are not text
     */
    ParquetRows(Path file, FileSchema schema, List<ColumnChunk> chunks, PageValues.Binary bytes) throws IOException {
        channel = FileChannel.open(file, StandardOpenOption.READ);
        try {
            for (ColumnChunk chunk : chunks) {
                ColumnSchema column = schema.getColumn(chunk.metaData().pathInSchema());
                boolean text = column.logicalType() instanceof LogicalType.StringType;
                columns.add(new Column(
                        new ParquetColumn(channel, chunk, column, text ? ParquetRows::text : bytes),
                        path(schema, column)));
            }
        } catch (IOException | RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    private static Object text(PageStream in, int length) throws IOException {
        return new String(in.readBytes(length), StandardCharsets.UTF_8);
    }

    /** Whether values of this column can be read. */
    static boolean isReadable(ColumnSchema column) {
        return column.type() != PhysicalType.INT96 && column.type() != PhysicalType.FIXED_LEN_BYTE_ARRAY;
    }

    boolean hasNext() {
        return columns.stream().allMatch(column -> column.entries.isPresent());
    }

    /** The next row; there is one. */
    Map<String, Object> next() throws IOException {
        Map<String, Object> row = new LinkedHashMap<>();
        for (Column column : columns) {
            column.addTo(row);
        }
        return row;
    }

    /** The nodes from the top column to the leaf. */
    private static List<SchemaNode> path(FileSchema schema, ColumnSchema column) {
        List<SchemaNode> path = new ArrayList<>();
        SchemaNode node = schema.getRootNode();
        for (String name : column.fieldPath().elements()) {
            node = ((SchemaNode.GroupNode) node)
                    .children().stream()
                            .filter(child -> child.name().equals(name))
                            .findFirst()
                            .orElseThrow();
            path.add(node);
        }
        return path;
    }

    @Override
    public void close() throws IOException {
        try {
            for (Column column : columns) {
                column.entries.close();
            }
        } finally {
            channel.close();
        }
    }

    private static final class Column {
        private final ParquetColumn entries;
        private final List<SchemaNode> path;
        private final int[] position; // by repetition level: the element of that list

        Column(ParquetColumn entries, List<SchemaNode> path) {
            this.entries = entries;
            this.path = path;
            this.position = new int[entries.schema().maxRepetitionLevel() + 1];
        }

        /** Adds this column's values of one row. */
        void addTo(Map<String, Object> row) throws IOException {
            Arrays.fill(position, 0);
            do {
                add(row, 0, entries.definition());
                entries.advance();
            } while (continues());
        }

        /** Whether the entry at hand belongs to the same row, and if so, to which elements of its lists. */
        private boolean continues() {
            if (!entries.isPresent() || entries.repetition() == 0) {
                return false;
            }
            position[entries.repetition()]++;
            Arrays.fill(position, entries.repetition() + 1, position.length, 0);
            return true;
        }

        /** Adds the field at {@code depth} of the path, and what is below, to the struct that holds it. */
        private void add(Map<String, Object> struct, int depth, int definition) {
            SchemaNode node = path.get(depth);
            if (node.repetitionType() == RepetitionType.REPEATED) { // a list that is not said to be one
                add(list(struct.get(node.name()), made -> struct.put(node.name(), made)), depth, definition);
            } else if (definition < node.maxDefinitionLevel()) {
                struct.putIfAbsent(node.name(), null);
            } else if (node instanceof SchemaNode.GroupNode group && group.isList()) {
                add(list(struct.get(node.name()), made -> struct.put(node.name(), made)), depth + 1, definition);
            } else if (node instanceof SchemaNode.GroupNode) {
                add(struct(struct.get(node.name()), made -> struct.put(node.name(), made)), depth + 1, definition);
            } else {
                struct.put(node.name(), entries.value());
            }
        }

        /** Adds the element that the repeated node at {@code depth} stands for. */
        private void add(List<Object> list, int depth, int definition) {
            SchemaNode repeated = path.get(depth);
            if (definition < repeated.maxDefinitionLevel()) {
                return; // the list is empty
            }
            int at = position[repeated.maxRepetitionLevel()];
            while (list.size() <= at) {
                list.add(null);
            }
            boolean wraps = repeated instanceof SchemaNode.GroupNode
                    && depth > 0
                    && path.get(depth - 1) instanceof SchemaNode.GroupNode above
                    && above.isList()
                    && above.getListElement() != repeated;
            SchemaNode element = wraps ? path.get(depth + 1) : repeated;
            int below = wraps ? depth + 2 : depth + 1;
            if (definition < element.maxDefinitionLevel()) {
                return; // a null element
            }
            if (element instanceof SchemaNode.GroupNode group && group.isList() && element != repeated) {
                add(list(list.get(at), made -> list.set(at, made)), below, definition);
            } else if (element instanceof SchemaNode.GroupNode) {
                add(struct(list.get(at), made -> list.set(at, made)), below, definition);
            } else {
                list.set(at, entries.value());
            }
        }

        @SuppressWarnings("unchecked") // only this class puts maps into a row
        private static Map<String, Object> struct(Object there, Consumer<Object> put) {
            if (there == null) {
                Map<String, Object> made = new LinkedHashMap<>();
                put.accept(made);
                return made;
            }
            return (Map<String, Object>) there;
        }

        @SuppressWarnings("unchecked")
        private static List<Object> list(Object there, Consumer<Object> put) {
            if (there == null) {
                List<Object> made = new ArrayList<>();
                put.accept(made);
                return made;
            }
            return (List<Object>) there;
        }
    }
}
