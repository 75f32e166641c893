package lapidary.data;

import dev.hardwood.metadata.LogicalType;
import dev.hardwood.metadata.PhysicalType;
import dev.hardwood.metadata.RepetitionType;
import dev.hardwood.reader.ColumnReader;
import dev.hardwood.reader.ColumnReaders;
import dev.hardwood.schema.ColumnSchema;
import dev.hardwood.schema.FileSchema;
import dev.hardwood.schema.SchemaNode;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/**
 * Puts rows together from columns: a struct becomes a map, a list a list, a text a string. The library's own row reader
 * makes room for a hundred thousand rows at once, 250 MB for five columns, whatever the file holds.
 *
 * <p>Each value comes with a repetition level, which says which list it continues, and a definition level, which says how
 * far down its path anything is there.
 *
 * @see <a href="https://research.google/pubs/pub36632/">Dremel</a>, where record assembly is described
 */
final class ParquetRows implements AutoCloseable {
    private final ColumnReaders readers;
    private final List<Column> columns = new ArrayList<>();
    private int left; // rows of the batch that are still to come

    /** Reads all columns of {@code readers}, which have {@code schema}. */
    ParquetRows(ColumnReaders readers, FileSchema schema) {
        this.readers = readers;
        for (int i = 0; i < readers.getColumnCount(); i++) {
            ColumnReader reader = readers.getColumnReader(i);
            columns.add(new Column(reader, path(schema, reader.getColumnSchema())));
        }
    }

    /** Whether values of this column can be read. */
    static boolean isReadable(ColumnSchema column) {
        return column.type() != PhysicalType.INT96 && column.type() != PhysicalType.FIXED_LEN_BYTE_ARRAY;
    }

    boolean hasNext() {
        if (left == 0 && readers.nextBatch()) {
            left = readers.getRecordCount();
            columns.forEach(Column::startBatch);
        }
        return left > 0;
    }

    /** The next row; there is one. */
    Map<String, Object> next() {
        left--;
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
    public void close() {
        readers.close();
    }

    private static final class Column {
        private final ColumnReader reader;
        private final ColumnSchema schema;
        private final List<SchemaNode> path;
        private final int slotFrom; // entries of this definition level or higher have a place among the values
        private final int[] position; // by repetition level: the element of that list
        private int[] definitions; // null where every value is there
        private int[] repetitions; // null where nothing repeats
        private int entry;
        private int value;

        Column(ColumnReader reader, List<SchemaNode> path) {
            this.reader = reader;
            this.schema = reader.getColumnSchema();
            this.path = path;
            this.position = new int[schema.maxRepetitionLevel() + 1];
            int from = 0;
            for (SchemaNode node : path) {
                from = node.repetitionType() == RepetitionType.REPEATED ? node.maxDefinitionLevel() : from;
            }
            slotFrom = from;
        }

        void startBatch() {
            entry = 0;
            value = 0;
            definitions = reader.getDefinitionLevels(); // none for a column of plain values
            repetitions = reader.getRepetitionLevels();
        }

        /** Adds this column's values of one row. */
        void addTo(Map<String, Object> row) {
            Arrays.fill(position, 0);
            do {
                int definition = definition();
                add(row, 0, definition);
                value += definition >= slotFrom ? 1 : 0;
                entry++;
            } while (continues());
        }

        private int definition() {
            if (definitions != null) {
                return definitions[entry];
            }
            return schema.maxDefinitionLevel() - (reader.getLeafValidity().isNull(value) ? 1 : 0);
        }

        /** Whether the next entry belongs to the same row, and if so, to which elements of its lists. */
        private boolean continues() {
            if (repetitions == null || entry == repetitions.length || repetitions[entry] == 0) {
                return false;
            }
            position[repetitions[entry]]++;
            Arrays.fill(position, repetitions[entry] + 1, position.length, 0);
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
                struct.put(node.name(), value());
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
                list.set(at, value());
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

        private Object value() {
            return switch (schema.type()) {
                case BOOLEAN -> reader.getBooleans()[value];
                case INT32 -> reader.getInts()[value];
                case INT64 -> reader.getLongs()[value];
                case FLOAT -> reader.getFloats()[value];
                case DOUBLE -> reader.getDoubles()[value];
                case BYTE_ARRAY -> {
                    int from = reader.getBinaryOffsets()[value];
                    int length = reader.getBinaryOffsets()[value + 1] - from;
                    byte[] bytes = new byte[length];
                    System.arraycopy(reader.getBinaryValues(), from, bytes, 0, length);
                    yield schema.logicalType() instanceof LogicalType.StringType
                            ? new String(bytes, StandardCharsets.UTF_8)
                            : bytes;
                }
                default -> throw new IllegalStateException(schema.type().toString()); // left out by isReadable
            };
        }
    }
}
