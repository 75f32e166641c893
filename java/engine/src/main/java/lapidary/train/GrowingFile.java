package lapidary.train;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Optional;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;

/**
 * A log that grows while a run goes on. Where there is no room for a piece, it waits for the next one, as no log is worth
 * the training; the file then ends with a whole piece.
 */
final class GrowingFile implements AutoCloseable {
    private final Path file;
    private final ByteArrayOutputStream waits = new ByteArrayOutputStream(); // pieces not written yet
    private FileChannel channel; // null before the first piece

    /** Touches nothing: the first piece makes the file, or drops what an earlier run wrote to it. */
    GrowingFile(Path file) {
        this.file = file;
    }

    Path path() {
        return file;
    }

    /** Keeps what the file has, which must exist, and goes on at its end. */
    void keep() throws IOException {
        channel = FileChannel.open(file, StandardOpenOption.WRITE);
        channel.position(channel.size());
    }

    /** @return what is wrong where this piece is the first to wait */
    Optional<String> append(byte[] piece) {
        boolean waiting = waits.size() > 0;
        waits.writeBytes(piece);
        try {
            write();
            return Optional.empty();
        } catch (IOException e) {
            return waiting ? Optional.empty() : Optional.of(cannotWrite(e));
        }
    }

    /** All pieces that wait, or none. */
    private void write() throws IOException {
        if (channel == null) {
            channel = FileChannel.open(
                    file, StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING, StandardOpenOption.WRITE);
        }
        long end = channel.position();
        try {
            AtomicFile.writeFully(channel, ByteBuffer.wrap(waits.toByteArray()));
            waits.reset();
        } catch (IOException e) {
            channel.truncate(end);
            throw e;
        }
    }

    /** @throws FormatException where a piece still cannot be written, although the adapter is saved */
    void finish() {
        try {
            write();
        } catch (IOException e) {
            throw new FormatException(cannotWrite(e) + "; the adapter is saved", e);
        }
    }

    /** Makes what was written outlast a power cut; a checkpoint that follows counts on it. */
    void force() {
        try {
            if (channel != null) {
                channel.force(false);
            }
        } catch (IOException e) {
            throw new FormatException(cannotWrite(e), e);
        }
    }

    String cannotWrite(IOException e) {
        return "cannot write " + file + ": " + AtomicFile.reason(file, e);
    }

    @Override
    public void close() throws IOException {
        if (channel != null) {
            channel.close();
        }
    }
}
