package lapidary.format;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * A zip file that is read in place: nothing is ever extracted, so no entry's name can lead anywhere. Opening reads the
 * list of entries; an entry is read and checked against its length and its CRC when it is asked for. Safe for many threads.
 *
 * <p>Of entries only what is a plain file in the archive's own tree can be had: not symbolic links, and not names that are absolute or
 * climb out with {@code ..}, which no normal path equals. Two entries of one name are refused when that name is asked for.
 *
 * @see <a href="https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT">APPNOTE.TXT</a>, the format
 */
public final class ZipArchive implements AutoCloseable {
    private static final int END_SIGNATURE = 0x06054b50;
    private static final int END64_LOCATOR_SIGNATURE = 0x07064b50;
    private static final int END64_SIGNATURE = 0x06064b50;
    private static final int ENTRY_SIGNATURE = 0x02014b50;
    private static final int LOCAL_SIGNATURE = 0x04034b50;
    private static final int END_SIZE = 22;
    private static final int ENTRY_SIZE = 46;
    private static final int LOCAL_SIZE = 30;
    private static final int STORED = 0;
    private static final int DEFLATED = 8;
    private static final int SYMBOLIC_LINK = 0xA000;
    private static final int FILE_TYPE = 0xF000;
    private static final int UNIX = 3;

    /** Bytes of the list of entries: some 5 million of them. */
    private static final long MAX_DIRECTORY = 512L << 20;

    /** Bytes of an entry, as of an image file. */
    private static final long MAX_ENTRY = 1L << 30;

    /** Entries above this many bytes may not shrink by more than {@link #MAX_RATIO}: pictures are compressed already. */
    private static final long FREE = 32L << 20;

    private static final int MAX_RATIO = 250;

    private final Path file;
    private final FileChannel channel;
    private final long size;
    private final Map<String, Entry> entries = new HashMap<>();

    /** An entry as the list has it. {@code fault} is what makes it unreadable, empty if nothing does. */
    private record Entry(int method, long crc, long compressed, long length, long at, String fault) {}

    private ZipArchive(Path file, FileChannel channel, long size) {
        this.file = file;
        this.channel = channel;
        this.size = size;
    }

    /**
     * Reads the list of entries.
     *
     * @throws FormatException the file is not there, or no zip file, or damaged
     */
    public static ZipArchive open(Path file) {
        try {
            FileChannel channel = FileChannel.open(file, StandardOpenOption.READ);
            try {
                ZipArchive archive = new ZipArchive(file, channel, channel.size());
                archive.readDirectory();
                return archive;
            } catch (IOException | RuntimeException | Error e) {
                channel.close();
                throw e;
            }
        } catch (NoSuchFileException e) {
            throw new FormatException("no such file: " + file, e);
        } catch (IOException e) {
            throw new FormatException("cannot read " + file + ": " + Json.why(e), e);
        }
    }

    public Path file() {
        return file;
    }

    /** Names that the list has, folders and unreadable ones left out. */
    public int size() {
        return (int) entries.values().stream()
                .filter(entry -> entry.fault().isEmpty())
                .count();
    }

    /** Whether the list has this name, readable or not. */
    public boolean has(String name) {
        return entries.containsKey(name);
    }

    /** The name that equals {@code name} but for the case of its letters, for messages. */
    public Optional<String> nearest(String name) {
        return entries.keySet().stream()
                .filter(each -> each.equalsIgnoreCase(name))
                .findFirst();
    }

    /**
     * Length of the entry's content, bytes.
     *
     * @throws IOException there is no such entry, or it cannot be read
     */
    public long length(String name) throws IOException {
        return entry(name).length();
    }

    /**
     * The entry's content.
     *
     * @throws IOException there is no such entry, or it is damaged, encrypted, a link, or packed beyond what a picture can be
     */
    public byte[] read(String name) throws IOException {
        Entry entry = entry(name);
        ByteBuffer local = bytes(entry.at(), LOCAL_SIZE);
        if (local.getInt(0) != LOCAL_SIGNATURE) {
            throw fault(name, "has no header at byte " + entry.at() + ": the archive is damaged");
        }
        long from = entry.at() + LOCAL_SIZE + unsigned(local, 26) + unsigned(local, 28);
        if (from > size - entry.compressed()) {
            throw fault(name, "lies beyond the end of the archive: it is truncated, fetch it again");
        }
        byte[] content =
                entry.method() == STORED ? bytes(from, (int) entry.length()).array() : inflate(name, from, entry);
        CRC32 crc = new CRC32();
        crc.update(content);
        if (crc.getValue() != entry.crc()) {
            throw fault(name, "does not have the checksum that the archive says: it is damaged, fetch it again");
        }
        return content;
    }

    private Entry entry(String name) throws IOException {
        Entry entry = entries.get(name);
        if (entry == null) {
            throw fault(name, "is not in the archive");
        }
        if (!entry.fault().isEmpty()) {
            throw fault(name, entry.fault());
        }
        if (entry.length() > MAX_ENTRY) {
            throw fault(name, "has " + entry.length() + " bytes, expected at most " + MAX_ENTRY);
        }
        if (entry.length() > FREE && entry.length() / MAX_RATIO > entry.compressed()) {
            throw fault(
                    name,
                    "claims " + entry.length() + " bytes in " + entry.compressed()
                            + ": no picture packs like that, it looks like a zip bomb");
        }
        return entry;
    }

    private byte[] inflate(String name, long from, Entry entry) throws IOException {
        byte[] content = new byte[(int) entry.length()];
        Inflater inflater = new Inflater(true);
        try {
            long at = from;
            long end = from + entry.compressed();
            int filled = 0;
            byte[] beyond = new byte[1];
            while (!inflater.finished()) {
                if (inflater.needsInput()) {
                    if (at == end) {
                        throw fault(name, "ends early: it is damaged, fetch it again");
                    }
                    int n = (int) Math.min(1 << 16, end - at);
                    inflater.setInput(bytes(at, n).array());
                    at += n;
                }
                boolean full = filled == content.length;
                int n = full ? inflater.inflate(beyond) : inflater.inflate(content, filled, content.length - filled);
                if (full && n > 0) {
                    throw fault(name, "is longer than the " + entry.length() + " bytes that the archive says");
                }
                filled += n;
                if (n == 0 && inflater.needsDictionary()) {
                    throw fault(name, "needs a dictionary: it is damaged");
                }
            }
            if (filled != content.length) {
                throw fault(name, "has " + filled + " bytes, " + entry.length() + " by the archive's list");
            }
            return content;
        } catch (DataFormatException e) {
            throw fault(name, "cannot be unpacked (" + e.getMessage() + "): it is damaged, fetch it again");
        } finally {
            inflater.end();
        }
    }

    private IOException fault(String name, String why) {
        return new IOException("entry \"" + name + "\" of " + file + " " + why);
    }

    private void readDirectory() throws IOException {
        long end = findEnd();
        ByteBuffer tail = bytes(end, END_SIZE);
        long count = unsigned(tail, 10);
        long length = tail.getInt(12) & 0xffffffffL;
        long start = tail.getInt(16) & 0xffffffffL;
        if (count == 0xffff || length == 0xffffffffL || start == 0xffffffffL) {
            ByteBuffer end64 = end64(end);
            count = end64.getLong(32);
            length = end64.getLong(40);
            start = end64.getLong(48);
        }
        if (length < 0 || start < 0 || length > size || start > size - length || count < 0) {
            throw damaged("its list of entries lies outside of its " + size + " bytes");
        }
        if (length > MAX_DIRECTORY || count > length / ENTRY_SIZE) {
            throw damaged("it claims " + count + " entries in a list of " + length + " bytes");
        }
        ByteBuffer list = bytes(start, (int) length);
        for (long i = 0; i < count; i++) {
            readEntry(list);
        }
    }

    /** The record that ends a zip file, before a comment of at most 64 KiB. */
    private long findEnd() throws IOException {
        int n = (int) Math.min(size, END_SIZE + 0xffff);
        ByteBuffer tail = bytes(size - n, n);
        for (int at = n - END_SIZE; at >= 0; at--) {
            if (tail.getInt(at) == END_SIGNATURE && at + END_SIZE + unsigned(tail, at + 20) <= n) {
                return size - n + at;
            }
        }
        throw damaged("it has no list of entries at its end: it is truncated or no zip file");
    }

    private ByteBuffer end64(long end) throws IOException {
        if (end < 20) {
            throw damaged("its zip64 record is missing");
        }
        ByteBuffer locator = bytes(end - 20, 20);
        long at = locator.getLong(8);
        if (locator.getInt(0) != END64_LOCATOR_SIGNATURE || at < 0 || at > end - 20 - 56) {
            throw damaged("its zip64 record is missing");
        }
        ByteBuffer record = bytes(at, 56);
        if (record.getInt(0) != END64_SIGNATURE) {
            throw damaged("its zip64 record is missing");
        }
        return record;
    }

    private void readEntry(ByteBuffer list) {
        int at = list.position();
        if (list.remaining() < ENTRY_SIZE || list.getInt(at) != ENTRY_SIGNATURE) {
            throw damaged("its list of entries is broken after " + entries.size());
        }
        int nameLength = unsigned(list, at + 28);
        int extraLength = unsigned(list, at + 30);
        int commentLength = unsigned(list, at + 32);
        if (list.remaining() < ENTRY_SIZE + nameLength + extraLength + commentLength) {
            throw damaged("its list of entries is broken after " + entries.size());
        }
        int flags = unsigned(list, at + 8);
        int method = unsigned(list, at + 10);
        long[] fields = { // in the order in which a zip64 field replaces those that are all ones
            list.getInt(at + 24) & 0xffffffffL, list.getInt(at + 20) & 0xffffffffL, list.getInt(at + 42) & 0xffffffffL
        };
        widen(list, at + ENTRY_SIZE + nameLength, extraLength, fields);
        byte[] name = new byte[nameLength];
        list.get(at + ENTRY_SIZE, name);
        list.position(at + ENTRY_SIZE + nameLength + extraLength + commentLength);
        String text = text(name);
        if (text.endsWith("/")) {
            return;
        }
        boolean link =
                unsigned(list, at + 4) >> 8 == UNIX && (list.getInt(at + 38) >>> 16 & FILE_TYPE) == SYMBOLIC_LINK;
        long compressed = fields[1];
        String fault = "";
        if (link) {
            fault = "is a symbolic link, which is not followed; put the file itself into the archive";
        } else if ((flags & 1) != 0) {
            fault = "is encrypted; write the archive without a password";
        } else if (method != STORED && method != DEFLATED) {
            fault = "is packed by method " + method + ", expected stored or deflated; write the archive again";
        } else if (compressed < 0
                || fields[0] < 0
                || fields[2] < 0
                || fields[2] > size - LOCAL_SIZE
                || compressed > size
                || method == STORED && compressed != fields[0]) {
            fault = "has lengths that cannot be: the archive is damaged";
        }
        Entry entry = new Entry(method, list.getInt(at + 16) & 0xffffffffL, compressed, fields[0], fields[2], fault);
        entries.merge(
                text,
                entry,
                (one, two) -> new Entry(0, 0, 0, 0, 0, "is there twice; which one counts? Keep one of them"));
    }

    private static void widen(ByteBuffer list, int from, int length, long[] fields) {
        for (int at = from; at + 4 <= from + length; ) {
            int id = unsigned(list, at);
            int end = Math.min(at + 4 + unsigned(list, at + 2), from + length);
            int next = at + 4;
            for (int f = 0; id == 1 && f < fields.length; f++) {
                if (fields[f] == 0xffffffffL && next + 8 <= end) {
                    fields[f] = list.getLong(next);
                    next += 8;
                }
            }
            at = end;
        }
    }

    /** Names are UTF-8, or of some old code page in which only ASCII is sure. */
    private static String text(byte[] name) {
        try {
            return StandardCharsets.UTF_8
                    .newDecoder()
                    .decode(ByteBuffer.wrap(name))
                    .toString();
        } catch (CharacterCodingException e) {
            return new String(name, StandardCharsets.ISO_8859_1);
        }
    }

    private ByteBuffer bytes(long at, int length) throws IOException {
        ByteBuffer buffer = ByteBuffer.allocate(length).order(ByteOrder.LITTLE_ENDIAN);
        while (buffer.hasRemaining()) {
            if (channel.read(buffer, at + buffer.position()) < 0) {
                throw new IOException(file + " ends early: it is truncated, or has become shorter");
            }
        }
        return buffer.flip();
    }

    private static int unsigned(ByteBuffer buffer, int at) {
        return buffer.getShort(at) & 0xffff;
    }

    private FormatException damaged(String why) {
        return new FormatException("cannot read " + file + ": " + why + "; fetch it again");
    }

    @Override
    public void close() {
        try {
            channel.close();
        } catch (IOException e) {
            throw new FormatException("cannot close " + file + ": " + Json.why(e), e);
        }
    }
}
