package lapidary.data;

import dev.hardwood.internal.metadata.PageHeader;
import dev.hardwood.internal.thrift.PageHeaderReader;
import dev.hardwood.internal.thrift.ThriftCompactReader;
import dev.hardwood.metadata.ColumnChunk;
import dev.hardwood.metadata.ColumnMetaData;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.zip.CRC32;
import lapidary.format.FormatException;

/**
 * Walks over the pages of a column before they are decoded. The library's decoder trusts the sizes in the file: where they
 * do not agree it can wait for ever for values that never come, or ask for more memory than there is.
 */
final class ParquetPages {
    private ParquetPages() {}

    /**
     * Checks that the pages of {@code chunk} lie in it one after the other, hold together the number of values it claims, fit
     * into the memory, and have the checksums they state.
     */
    static void check(Path file, FileChannel channel, ColumnChunk chunk) throws IOException {
        ColumnMetaData meta = chunk.metaData();
        String where = file + " column " + meta.pathInSchema();
        long start = chunk.chunkStartOffset();
        long end = start + meta.totalCompressedSize(); // inside of the file: checked when it was opened
        long values = 0;
        long at = start;
        while (at < end && values < meta.numValues()) {
            ByteBuffer page = channel.map(FileChannel.MapMode.READ_ONLY, at, Math.min(end - at, Integer.MAX_VALUE));
            ThriftCompactReader thrift = new ThriftCompactReader(page);
            PageHeader header = PageHeaderReader.read(thrift);
            long data = thrift.getBytesRead();
            int size = header.compressedPageSize();
            int unpacked = header.uncompressedPageSize();
            if (size < 0 || unpacked < 0 || size > page.capacity() - data) {
                throw new FormatException(where + " has a page of " + size + " bytes at byte " + at
                        + ", more than its column has left; the file is damaged, fetch it again");
            }
            if (unpacked > Runtime.getRuntime().maxMemory() / 2) {
                throw new OutOfMemoryError(where + " has a page of " + unpacked + " bytes");
            }
            if (header.crc() != null) {
                CRC32 crc = new CRC32();
                crc.update(page.slice((int) data, size));
                if ((int) crc.getValue() != header.crc()) {
                    throw new FormatException(where + " has a page at byte " + at
                            + " whose checksum is wrong; the file is damaged, fetch it again");
                }
            }
            values += values(header, where);
            at += data + size;
        }
        if (values != meta.numValues()) {
            throw new FormatException(where + " holds " + values + " values where it claims " + meta.numValues()
                    + "; the file is damaged, fetch it again");
        }
    }

    private static int values(PageHeader header, String where) {
        int values = 0;
        if (header.dataPageHeader() != null) {
            values = header.dataPageHeader().numValues();
        } else if (header.dataPageHeaderV2() != null) {
            values = header.dataPageHeaderV2().numValues();
        }
        if (values < 0) {
            throw new FormatException(where + " has a page of " + values + " values; the file is damaged");
        }
        return values;
    }
}
