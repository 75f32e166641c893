package lapidary.data;

import dev.hardwood.HardwoodContext;
import dev.hardwood.InputFile;
import dev.hardwood.metadata.ColumnChunk;
import dev.hardwood.metadata.CompressionCodec;
import dev.hardwood.metadata.PhysicalType;
import dev.hardwood.metadata.RowGroup;
import dev.hardwood.reader.ColumnReader;
import dev.hardwood.reader.LayerKind;
import dev.hardwood.reader.ParquetFileReader;
import dev.hardwood.reader.RowGroupPredicate;
import dev.hardwood.reader.RowReader;
import dev.hardwood.row.PqList;
import dev.hardwood.row.PqStruct;
import dev.hardwood.row.StructAccessor;
import dev.hardwood.schema.ColumnProjection;
import dev.hardwood.schema.ColumnSchema;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.logging.Level;
import java.util.logging.Logger;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.image.ImageSource;

/**
 * Conversations in a Parquet file. Parquet is decoded a row group at a time, but rows are asked for in random order:
 * so the first row of a group that is asked for has the whole group decoded, once, into a {@link Spill}, from which
 * this row and all later ones of the group are read. The heap holds one group's text and a few pictures. Rows are
 * counted from 0.
 */
final class ParquetDataset implements Dataset {
    /** Pictures decoded at a time: they may be large. */
    private static final int PICTURES = 8;

    /** Those whose libraries are in the jar. */
    private static final Set<CompressionCodec> CODECS = EnumSet.of(
            CompressionCodec.UNCOMPRESSED, CompressionCodec.SNAPPY, CompressionCodec.GZIP, CompressionCodec.ZSTD);

    /** The Parquet reader tells of its inner life at start; a reference keeps the setting alive. */
    private static final Logger QUIET = Logger.getLogger("dev.hardwood");

    static {
        QUIET.setLevel(Level.WARNING);
    }

    private final Path file;
    private final Path folder;
    private final Spill spill;
    private final List<Group> groups;
    private final Columns columns;
    private final AtomicLongArray where; // of each row's record in the spill; -1: its group is not decoded yet
    private final int[] length; // of each row's record, bytes; written before where

    /** The row group at {@code index} of the file; {@code middle} is the byte by which the reader knows it. */
    private record Group(int index, int firstRow, int rows, long middle) {}

    /**
     * The columns to read.
     *
     * @param text without the bytes of pictures; comes row by row
     * @param pictures leaf that holds those bytes, or empty where no column does; comes in small batches
     * @param top its outermost column, {@code images} or {@code image}
     * @param described whether {@code text} has fields of the same pictures, such as their paths
     */
    private record Columns(List<String> text, String pictures, String top, boolean described) {}

    private ParquetDataset(Path file, List<Group> groups, Columns columns, int rows) {
        this.file = file;
        this.folder = file.toAbsolutePath().getParent();
        this.groups = groups;
        this.columns = columns;
        long[] nowhere = new long[rows];
        Arrays.fill(nowhere, -1);
        this.where = new AtomicLongArray(nowhere);
        this.length = new int[rows];
        this.spill = Spill.open();
    }

    /** Reads the description of the file; it may have no rows. */
    static ParquetDataset open(Path file) {
        try (Reader reader = new Reader(file)) {
            Columns columns = columns(file, reader.parquet);
            List<Group> groups = groups(file, reader.parquet);
            int rows = groups.stream().mapToInt(Group::rows).sum();
            return new ParquetDataset(file, groups, columns, rows);
        } catch (IOException | RuntimeException | OutOfMemoryError | StackOverflowError e) {
            throw damaged(file.toString(), e);
        }
    }

    /** An open file and the threads that decode it. Held only while a group is decoded: a data set may be a thousand files. */
    private static final class Reader implements AutoCloseable {
        final HardwoodContext context;
        final ParquetFileReader parquet;

        Reader(Path file) throws IOException {
            if (!Files.isRegularFile(file)) {
                throw new FormatException(Files.exists(file) ? file + " is not a file" : "no such file: " + file);
            }
            context = HardwoodContext.create(1);
            try {
                parquet = ParquetFileReader.open(InputFile.of(file), context);
            } catch (IOException | RuntimeException | Error e) {
                context.close();
                throw e;
            }
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
            if (groups.stream().anyMatch(other -> other.middle() == middle)) {
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
            } else if (isOurs(top)) {
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

    @Override
    public int size() {
        return length.length;
    }

    @Override
    public Conversation get(int row) {
        if (where.get(row) < 0) {
            synchronized (this) { // one group is decoded at a time: that bounds the memory
                if (where.get(row) < 0) {
                    decode(groupOf(row));
                }
            }
        }
        try {
            return read(row, spill.read(where.get(row), length[row]));
        } catch (IOException e) {
            throw new FormatException("cannot read " + id(row) + " back: " + e.getMessage(), e);
        }
    }

    private Group groupOf(int row) {
        for (Group group : groups) {
            if (row < group.firstRow() + group.rows()) {
                return group;
            }
        }
        throw new IndexOutOfBoundsException(row);
    }

    private String id(int row) {
        return file + " row " + row;
    }

    private void decode(Group group) {
        try (Reader reader = new Reader(file);
                RowReader rows = rows(reader, group, columns.pictures());
                Bytes bytes = new Bytes(reader, group)) {
            for (int i = 0; i < group.rows(); i++) {
                int number = group.firstRow() + i;
                Map<String, Object> row = next(rows, number);
                bytes.addTo(row);
                byte[] record = record(number, row);
                length[number] = record.length;
                where.set(number, spill.append(record, 0, record.length));
            }
        } catch (IOException | RuntimeException | OutOfMemoryError | StackOverflowError e) {
            throw damaged(rowsOf(group), e);
        }
    }

    /** Reads the words of {@code group}, after a look at the pages of their columns and of {@code other}. */
    private RowReader rows(Reader reader, Group group, String other) throws IOException {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            for (ColumnChunk chunk : reader.parquet
                    .getFileMetaData()
                    .rowGroups()
                    .get(group.index())
                    .columns()) {
                String path = chunk.metaData().pathInSchema().toString();
                if (columns.text().contains(path) || other.equals(path)) {
                    ParquetPages.check(file, channel, chunk);
                }
            }
        }
        return reader.parquet
                .buildRowReader()
                .projection(ColumnProjection.columns(columns.text().toArray(String[]::new)))
                .filter(only(group))
                .build();
    }

    private static RowGroupPredicate only(Group group) {
        return RowGroupPredicate.byteRange(group.middle(), group.middle() + 1);
    }

    /** The row as {@link #get} will find it: the conversation, or the complaint about it. */
    private byte[] record(int number, Map<String, Object> row) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (DataOutputStream out = new DataOutputStream(bytes)) {
            Conversation conversation;
            try {
                conversation = RowParser.parse(id(number), folder, row);
            } catch (FormatException e) {
                out.writeBoolean(false);
                Spill.writeText(out, e.getMessage());
                return bytes.toByteArray();
            }
            out.writeBoolean(true);
            out.writeInt(conversation.messages().size());
            for (Message message : conversation.messages()) {
                Spill.writeText(out, message.role());
                out.writeInt(message.content().size());
                for (Content part : message.content()) {
                    write(out, part);
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e); // memory does not fail
        }
        return bytes.toByteArray();
    }

    private void write(DataOutputStream out, Content part) throws IOException {
        if (part instanceof Content.Text text) {
            out.writeByte('t');
            Spill.writeText(out, text.text());
            return;
        }
        ImageSource source = ((Content.Image) part).source();
        if (source instanceof ImageSource.OnDisk onDisk) {
            out.writeByte('f');
            Spill.writeText(out, onDisk.file().toString());
            return;
        }
        Spilled spilled = source instanceof Spilled s ? s : spilled(source.name(), source.bytes());
        out.writeByte('i');
        Spill.writeText(out, spilled.name());
        out.writeLong(spilled.at());
        out.writeInt(spilled.length());
    }

    private Conversation read(int row, byte[] record) throws IOException {
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(record));
        if (!in.readBoolean()) {
            throw new FormatException(Spill.readText(in));
        }
        List<Message> messages = new ArrayList<>();
        for (int m = in.readInt(); m > 0; m--) {
            String role = Spill.readText(in);
            List<Content> parts = new ArrayList<>();
            for (int p = in.readInt(); p > 0; p--) {
                parts.add(readPart(in));
            }
            messages.add(new Message(role, parts));
        }
        return new Conversation(id(row), messages);
    }

    private Content readPart(DataInputStream in) throws IOException {
        char kind = (char) in.readByte();
        String text = Spill.readText(in);
        if (kind == 't') {
            return new Content.Text(text);
        }
        return new Content.Image(
                kind == 'f' ? ImageSource.of(Path.of(text)) : new Spilled(spill, text, in.readLong(), in.readInt()));
    }

    private Spilled spilled(String name, byte[] bytes) {
        return new Spilled(spill, name, spill.append(bytes, 0, bytes.length), bytes.length);
    }

    /** An encoded picture in the spill. */
    private record Spilled(Spill spill, String name, long at, int length) implements ImageSource {
        @Override
        public byte[] bytes() throws IOException {
            return spill.read(at, length);
        }
    }

    /** The bytes of the pictures of one group, row by row. */
    private final class Bytes implements AutoCloseable {
        private final ColumnReader column; // null where the file has no such column
        private int list = -1; // layer of the list in a row, where there is one
        private int row; // in the batch
        private int rows;
        private int number; // in the file

        Bytes(Reader reader, Group group) {
            number = group.firstRow();
            column = columns.pictures().isEmpty()
                    ? null
                    : reader.parquet
                            .buildColumnReader(columns.pictures())
                            .filter(only(group))
                            .batchSize(PICTURES)
                            .build();
            for (int layer = 0; column != null && layer < column.getLayerCount(); layer++) {
                list = column.getLayerKind(layer) == LayerKind.REPEATED ? layer : list;
            }
        }

        /** Moves the next row's pictures to the spill and puts their sources into {@code row}. */
        void addTo(Map<String, Object> row) {
            if (column == null) {
                return;
            }
            if (this.row == rows) {
                if (!column.nextBatch()) {
                    throw new FormatException(file + " has no pictures after row " + (number - 1) + ", expected "
                            + size() + " rows; the file is damaged, fetch it again");
                }
                this.row = 0;
                rows = column.getRecordCount();
            }
            Object described = row.get(columns.top());
            if (list < 0) {
                row.put(columns.top(), source(this.row, described, columns.top()));
            } else {
                int first = column.getLayerOffsets(list)[this.row];
                int last = column.getLayerOffsets(list)[this.row + 1];
                List<?> fields = described instanceof List<?> l ? l : Collections.nCopies(last - first, null);
                if (fields.size() != last - first) {
                    throw new FormatException(id(number) + " has " + (last - first) + " pictures but " + fields.size()
                            + " descriptions of them; the file is damaged, fetch it again");
                }
                List<Object> sources = new ArrayList<>();
                for (int i = first; i < last; i++) {
                    sources.add(source(i, fields.get(i - first), columns.top() + "[" + (i - first) + "]"));
                }
                row.put(columns.top(), sources);
            }
            this.row++;
            number++;
        }

        /** Value {@code i} of the batch as a source; without bytes, its other fields as they are: they may hold a path. */
        private Object source(int i, Object fields, String at) {
            if (column.getLeafValidity().isNull(i)) {
                return fields;
            }
            int start = column.getBinaryOffsets()[i];
            int n = column.getBinaryOffsets()[i + 1] - start;
            Object path = fields instanceof Map<?, ?> map ? map.get("path") : null;
            String name = id(number) + " " + at + (path instanceof String text ? " (" + text + ")" : "");
            return new Spilled(spill, name, spill.append(column.getBinaryValues(), start, n), n);
        }

        @Override
        public void close() {
            if (column != null) {
                column.close();
            }
        }
    }

    private static Map<String, Object> plain(StructAccessor struct) {
        Map<String, Object> out = new LinkedHashMap<>();
        for (int i = 0; i < struct.getFieldCount(); i++) {
            String name = struct.getFieldName(i);
            out.put(name, struct.isNull(name) ? null : plain(struct.getValue(name)));
        }
        return out;
    }

    private static Object plain(Object value) {
        if (value instanceof PqStruct struct) {
            return plain((StructAccessor) struct);
        }
        if (value instanceof PqList list) {
            List<Object> out = new ArrayList<>(list.size());
            for (int i = 0; i < list.size(); i++) {
                out.add(list.isNull(i) ? null : plain(list.get(i)));
            }
            return out;
        }
        return value;
    }

    @Override
    public void check() {
        if (!columns.pictures().isEmpty() && !columns.described()) { // nothing else tells how many pictures a row has
            for (int row = 0; row < size(); row++) {
                get(row);
            }
            return;
        }
        try (Reader reader = new Reader(file)) {
            for (Group group : groups) {
                check(reader, group);
            }
        } catch (IOException e) {
            throw damaged(file.toString(), e);
        }
    }

    private void check(Reader reader, Group group) {
        try (RowReader rows = rows(reader, group, "")) {
            for (int row = group.firstRow(); row < group.firstRow() + group.rows(); row++) {
                Map<String, Object> words = next(rows, row);
                if (!columns.pictures().isEmpty()) {
                    words.compute(columns.top(), (top, described) -> unread(described));
                }
                RowParser.parse(id(row), folder, words);
            }
        } catch (IOException | RuntimeException | OutOfMemoryError | StackOverflowError e) {
            throw damaged(rowsOf(group), e);
        }
    }

    /** Stands for pictures whose bytes are not read. */
    private static Object unread(Object described) {
        if (described instanceof List<?> list) {
            return list.stream().map(ParquetDataset::unread).toList();
        }
        return described == null ? null : ImageSource.of("", new byte[0]);
    }

    private Map<String, Object> next(RowReader rows, int row) {
        if (!rows.hasNext()) {
            throw new FormatException(file + " ends after row " + (row - 1) + ", expected " + size()
                    + " rows; the file is damaged, fetch it again");
        }
        rows.next();
        return plain(rows);
    }

    private String rowsOf(Group group) {
        return file + " rows " + group.firstRow() + " to " + (group.firstRow() + group.rows() - 1);
    }

    /** What the reader's failure means for the user: it tells mistakes in a file by exceptions of many kinds. */
    private static FormatException damaged(String what, Throwable e) {
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

    @Override
    public String description() {
        return file + ", " + size() + " rows in " + groups.size() + " row groups";
    }

    @Override
    public void close() {
        spill.close();
    }
}
