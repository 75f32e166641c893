package lapidary.data;

import dev.hardwood.internal.metadata.DataPageHeader;
import dev.hardwood.internal.metadata.DataPageHeaderV2;
import dev.hardwood.internal.metadata.PageHeader;
import dev.hardwood.internal.thrift.PageHeaderReader;
import dev.hardwood.internal.thrift.ThriftCompactReader;
import dev.hardwood.metadata.ColumnChunk;
import dev.hardwood.metadata.ColumnMetaData;
import dev.hardwood.metadata.CompressionCodec;
import dev.hardwood.metadata.Encoding;
import dev.hardwood.schema.ColumnSchema;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.util.Arrays;
import java.util.zip.CRC32;

/**
 * The entries of a column in a row group, one after the other. Pages are read as streams, so that neither the size of the
 * group nor that of a page counts for the memory, only its dictionary and one value do. Every size in the file is checked
 * against what holds it before it is used.
 *
 * <p>An entry has a repetition level, which says which list it continues, a definition level, which says how far down its
 * path anything is there, and a value where all of it is.
 */
final class ParquetColumn implements AutoCloseable {
    private static final int[] HEADER_SIZES = {1 << 12, 1 << 20, 1 << 26}; // bytes to look for a page's head in

    private final FileChannel channel;
    private final ColumnMetaData meta;
    private final ColumnSchema schema;
    private final PageValues.Binary binary;
    private final long end; // of the column in the file
    private long at; // of the next page
    private long left; // entries behind those of the page at hand
    private Object[] dictionary = {};

    private int inPage; // entries left in the page at hand
    private HybridInts repetitions; // null where nothing repeats
    private HybridInts definitions; // null where every value is there
    private Body body;
    private PageValues values; // null until a value is there
    private PageStream open; // what the values come from, or the levels and they

    private boolean present; // an entry is at hand
    private int repetition;
    private int definition;
    private Object value; // null where none is there

    /** Where the values of a page lie, which may have none. */
    private record Body(long at, long compressed, CompressionCodec codec, long size, Encoding encoding, int entries) {}

    /** A page's head and its length in the file. */
    private record Head(PageHeader header, int length) {}

    /**
     * Moves to the first entry.
     *
     * @param chunk where the column lies, which must be inside of the file
     * @param binary what becomes of values of bytes
     * @throws IOException the file cannot be read, or it is damaged
     */
    ParquetColumn(FileChannel channel, ColumnChunk chunk, ColumnSchema schema, PageValues.Binary binary)
            throws IOException {
        this.channel = channel;
        this.meta = chunk.metaData();
        this.schema = schema;
        this.binary = binary;
        this.at = chunk.chunkStartOffset();
        this.end = at + meta.totalCompressedSize();
        this.left = meta.numValues();
        advance();
    }

    ColumnSchema schema() {
        return schema;
    }

    /** Whether there is an entry at hand; the last has been passed where not. */
    boolean isPresent() {
        return present;
    }

    int repetition() {
        return repetition;
    }

    int definition() {
        return definition;
    }

    /** The value at hand, or null. */
    Object value() {
        return value;
    }

    /** Moves to the next entry. */
    void advance() throws IOException {
        try {
            while (inPage == 0 && left > 0) {
                nextPage();
            }
            present = inPage > 0;
            if (!present) {
                return;
            }
            inPage--;
            repetition = level(repetitions, schema.maxRepetitionLevel());
            definition = level(definitions, schema.maxDefinitionLevel());
            value = null;
            if (definition == schema.maxDefinitionLevel()) {
                if (values == null) {
                    startValues();
                }
                value = values.next();
            }
        } catch (IOException e) {
            throw new IOException("column " + meta.pathInSchema() + ": " + e.getMessage(), e);
        }
    }

    private static int level(HybridInts levels, int most) throws IOException {
        int level = levels == null ? most : levels.next();
        if (level < 0 || level > most) {
            throw new IOException("a level of " + level + ", at most " + most);
        }
        return level;
    }

    private void startValues() throws IOException {
        if (open == null) {
            open = PageStream.open(channel, body.at(), body.compressed(), body.codec(), body.size());
        }
        values = PageValues.of(body.encoding(), meta.type(), open, body.entries(), dictionary, binary);
    }

    private void nextPage() throws IOException {
        close();
        Head head = head();
        PageHeader header = head.header();
        long data = at + head.length();
        int compressed = header.compressedPageSize();
        int size = header.uncompressedPageSize();
        if (compressed < 0 || size < 0 || compressed > end - data) {
            throw new IOException(
                    "a page of " + compressed + " bytes at byte " + at + " where " + (end - data) + " are left");
        }
        checkCrc(header, data, compressed);
        at = data + compressed;
        if (header.dictionaryPageHeader() != null) {
            readDictionary(header.dictionaryPageHeader().numValues(), data, compressed, size);
        } else if (header.dataPageHeader() != null) {
            startPage(header.dataPageHeader(), data, compressed, size);
        } else if (header.dataPageHeaderV2() != null) {
            startPage(header.dataPageHeaderV2(), data, compressed, size);
        } // pages of other kinds are passed over
    }

    private Head head() throws IOException {
        long room = end - at;
        if (room <= 0) {
            throw new EOFException("the pages end " + left + " values early");
        }
        for (int size : HEADER_SIZES) {
            ByteBuffer bytes = ByteBuffer.allocate((int) Math.min(size, room));
            while (bytes.hasRemaining()) {
                if (channel.read(bytes, at + bytes.position()) < 0) {
                    throw new EOFException("the file ends early");
                }
            }
            try {
                ThriftCompactReader thrift = new ThriftCompactReader(bytes.flip());
                return new Head(PageHeaderReader.read(thrift), thrift.getBytesRead());
            } catch (IOException | RuntimeException e) {
                if (size >= room || size == HEADER_SIZES[HEADER_SIZES.length - 1]) {
                    throw new IOException("no page at byte " + at + " (" + e.getMessage() + ")", e);
                } // else it may be longer
            }
        }
        throw new AssertionError("the last size throws");
    }

    private void checkCrc(PageHeader header, long data, int compressed) throws IOException {
        if (header.crc() == null) {
            return;
        }
        CRC32 crc = new CRC32();
        try (PageStream bytes = PageStream.open(channel, data, compressed, CompressionCodec.UNCOMPRESSED, compressed)) {
            bytes.transfer(compressed, crc::update);
        }
        if ((int) crc.getValue() != header.crc()) {
            throw new IOException("the checksum of the page at byte " + at + " is wrong");
        }
    }

    private void readDictionary(int count, long data, int compressed, int size) throws IOException {
        if (count < 0 || count > size) { // a value has a byte or more
            throw new IOException("a dictionary of " + count + " values in " + size + " bytes");
        }
        try (PageStream in = PageStream.open(channel, data, compressed, meta.codec(), size)) {
            Object[] found = new Object[Math.min(count, 1 << 10)];
            PageValues all =
                    count == 0 ? () -> null : PageValues.of(Encoding.PLAIN, meta.type(), in, count, found, binary);
            for (int i = 0; i < count; i++) {
                found = i < found.length ? found : Arrays.copyOf(found, Math.min(count, 2 * found.length));
                found[i] = all.next();
            }
            dictionary = found;
        }
    }

    /** Levels and values compressed together. */
    private void startPage(DataPageHeader header, long data, int compressed, int size) throws IOException {
        startEntries(header.numValues());
        body = new Body(data, compressed, meta.codec(), size, header.encoding(), inPage);
        if (inPage > 0 && (schema.maxRepetitionLevel() > 0 || schema.maxDefinitionLevel() > 0)) {
            open = PageStream.open(channel, data, compressed, meta.codec(), size);
            repetitions = levels(schema.maxRepetitionLevel(), header.repetitionLevelEncoding());
            definitions = levels(schema.maxDefinitionLevel(), header.definitionLevelEncoding());
        }
    }

    private HybridInts levels(int most, Encoding encoding) throws IOException {
        if (most == 0) {
            return null;
        }
        if (encoding != Encoding.RLE) {
            throw new IOException("levels in encoding " + encoding + " are not supported");
        }
        return levels(most, open.readBytes(open.readLength()));
    }

    private static HybridInts levels(int most, byte[] bytes) throws IOException {
        return most == 0 ? null : new HybridInts(PageStream.of(bytes), 32 - Integer.numberOfLeadingZeros(most));
    }

    /** Levels as they are, then values compressed. */
    private void startPage(DataPageHeaderV2 header, long data, int compressed, int size) throws IOException {
        startEntries(header.numValues());
        int first = header.repetitionLevelsByteLength();
        int second = header.definitionLevelsByteLength();
        if (first < 0 || second < 0 || (long) first + second > Math.min(compressed, size)) {
            throw new IOException("levels of " + first + " and " + second + " bytes in a page of " + compressed);
        }
        try (PageStream in =
                PageStream.open(channel, data, first + second, CompressionCodec.UNCOMPRESSED, first + second)) {
            repetitions = levels(schema.maxRepetitionLevel(), in.readBytes(first));
            definitions = levels(schema.maxDefinitionLevel(), in.readBytes(second));
        }
        int both = first + second;
        CompressionCodec codec = header.isCompressed() ? meta.codec() : CompressionCodec.UNCOMPRESSED;
        body = new Body(data + both, compressed - both, codec, size - both, header.encoding(), inPage);
    }

    private void startEntries(int count) throws IOException {
        if (count < 0 || count > left) {
            throw new IOException("a page of " + count + " values where " + left + " are left");
        }
        left -= count;
        inPage = count;
    }

    /** Gives back what the page at hand holds; the file is the caller's. */
    @Override
    public void close() throws IOException {
        repetitions = null;
        definitions = null;
        values = null;
        if (open != null) {
            open.close();
            open = null;
        }
    }
}
