package lapidary.data;

import dev.hardwood.HardwoodContext;
import dev.hardwood.InputFile;
import dev.hardwood.metadata.ColumnChunk;
import dev.hardwood.metadata.CompressionCodec;
import dev.hardwood.metadata.PhysicalType;
import dev.hardwood.metadata.RowGroup;
import dev.hardwood.reader.ColumnReader;
import dev.hardwood.reader.ParquetFileReader;
import dev.hardwood.reader.RowGroupPredicate;
import dev.hardwood.schema.ColumnProjection;
import dev.hardwood.schema.ColumnSchema;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.logging.Level;
import java.util.logging.Logger;
import lapidary.format.FormatException;

/**
 * What a Parquet file says of itself, checked, and how to read its row groups.
 *
 * @param columns those that make a conversation
 * @param groups those with rows, in the order of the rows
 * @param rows in all groups together
 */
record ParquetFile(Path path, Columns columns, List<Group> groups, int rows) {
    /** Those whose libraries are in the jar. */
    private static final Set<CompressionCodec> CODECS = EnumSet.of(
            CompressionCodec.UNCOMPRESSED, CompressionCodec.SNAPPY, CompressionCodec.GZIP, CompressionCodec.ZSTD);

    /** Rows to decode at once. */
    private static final int ROWS = 64;

    /** The Parquet reader tells of its inner life at start; a reference keeps the setting alive. */
    private static final Logger QUIET = Logger.getLogger("dev.hardwood");

    static {
        QUIET.setLevel(Level.WARNING);
    }

    /** The row group at {@code index} of the file; {@code middle} is the byte by which the reader knows it. */
    record Group(int index, int firstRow, int rows, long middle) {}

    /**
     * The columns to read.
     *
     * @param text without the bytes of pictures; comes row by row
     * @param pictures leaf that holds those bytes, or empty where no column does; comes in small batches
     * @param top its outermost column, {@code images} or {@code image}
     * @param described whether {@code text} has fields of the same pictures, such as their paths
     */
    record Columns(List<String> text, String pictures, String top, boolean described) {}

    /** Reads the description at the end of the file. */
    static ParquetFile open(Path path) {
        if (!Files.isRegularFile(path)) {
            throw new FormatException(Files.exists(path) ? path + " is not a file" : "no such file: " + path);
        }
        ParquetFile unread = new ParquetFile(path, new Columns(List.of(), "", "", false), List.of(), 0);
        try (Reader reader = unread.read()) {
            List<Group> groups = groups(path, reader.parquet);
            return new ParquetFile(
                    path,
                    columns(path, reader.parquet),
                    groups,
                    groups.stream().mapToInt(Group::rows).sum());
        } catch (IOException | RuntimeException | OutOfMemoryError | StackOverflowError e) {
            throw damaged(path.toString(), e);
        }
    }

    /** Opens the file for reading rows. */
    Reader read() throws IOException {
        return new Reader();
    }

    /** An open file and the threads that decode it. Held only while a group is decoded: a data set may be a thousand files. */
    final class Reader implements AutoCloseable {
        private final HardwoodContext context = HardwoodContext.create(1);
        private final ParquetFileReader parquet;

        private Reader() throws IOException {
            try {
                parquet = ParquetFileReader.open(InputFile.of(path), context);
            } catch (IOException | RuntimeException | Error e) {
                context.close();
                throw e;
            }
        }

        /** Reads the words of {@code group}, after a look at the pages of their columns and of the pictures to read too. */
        ParquetRows words(Group group, boolean pictures) throws IOException {
            try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
                for (ColumnChunk chunk :
                        parquet.getFileMetaData().rowGroups().get(group.index()).columns()) {
                    String column = chunk.metaData().pathInSchema().toString();
                    if (columns.text().contains(column)
                            || (pictures && columns.pictures().equals(column))) {
                        ParquetPages.check(path, channel, chunk);
                    }
                }
            }
            return new ParquetRows(
                    parquet.buildColumnReaders(
                                    ColumnProjection.columns(columns.text().toArray(String[]::new)))
                            .filter(only(group))
                            .batchSize(ROWS)
                            .build(),
                    parquet.getFileSchema());
        }

        /** Reads the bytes of the pictures of {@code group}, so many rows at a time; {@link #words} has looked at them. */
        ColumnReader pictures(Group group, int rows) {
            return parquet.buildColumnReader(columns.pictures())
                    .filter(only(group))
                    .batchSize(rows)
                    .build();
        }

        @Override
        public void close() throws IOException {
            try {
                parquet.close();
            } finally {
                context.close();
            }
        }
    }

    private static List<Group> groups(Path file, ParquetFileReader reader) throws IOException {
        List<Group> groups = new ArrayList<>();
        Set<Long> middles = new HashSet<>();
        long rows = 0;
        long size = Files.size(file);
        List<RowGroup> all = reader.getFileMetaData().rowGroups();
        for (int i = 0; i < all.size(); i++) {
            RowGroup group = all.get(i);
            if (group.numRows() < 0 || rows + group.numRows() > Integer.MAX_VALUE - 8) {
                throw new FormatException(
                        file + " claims " + group.numRows() + " rows in one row group; it is damaged");
            }
            if (group.numRows() == 0) {
                continue;
            }
            checkCodecs(file, group);
            long middle = middle(file, group, size);
            if (!middles.add(middle)) {
                throw new FormatException(file + " has two row groups in one place; it is damaged");
            }
            groups.add(new Group(i, (int) rows, (int) group.numRows(), middle));
            rows += group.numRows();
        }
        return groups;
    }

    /** Checks that the columns of {@code group} lie in the file; returns the byte halfway through them. */
    private static long middle(Path file, RowGroup group, long size) {
        if (group.columns().isEmpty()) {
            throw new FormatException(file + " has a row group without columns; it is damaged");
        }
        long bytes = 0;
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
            bytes += length;
        }
        return group.columns().get(0).chunkStartOffset() + bytes / 2;
    }

    private static void checkCodecs(Path file, RowGroup group) {
        for (ColumnChunk column : group.columns()) {
            String path = column.metaData().pathInSchema().toString();
            CompressionCodec codec = column.metaData().codec();
            if (isOurs(top(path)) && !CODECS.contains(codec)) {
                throw new FormatException(file + ": column " + path + " is compressed with " + codec
                        + ", expected one of " + CODECS + "; write the file again with one of these");
            }
        }
    }

    private static Columns columns(Path file, ParquetFileReader reader) {
        List<String> text = new ArrayList<>();
        List<ColumnSchema> pictures = new ArrayList<>();
        List<String> all = new ArrayList<>();
        for (ColumnSchema column : reader.getFileSchema().getColumns()) {
            String path = column.fieldPath().toString();
            String top = top(path);
            if (!all.contains(top)) {
                all.add(top);
            }
            if (isPictureBytes(column, top)) {
                pictures.add(column);
            } else if (isOurs(top) && ParquetRows.isReadable(column)) {
                text.add(path);
            }
        }
        if (!all.contains("messages")) {
            throw new FormatException(file + " has no column \"messages\", only " + all);
        }
        if (pictures.size() > 1) {
            throw new FormatException(file + " has pictures in several columns: "
                    + pictures.stream().map(c -> c.fieldPath().toString()).toList() + "; keep one of them");
        }
        if (pictures.isEmpty()) {
            return new Columns(text, "", "", false);
        }
        String path = pictures.get(0).fieldPath().toString();
        boolean described = text.stream().anyMatch(other -> top(other).equals(top(path)));
        return new Columns(text, path, top(path), described);
    }

    /** {@code images: list<{bytes}>}, {@code images: list<binary>}, {@code image: {bytes}} or {@code image: binary}. */
    private static boolean isPictureBytes(ColumnSchema column, String top) {
        String path = column.fieldPath().toString();
        boolean named = path.endsWith(".bytes") || path.equals("image") || path.split("\\.").length == 3;
        return named
                && column.type() == PhysicalType.BYTE_ARRAY
                && column.logicalType() == null
                && column.maxRepetitionLevel() == (top.equals("images") ? 1 : 0)
                && !top.equals("messages")
                && isOurs(top);
    }

    private static boolean isOurs(String top) {
        return top.equals("messages") || top.equals("images") || top.equals("image");
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

    private static RowGroupPredicate only(Group group) {
        return RowGroupPredicate.byteRange(group.middle(), group.middle() + 1);
    }

    /** The next row of {@code rows} as maps and lists, which must be {@code row}. */
    Map<String, Object> next(ParquetRows rows, int row) {
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
                                + " MB of Java memory: give more (java -Xmx8g), or write the file with smaller row groups"
                                + " (pyarrow: row_group_size=100); or the file is damaged",
                        e);
            }
        }
        String why = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
        return new FormatException(
                "cannot decode " + what + ": "
                        + why.strip().replaceAll("\\s+", " ").replaceFirst("^\\[[^]]*] ", "")
                        + "; the file is truncated, damaged or no Parquet, fetch it again",
                e);
    }
}
