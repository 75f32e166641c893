package lapidary.train;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import java.util.zip.CRC32C;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;

/**
 * What TensorBoard reads: records of TFRecord's form that hold {@code tensorflow.Event} messages, with the tags of
 * transformers' TensorBoardCallback ({@code train/loss}, {@code eval/loss}, texts {@code args} and {@code model_config}).
 * A run that is gone on with gets a file of its own in the same folder, which begins with the mark that makes TensorBoard
 * drop what the earlier file has of the same steps.
 *
 * @see <a href="https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto">event.proto</a>,
 *     summary.proto and tensor.proto beside it, for the numbers of fields
 */
final class EventFile implements AutoCloseable {
    private static final Pattern NAME = Pattern.compile("events\\.out\\.tfevents\\.(\\d{10,12})\\..*");
    private static final int MASK = 0xa282ead8; // of TFRecord's checksums
    private static final int DT_STRING = 7; // tensorflow.DataType
    private static final int START = 1; // tensorflow.SessionLog.SessionStatus
    private static final int LONGEST_FIRST = 256; // bytes of a first record
    private static final Proto WRITER = new Proto().message(10, new Proto().text(1, "lapidary")); // source_metadata

    private final GrowingFile file;

    private EventFile(GrowingFile file) {
        this.file = file;
    }

    /** {@code runs/<date>_<host>} in the output folder, transformers' default. */
    static Path defaultFolder(Path output) {
        String date = LocalDateTime.now().format(DateTimeFormatter.ofPattern("MMMdd_HH-mm-ss", Locale.ENGLISH));
        return output.resolve("runs").resolve(date + "_" + host());
    }

    /**
     * A file after those of the folder, which is made where it is missing.
     *
     * @param step the first that it tells of; what other files of the folder tell of it and later ones does not count
     */
    static EventFile open(Path folder, int step) {
        try {
            Files.createDirectories(folder);
            // Readers take files in the order of their names: a clock that was set back must not bring this one
            // forward.
            long second = Math.max(System.currentTimeMillis() / 1000, newest(folder) + 1);
            return begin(
                    folder.resolve("events.out.tfevents." + String.format(Locale.ROOT, "%010d", second) + "." + host()
                            + "." + ProcessHandle.current().pid() + ".0"),
                    step);
        } catch (IOException e) {
            throw new FormatException("cannot write to " + folder + ": " + AtomicFile.reason(folder, e), e);
        }
    }

    /** @throws FormatException where the file takes nothing: no training is lost yet */
    static EventFile begin(Path file, int step) {
        EventFile events = new EventFile(new GrowingFile(file));
        events.require(new Proto().text(3, "brain.Event:2").raw(WRITER.bytes()));
        events.require(new Proto().number(2, step).message(7, new Proto().number(1, START)));
        return events;
    }

    private static long newest(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(path -> NAME.matcher(path.getFileName().toString()))
                    .filter(Matcher::matches)
                    .mapToLong(name -> Long.parseLong(name.group(1)))
                    .max()
                    .orElse(0);
        }
    }

    /**
     * Deletes the files that runs of this program left in the folders of {@code runs}, and those folders where nothing else is in
     * them.
     */
    static void clear(Path output) {
        if (!Files.isDirectory(output.resolve("runs"), LinkOption.NOFOLLOW_LINKS)) {
            return;
        }
        try (Stream<Path> found = find(output.resolve("runs"))) {
            for (Path file : found.toList()) {
                if (isOfThisProgram(file)) {
                    Files.delete(file);
                    deleteEmpty(file.getParent());
                }
            }
            deleteEmpty(output.resolve("runs"));
        } catch (IOException | UncheckedIOException e) {
            throw new FormatException("cannot delete the earlier runs in " + output.resolve("runs") + ": " + e, e);
        }
    }

    /** In the folders of a folder; links are not followed. */
    private static Stream<Path> find(Path folder) throws IOException {
        return Files.find(
                folder,
                2,
                (path, is) -> is.isRegularFile()
                        && path.getNameCount() == folder.getNameCount() + 2
                        && NAME.matcher(path.getFileName().toString()).matches());
    }

    private static void deleteEmpty(Path folder) throws IOException {
        try {
            Files.deleteIfExists(folder);
        } catch (DirectoryNotEmptyException e) {
            // somebody's
        }
    }

    /** Whether the first record names this program. */
    static boolean isOfThisProgram(Path file) throws IOException {
        try (InputStream in = Files.newInputStream(file)) {
            ByteBuffer head = ByteBuffer.wrap(in.readNBytes(12)).order(ByteOrder.LITTLE_ENDIAN);
            long length = head.remaining() == 12 ? head.getLong() : 0;
            if (length <= 0 || length > LONGEST_FIRST) {
                return false;
            }
            byte[] record = in.readNBytes((int) length);
            byte[] writer = WRITER.bytes();
            int at = record.length - writer.length;
            return at >= 0 && Arrays.equals(record, at, record.length, writer, 0, writer.length);
        }
    }

    /** What the system calls this machine, without asking a name server. */
    private static String host() {
        try {
            String name = Files.readString(Path.of("/proc/sys/kernel/hostname")).strip();
            return name.matches("[A-Za-z0-9._-]+") ? name : "localhost";
        } catch (IOException e) {
            return "localhost";
        }
    }

    Path folder() {
        return file.path().getParent();
    }

    /**
     * Adds the numbers of a log entry.
     *
     * @param entry by the names of trainer_state.json
     * @return what is wrong where the file is first found to take nothing
     */
    Optional<String> scalars(int step, Map<String, ?> entry) {
        Proto summary = new Proto();
        entry.forEach((name, value) -> {
            if (value instanceof Number number && !name.equals("step")) {
                summary.message(1, new Proto().text(1, tag(name)).real(2, number.floatValue()));
            }
        });
        return add(new Proto().number(2, step).message(5, summary));
    }

    /** transformers' {@code rewrite_logs}. */
    private static String tag(String name) {
        return name.startsWith("eval_") ? "eval/" + name.substring("eval_".length()) : "train/" + name;
    }

    /**
     * Adds a text, as torch's {@code SummaryWriter.add_text} does.
     *
     * @throws FormatException where the file does not take it
     */
    void text(String tag, String text) {
        Proto plugin = new Proto().text(1, "text").message(2, new Proto());
        Proto shape = new Proto().message(2, new Proto().number(1, 1));
        Proto tensor = new Proto().number(1, DT_STRING).message(2, shape).text(8, text);
        Proto value = new Proto()
                .text(1, tag + "/text_summary")
                .message(8, tensor)
                .message(9, new Proto().message(1, plugin));
        require(new Proto().message(5, new Proto().message(1, value)));
    }

    private void require(Proto event) {
        add(event).ifPresent(why -> {
            throw new FormatException(why);
        });
    }

    private Optional<String> add(Proto event) {
        byte[] timed = new Proto()
                .fixed(1, System.currentTimeMillis() / 1e3)
                .raw(event.bytes())
                .bytes();
        return file.append(record(timed));
    }

    /** TFRecord's form: length, its checksum, the bytes, their checksum; little-endian. */
    static byte[] record(byte[] data) {
        ByteBuffer record = ByteBuffer.allocate(data.length + 16).order(ByteOrder.LITTLE_ENDIAN);
        record.putLong(data.length);
        record.putInt(maskedCrc(record.array(), 8));
        record.put(data);
        record.putInt(maskedCrc(data, data.length));
        return record.array();
    }

    static int maskedCrc(byte[] bytes, int length) {
        CRC32C sum = new CRC32C();
        sum.update(bytes, 0, length);
        return Integer.rotateRight((int) sum.getValue(), 15) + MASK;
    }

    /** Makes what was written outlast a power cut. */
    void force() {
        file.force();
    }

    /** @throws FormatException where not all could be written */
    void finish() {
        file.finish();
    }

    @Override
    public void close() throws IOException {
        file.close();
    }

    /** A message in protobuf's encoding. */
    private static final class Proto {
        private static final int VARINT = 0;
        private static final int FIXED64 = 1;
        private static final int BYTES = 2;
        private static final int FIXED32 = 5;

        private final ByteArrayOutputStream out = new ByteArrayOutputStream();

        Proto number(int field, long value) {
            varint((long) field << 3 | VARINT);
            varint(value);
            return this;
        }

        Proto fixed(int field, double value) {
            varint((long) field << 3 | FIXED64);
            return raw(ByteBuffer.allocate(8)
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .putDouble(value)
                    .array());
        }

        Proto real(int field, float value) {
            varint((long) field << 3 | FIXED32);
            return raw(ByteBuffer.allocate(4)
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .putFloat(value)
                    .array());
        }

        Proto text(int field, String text) {
            return bytes(field, text.getBytes(StandardCharsets.UTF_8));
        }

        Proto message(int field, Proto message) {
            return bytes(field, message.bytes());
        }

        private Proto bytes(int field, byte[] bytes) {
            varint((long) field << 3 | BYTES);
            varint(bytes.length);
            return raw(bytes);
        }

        Proto raw(byte[] bytes) {
            out.writeBytes(bytes);
            return this;
        }

        private void varint(long value) {
            long rest = value;
            while ((rest & ~0x7FL) != 0) {
                out.write((int) (rest & 0x7F | 0x80));
                rest >>>= 7;
            }
            out.write((int) rest);
        }

        byte[] bytes() {
            return out.toByteArray();
        }
    }
}
