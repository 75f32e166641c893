package lapidary.data;

import dev.hardwood.HardwoodContext;
import dev.hardwood.InputFile;
import dev.hardwood.metadata.ColumnChunk;
import dev.hardwood.metadata.CompressionCodec;
import dev.hardwood.metadata.PhysicalType;
import dev.hardwood.metadata.RowGroup;
import dev.hardwood.reader.ParquetFileReader;
import dev.hardwood.schema.ColumnSchema;
import dev.hardwood.schema.FileSchema;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.logging.Level;
import java.util.logging.Logger;
import lapidary.format.FormatException;

/**
 * What a Parquet file says of itself, checked, and how to read its row groups.
 *
 * @param schema of all columns
 * @param form what the columns make
 * @param columns those that make a conversation
 * @param groups those with rows, in the order of the rows
 * @param rows in all groups together
 */
record ParquetFile(Path path, FileSchema schema, RowForm form, List<String> columns, List<Group> groups, int rows) {
    /** The Parquet reader tells of its inner life at start; a reference keeps the setting alive. */
    private static final Logger QUIET = Logger.getLogger("dev.hardwood");

    static {
        QUIET.setLevel(Level.WARNING);
    }

    /** A row group with its columns that make a conversation. */
    record Group(int firstRow, int rows, List<ColumnChunk> chunks) {}

    /** Reads the description at the end of the file, whose rows have one of the {@code forms}. */
    static ParquetFile open(Path path, Set<RowForm> forms) {
        if (!Files.isRegularFile(path)) {
            throw new FormatException(Files.exists(path) ? path + " is not a file" : "no such file: " + path);
        }
        try (HardwoodContext context = HardwoodContext.create(1);
                ParquetFileReader reader = ParquetFileReader.open(InputFile.of(path), context)) {
            RowForm form = form(path, reader, forms);
            List<Group> groups = groups(path, reader, form);
            return new ParquetFile(
                    path,
                    reader.getFileSchema(),
                    form,
                    columns(path, reader, form),
                    groups,
                    groups.stream().mapToInt(Group::rows).sum());
        } catch (IOException | RuntimeException | OutOfMemoryError | StackOverflowError e) {
            throw damaged(path.toString(), e);
        }
    }

    /**
     * Opens the file for reading the rows of {@code group}.
     *
     * @param bytes what becomes of values that are not text
     */
    ParquetRows read(Group group, PageValues.Binary bytes) throws IOException {
        List<ColumnChunk> chunks = group.chunks().stream()
                .filter(chunk ->
                        columns.contains(chunk.metaData().pathInSchema().toString()))
                .toList();
        return new ParquetRows(path, schema, chunks, bytes);
    }

    private static RowForm form(Path file, ParquetFileReader reader, Set<RowForm> forms) {
        Set<String> tops = new LinkedHashSet<>();
        reader.getFileSchema()
                .getColumns()
                .forEach(column -> tops.add(top(column.fieldPath().toString())));
        try {
            return RowForm.of(tops, forms);
        } catch (IllegalArgumentException e) {
            throw new FormatException(file + " " + e.getMessage(), e);
        }
    }

    private static List<Group> groups(Path file, ParquetFileReader reader, RowForm form) throws IOException {
        List<Group> groups = new ArrayList<>();
        Set<Long> starts = new HashSet<>();
        long rows = 0;
        long size = Files.size(file);
        for (RowGroup group : reader.getFileMetaData().rowGroups()) {
            if (group.numRows() < 0 || group.numRows() > Integer.MAX_VALUE - 8 - rows) {
                throw new FormatException(
                        file + " claims " + group.numRows() + " rows in one row group; it is damaged");
            }
            if (group.numRows() == 0) {
                continue;
            }
            checkPlaces(file, group, size);
            checkCodecs(file, group, form);
            if (!starts.add(group.columns().get(0).chunkStartOffset())) {
                throw new FormatException(file + " has two row groups in one place; it is damaged");
            }
            List<ColumnChunk> ours = group.columns().stream()
                    .filter(column ->
                            isOurs(top(column.metaData().pathInSchema().toString()), form))
                    .toList();
            groups.add(new Group((int) rows, (int) group.numRows(), ours));
            rows += group.numRows();
        }
        return groups;
    }

    /** Checks that the columns of {@code group} lie in the file and have values for its rows. */
    private static void checkPlaces(Path file, RowGroup group, long size) {
        if (group.columns().isEmpty()) {
            throw new FormatException(file + " has a row group without columns; it is damaged");
        }
        for (ColumnChunk column : group.columns()) {
            long start = column.chunkStartOffset();
            long length = column.metaData().totalCompressedSize();
            if (start < 4 || length < 0 || start > size - length) {
                throw new FormatException(
                        file + " places column " + column.metaData().pathInSchema() + " outside of its " + size
                                + " bytes; it is truncated or damaged, fetch it again");
            }
            if (column.metaData().numValues() < group.numRows()) { // a row has a value, if only a null, in each column
                throw new FormatException(file + " claims " + group.numRows() + " rows but "
                        + column.metaData().numValues() + " values of column "
                        + column.metaData().pathInSchema()
                        + "; it is damaged");
            }
        }
    }

    private static void checkCodecs(Path file, RowGroup group, RowForm form) {
        for (ColumnChunk column : group.columns()) {
            String path = column.metaData().pathInSchema().toString();
            CompressionCodec codec = column.metaData().codec();
            if (isOurs(top(path), form) && !PageStream.CODECS.contains(codec)) {
                throw new FormatException(file + ": column " + path + " is compressed with " + codec
                        + ", expected one of " + PageStream.CODECS + "; write the file again with one of these");
            }
        }
    }

    private static List<String> columns(Path file, ParquetFileReader reader, RowForm form) {
        List<String> ours = new ArrayList<>();
        List<ColumnSchema> pictures = new ArrayList<>();
        for (ColumnSchema column : reader.getFileSchema().getColumns()) {
            String path = column.fieldPath().toString();
            String top = top(path);
            if (isOurs(top, form) && isPictureBytes(column, top)) {
                pictures.add(column);
            }
            if (isOurs(top, form) && ParquetRows.isReadable(column)) {
                ours.add(path);
            }
        }
        if (pictures.size() > 1) {
            throw new FormatException(file + " has pictures in several columns: "
                    + pictures.stream().map(c -> c.fieldPath().toString()).toList() + "; keep one of them");
        }
        return ours;
    }

    /** {@code images: list<{bytes}>}, {@code images: list<binary>}, {@code image: {bytes}} or {@code image: binary}. */
    private static boolean isPictureBytes(ColumnSchema column, String top) {
        String path = column.fieldPath().toString();
        boolean named = path.endsWith(".bytes") || path.equals("image") || path.split("\\.").length == 3;
        return named
                && column.type() == PhysicalType.BYTE_ARRAY
                && column.logicalType() == null
                && column.maxRepetitionLevel() == (top.equals("images") ? 1 : 0)
                && (top.equals("images") || top.equals("image"));
    }

    private static boolean isOurs(String top, RowForm form) {
        return form.columns().contains(top);
    }

    private static String top(String path) {
        return path.contains(".") ? path.substring(0, path.indexOf('.')) : path;
    }

    /** The group that holds {@code row}. */
    Group groupOf(int row) {
        int low = 0;
        int high = groups.size() - 1;
        while (low < high) { // the last group that starts at or before the row
            int middle = (low + high + 1) / 2;
            if (groups.get(middle).firstRow() <= row) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return groups.get(low);
    }

    /** What an error calls {@code row}. */
    String id(int row) {
        return path + " row " + row;
    }

    /** The next row of {@code rows} as maps and lists, which must be {@code row}. */
    Map<String, Object> next(ParquetRows rows, int row) throws IOException {
        if (!rows.hasNext()) {
            throw new FormatException(path + " ends after row " + (row - 1) + ", expected " + this.rows
                    + " rows; the file is damaged, fetch it again");
        }
        return rows.next();
    }

    String rowsOf(Group group) {
        return path + " rows " + group.firstRow() + " to " + (group.firstRow() + group.rows() - 1);
    }

    /** What the reader's failure means for the user: it tells mistakes in a file by exceptions of many kinds. */
    static FormatException damaged(String what, Throwable e) {
        if (e instanceof FormatException own) {
            return own;
        }
        for (Throwable cause = e; cause != null; cause = cause.getCause()) {
            if (cause instanceof OutOfMemoryError) {
                return new FormatException(
                        "cannot decode " + what + " in " + (Runtime.getRuntime().maxMemory() >> 20)
                                + " MB of Java memory: give more (LAPIDARY_JAVA_OPTS=-Xmx8g), or the file is damaged",
                        e);
            }
        }
        String why = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
        if (why.toLowerCase(Locale.ROOT).contains("encrypt")) {
            return new FormatException(what + " is encrypted, which is not read; write it without encryption", e);
        }
        return new FormatException(
                "cannot decode " + what + ": "
                        + why.strip().replaceAll("\\s+", " ").replaceFirst("^\\[[^]]*] ", "")
                        + "; the file is truncated, damaged or no Parquet, fetch it again",
                e);
    }
}
