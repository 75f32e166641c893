package lapidary.data;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import lapidary.device.CacheFolder;
import lapidary.format.FormatException;

/**
 * Bytes kept out of the heap, in a file of our own that has no name any more: the system frees it when the process ends, in
 * whatever way. One thread writes at a time; any number read. It lies in the user's
 * {@link CacheFolder}, as a folder for temporary files is often held in memory.
 */
final class Spill implements AutoCloseable {
    private final Path folder;
    private final FileChannel channel;
    private long end;

    private Spill(Path folder, FileChannel channel) {
        this.folder = folder;
        this.channel = channel;
    }

    static Spill open() {
        return open(CacheFolder.path());
    }

    static Spill open(Path folder) {
        try {
            Path file = Files.createTempFile(CacheFolder.make(folder), "rows-", ".tmp"); // readable by its owner only
            return new Spill(
                    folder,
                    FileChannel.open(
                            file,
                            StandardOpenOption.READ,
                            StandardOpenOption.WRITE,
                            StandardOpenOption.DELETE_ON_CLOSE)); // on POSIX the name goes at once
        } catch (IOException e) {
            throw new FormatException(
                    "cannot make a temporary file in " + folder + ": " + e.getMessage()
                            + "; set XDG_CACHE_HOME to a folder that you can write to",
                    e);
        }
    }

    /** Where the next byte goes. */
    long end() {
        return end;
    }

    /** Appends bytes and returns where they start. */
    long append(byte[] bytes, int offset, int length) {
        long at = end;
        ByteBuffer buffer = ByteBuffer.wrap(bytes, offset, length);
        try {
            while (buffer.hasRemaining()) {
                end += channel.write(buffer, end);
            }
        } catch (IOException e) {
            throw new FormatException(
                    "cannot keep decoded rows in " + folder + ": " + e.getMessage()
                            + "; free some space, or set XDG_CACHE_HOME to a folder on a larger disk",
                    e);
        }
        return at;
    }

    /** Reads back {@code length} bytes from {@code at}. */
    byte[] read(long at, int length) throws IOException {
        ByteBuffer buffer = ByteBuffer.allocate(length);
        while (buffer.hasRemaining()) {
            if (channel.read(buffer, at + buffer.position()) < 0) {
                throw new IOException("temporary file in " + folder + " ended early");
            }
        }
        return buffer.array();
    }

    /** Text of any length; {@code writeUTF} stops at 64 KiB. */
    static void writeText(DataOutputStream out, String text) throws IOException {
        out.writeInt(text.length());
        out.writeChars(text);
    }

    static String readText(DataInputStream in) throws IOException {
        char[] chars = new char[in.readInt()];
        for (int i = 0; i < chars.length; i++) {
            chars[i] = in.readChar();
        }
        return new String(chars);
    }

    @Override
    public void close() {
        try {
            channel.close();
        } catch (IOException e) {
            throw new FormatException("cannot close the temporary file in " + folder + ": " + e.getMessage(), e);
        }
    }
}
