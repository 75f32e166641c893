package lapidary.format;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.EOFException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A safetensors file, memory-mapped: eight bytes of header length, the header in JSON, then the tensors' bytes.
 *
 * <p>Nothing in the file is believed. The header may be at most 100 MB; the tensors must cover the data part exactly once,
 * without overlap, hole or rest; shape times dtype must give each tensor's length. Axes of size zero are allowed.
 * Opening reads the header only. Every mistake is a {@link FormatException} that names file, tensor and cure.
 *
 * <p>The file must not be changed while it is open: the system then ends the process on the next access (SIGBUS).
 * {@link #checkUnchanged} tells before a long read whether that has happened.
 *
 * @see <a href="https://github.com/huggingface/safetensors#format">the format</a>
 */
public final class Safetensors implements AutoCloseable {
    /** Longest header, in bytes; the limit of the reference library. */
    static final long MAX_HEADER = 100_000_000;

    private final Path file;
    private final Map<String, TensorEntry> entries; // ordered as the data are in the file
    private final Map<String, String> metadata;
    private final Arena arena;
    private final long size; // bytes
    private final FileTime modified;

    private Safetensors(
            Path file,
            Map<String, TensorEntry> entries,
            Map<String, String> metadata,
            Arena arena,
            long size,
            FileTime modified) {
        this.file = file;
        this.entries = entries;
        this.metadata = metadata;
        this.arena = arena;
        this.size = size;
        this.modified = modified;
    }

    /** Maps and checks {@code file}. */
    public static Safetensors open(Path file) {
        Arena arena = Arena.ofShared();
        try {
            return open(file, arena);
        } catch (RuntimeException | Error e) {
            arena.close();
            throw e;
        }
    }

    private static Safetensors open(Path file, Arena arena) {
        if (Files.isDirectory(file)) {
            throw new FormatException(file + " is a folder, expected a safetensors file");
        }
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            FileTime modified = Files.getLastModifiedTime(file);
            long size = channel.size();
            byte[] headerBytes = header(file, channel, size);
            long dataStart = 8L + headerBytes.length;
            Header header = new HeaderReader(file, size - dataStart).read(headerBytes);
            MemorySegment mapping = channel.map(FileChannel.MapMode.READ_ONLY, 0, size, arena);
            if (channel.size() != size) {
                throw new FormatException(file + " changed its size from " + size + " to " + channel.size()
                        + " bytes while it was opened; wait until whoever writes it is done");
            }
            Map<String, TensorEntry> entries =
                    LinkedHashMap.newLinkedHashMap(header.tensors().size());
            for (Slot slot : header.tensors()) {
                MemorySegment data = mapping.asSlice(dataStart + slot.begin(), slot.end() - slot.begin());
                entries.put(
                        slot.name(), new TensorEntry(slot.name(), slot.dtype(), slot.shape(), data.asReadOnly(), file));
            }
            return new Safetensors(
                    file,
                    Collections.unmodifiableMap(entries),
                    Collections.unmodifiableMap(header.metadata()),
                    arena,
                    size,
                    modified);
        } catch (NoSuchFileException e) {
            throw new FormatException("no such file: " + file, e);
        } catch (IOException e) {
            throw new FormatException("cannot read " + file + ": " + Json.why(e), e);
        }
    }

    public Path file() {
        return file;
    }

    /** Names in the order of the data. */
    public Set<String> names() {
        return entries.keySet();
    }

    /** The tensor called {@code name}, which must be there. */
    public TensorEntry entry(String name) {
        TensorEntry entry = entries.get(name);
        if (entry == null) {
            throw new FormatException(file + " has no tensor \"" + name + "\"");
        }
        return entry;
    }

    /** All tensors, by name, in the order of the data. */
    public Map<String, TensorEntry> entries() {
        return entries;
    }

    /** The free text of {@code __metadata__}; empty where there is none. */
    public Map<String, String> metadata() {
        return metadata;
    }

    /** Throws if the file on the disk is not the one that was opened, by size and time of change. */
    public void checkUnchanged() {
        try {
            if (Files.size(file) != size || !Files.getLastModifiedTime(file).equals(modified)) {
                throw new FormatException(file + " was changed after it was opened; start again with the file at rest");
            }
        } catch (IOException e) {
            throw new FormatException(file + " was removed after it was opened: " + Json.why(e), e);
        }
    }

    /** Unmaps the file: the data of its entries must not be used any more. */
    @Override
    public void close() {
        arena.close();
    }

    private static byte[] header(Path file, FileChannel channel, long size) throws IOException {
        ByteBuffer start = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
        if (size < 8) {
            throw new FormatException(file + " has " + size
                    + " bytes, fewer than the 8 of a safetensors header length; the file is truncated, fetch it again");
        }
        readFully(file, channel, start);
        long length = start.getLong(0);
        refuseOtherFormats(file, start.array());
        if (length <= 0 || length > MAX_HEADER) {
            throw new FormatException(file + ": header length is " + Long.toUnsignedString(length) + ", expected 1 to "
                    + MAX_HEADER + " bytes; this is not a safetensors file, or it is damaged");
        }
        if (length > size - 8) {
            throw new FormatException(file + ": header length is " + length + " but only " + (size - 8)
                    + " bytes follow; the file is truncated or no safetensors file, fetch it again");
        }
        ByteBuffer header = ByteBuffer.allocate((int) length);
        readFully(file, channel, header);
        return header.array();
    }

    private static void readFully(Path file, FileChannel channel, ByteBuffer into) throws IOException {
        while (into.hasRemaining()) {
            if (channel.read(into) < 0) {
                throw new EOFException(file + " ended while it was read");
            }
        }
    }

    /** The files that users point at by mistake get a better word than "header length". */
    private static void refuseOtherFormats(Path file, byte[] start) {
        String text = new String(start, StandardCharsets.ISO_8859_1);
        if (text.equals("version ")) {
            throw new FormatException(
                    file + " is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder");
        }
        if (text.startsWith("PK\u0003\u0004")) {
            throw new FormatException(
                    file + " is a zip archive (a PyTorch .bin?), expected safetensors; convert it first");
        }
        if (text.startsWith("GGUF")) {
            throw new FormatException(file + " is a GGUF file, expected safetensors; use the original checkpoint");
        }
    }

    private record Slot(String name, String dtype, long[] shape, long begin, long end) {}

    private record Header(List<Slot> tensors, Map<String, String> metadata) {}

    /** Parses the header and checks it against {@code dataSize}, the bytes behind it. */
    private record HeaderReader(Path file, long dataSize) {
        Header read(byte[] bytes) {
            if (bytes[0] != '{') {
                throw new FormatException(file + ": header does not start with {; this is not a safetensors file");
            }
            String text = Json.utf8(file + ": header", bytes);
            List<Slot> slots = new ArrayList<>();
            Map<String, String> metadata = new LinkedHashMap<>();
            try (JsonParser json = Json.parser(text)) {
                json.nextToken();
                while (json.nextToken() != JsonToken.END_OBJECT) {
                    String name = json.currentName();
                    json.nextToken();
                    if (name.equals("__metadata__")) {
                        readMetadata(json, metadata);
                    } else {
                        slots.add(readSlot(json, name));
                    }
                }
                if (json.nextToken() != null) {
                    throw new FormatException(file + ": header has something after its JSON object");
                }
            } catch (IOException e) {
                throw Json.malformed(file + ": header", e);
            }
            slots.sort(Comparator.comparingLong(Slot::begin).thenComparingLong(Slot::end));
            checkCover(slots);
            return new Header(slots, metadata);
        }

        private void readMetadata(JsonParser json, Map<String, String> metadata) throws IOException {
            if (json.currentToken() == JsonToken.VALUE_NULL) {
                return;
            }
            if (json.currentToken() != JsonToken.START_OBJECT) {
                throw new FormatException(file + ": __metadata__ is not an object of strings");
            }
            while (json.nextToken() != JsonToken.END_OBJECT) {
                String key = json.currentName();
                if (json.nextToken() != JsonToken.VALUE_STRING) {
                    throw new FormatException(file + ": __metadata__ \"" + key + "\" is not a string");
                }
                metadata.put(key, json.getText());
            }
        }

        private Slot readSlot(JsonParser json, String name) throws IOException {
            if (json.currentToken() != JsonToken.START_OBJECT) {
                throw bad(name, "expected an object with dtype, shape and data_offsets");
            }
            String dtype = "";
            long[] shape = {-1};
            long[] offsets = {};
            while (json.nextToken() != JsonToken.END_OBJECT) {
                String key = json.currentName();
                JsonToken value = json.nextToken();
                if (key.equals("dtype")) {
                    if (value != JsonToken.VALUE_STRING) {
                        throw bad(name, "dtype is not a string");
                    }
                    dtype = json.getText();
                } else if (key.equals("shape")) {
                    shape = readLongs(json, name, key);
                } else if (key.equals("data_offsets")) {
                    offsets = readLongs(json, name, key);
                } else {
                    json.skipChildren();
                }
            }
            return check(name, dtype, shape, offsets);
        }

        private long[] readLongs(JsonParser json, String name, String key) throws IOException {
            if (json.currentToken() != JsonToken.START_ARRAY) {
                throw bad(name, key + " is not a list");
            }
            long[] out = new long[4];
            int n = 0;
            while (json.nextToken() != JsonToken.END_ARRAY) {
                if (json.currentToken() != JsonToken.VALUE_NUMBER_INT) {
                    throw bad(name, key + " holds something that is not a whole number");
                }
                BigInteger value = json.getBigIntegerValue();
                if (value.signum() < 0 || value.bitLength() > 63) {
                    throw bad(name, key + " holds " + value + ", expected 0 to 2^63 - 1");
                }
                out = n == out.length ? Arrays.copyOf(out, 2 * n) : out;
                out[n++] = value.longValue();
            }
            return Arrays.copyOf(out, n);
        }

        private Slot check(String name, String dtype, long[] shape, long[] offsets) {
            if (dtype.isEmpty() || (shape.length == 1 && shape[0] < 0) || offsets.length != 2) {
                throw bad(name, "expected a dtype, a shape and data_offsets [begin, end]");
            }
            int bits = TensorEntry.bits(dtype);
            if (bits < 0) {
                throw bad(name, "unknown dtype \"" + dtype + "\", expected one of " + TensorEntry.DTYPES);
            }
            if (offsets[0] > offsets[1] || offsets[1] > dataSize) {
                throw bad(
                        name,
                        "data_offsets " + Arrays.toString(offsets) + " do not lie in the " + dataSize
                                + " bytes of data; the file is truncated or damaged, fetch it again");
            }
            long expected = bytes(name, shape, bits);
            if (expected != offsets[1] - offsets[0]) {
                throw bad(
                        name,
                        dtype + " " + Arrays.toString(shape) + " takes " + expected + " bytes, but data_offsets span "
                                + (offsets[1] - offsets[0]));
            }
            return new Slot(name, dtype, shape, offsets[0], offsets[1]);
        }

        private long bytes(String name, long[] shape, int bits) {
            try {
                long elements = 1;
                for (long axis : shape) {
                    elements = Math.multiplyExact(elements, axis);
                }
                long total = Math.multiplyExact(elements, (long) bits);
                if (total % 8 != 0) {
                    throw bad(name, "its " + total + " bits do not fill whole bytes");
                }
                return total / 8;
            } catch (ArithmeticException e) {
                throw bad(name, "shape " + Arrays.toString(shape) + " has more elements than 64 bits can count");
            }
        }

        private void checkCover(List<Slot> slots) {
            long at = 0;
            String before = "the header";
            for (Slot slot : slots) {
                if (slot.begin() < at) {
                    throw bad(slot.name(), "starts at byte " + slot.begin() + " of the data, inside of " + before);
                }
                if (slot.begin() > at) {
                    throw bad(
                            slot.name(),
                            "starts at byte " + slot.begin() + " of the data, leaving a hole of " + (slot.begin() - at)
                                    + " bytes after " + before);
                }
                at = slot.end();
                before = "\"" + slot.name() + "\"";
            }
            if (at != dataSize) {
                throw new FormatException(file + ": " + (dataSize - at) + " bytes follow after the last tensor ("
                        + before + "); the file is damaged or two files in one, fetch it again");
            }
        }

        private FormatException bad(String name, String why) {
            String shown = name.length() <= 200 ? name : name.substring(0, 200) + "...";
            return new FormatException(file + ": tensor \"" + shown + "\": " + why);
        }
    }
}
