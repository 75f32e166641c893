package lapidary.data;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.function.Consumer;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.image.ImageSource;

/**
 * Conversations in a Parquet file. Parquet is decoded a row group at a time, but rows are asked for in random order:
 * so the first row of a group that is asked for has the whole group decoded, once, into a {@link Spill}, from which
 * this row and all later ones of the group are read. The heap holds one row's text and no picture, however large groups and
 * pages are. Rows are counted from 0.
 */
final class ParquetDataset implements Dataset {
    private static final byte SPILLED = 0; // where a picture's bytes are
    private static final byte ON_DISK = 1;
    private static final byte ZIPPED = 2;

    private final ParquetFile file;
    private final PictureFiles pictures;
    private final Set<RowForm> form;
    private final Spill spill;
    private final AtomicLongArray where; // of each row's record in the spill; -1: its group is not decoded yet
    private final int[] length; // of each row's record, bytes; written before where

    private ParquetDataset(ParquetFile file) {
        this.file = file;
        this.pictures = new PictureFiles(file.path());
        this.form = Set.of(file.form());
        long[] nowhere = new long[file.rows()];
        Arrays.fill(nowhere, -1);
        this.where = new AtomicLongArray(nowhere);
        this.length = new int[file.rows()];
        this.spill = Spill.open();
    }

    /** Reads the description of the file; it may have no rows. */
    static ParquetDataset open(Path path, Set<RowForm> forms) {
        try {
            return new ParquetDataset(ParquetFile.open(path, forms));
        } catch (OutOfMemoryError e) {
            throw ParquetFile.damaged(path.toString(), e);
        }
    }

    @Override
    public List<Path> files() {
        return List.of(file.path());
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
                    decode(file.groupOf(row));
                }
            }
        }
        try {
            return read(row, spill.read(where.get(row), length[row]));
        } catch (IOException e) {
            throw new FormatException("cannot read " + file.id(row) + " back: " + e.getMessage(), e);
        }
    }

    private void decode(ParquetFile.Group group) {
        try (ParquetRows rows = file.read(group, this::keep)) {
            for (int i = 0; i < group.rows(); i++) {
                int number = group.firstRow() + i;
                byte[] record = record(number, file.next(rows, number));
                length[number] = record.length;
                where.set(number, spill.append(record, 0, record.length));
            }
        } catch (IOException | RuntimeException | OutOfMemoryError | StackOverflowError e) {
            keepComplaint(group, ParquetFile.damaged(file.rowsOf(group), e));
        }
    }

    /** What is wrong with a group is kept for all of its rows that were not reached: it is not decoded once more for each. */
    private void keepComplaint(ParquetFile.Group group, FormatException complaint) {
        byte[] record = complaint(complaint);
        long at = spill.append(record, 0, record.length);
        for (int number = group.firstRow(); number < group.firstRow() + group.rows(); number++) {
            if (where.get(number) < 0) {
                length[number] = record.length;
                where.set(number, at);
            }
        }
    }

    private static byte[] complaint(FormatException complaint) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (DataOutputStream out = new DataOutputStream(bytes)) {
            out.writeBoolean(false);
            Spill.writeText(out, complaint.getMessage());
        } catch (IOException e) {
            throw new UncheckedIOException(e); // memory does not fail
        }
        return bytes.toByteArray();
    }

    private Encoded keep(PageStream in, int length) throws IOException {
        long at = spill.end();
        in.transfer(length, spill::append);
        return new Encoded(spill, at, length);
    }

    private static Encoded pass(PageStream in, int length) throws IOException {
        in.transfer(length, (bytes, offset, n) -> {});
        return new Encoded(null, 0, length);
    }

    /** The row as {@link #get} will find it: the conversation, or the complaint about it. */
    private byte[] record(int number, Map<String, Object> row) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (DataOutputStream out = new DataOutputStream(bytes)) {
            Conversation conversation;
            try {
                conversation = RowParser.parse(file.id(number), pictures, row, form);
            } catch (FormatException e) {
                return complaint(e);
            }
            out.writeBoolean(true);
            out.writeInt(conversation.images().size());
            for (ImageSource image : conversation.images()) {
                write(out, image);
            }
            out.writeInt(conversation.lost().size());
            for (String part : conversation.lost()) {
                Spill.writeText(out, part);
            }
            out.writeInt(conversation.prompt());
            out.writeBoolean(conversation.isText());
            out.writeInt(conversation.messages().size());
            for (Message message : conversation.messages()) {
                Spill.writeText(out, message.role());
                out.writeInt(message.content().size());
                for (Content part : message.content()) {
                    write(out, part, conversation.images());
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e); // memory does not fail
        }
        return bytes.toByteArray();
    }

    private void write(DataOutputStream out, ImageSource source) throws IOException {
        if (source instanceof ImageSource.OnDisk onDisk) {
            out.writeByte(ON_DISK);
            Spill.writeText(out, onDisk.file().toString());
            return;
        }
        if (source instanceof PictureFiles.Zipped zipped) {
            out.writeByte(ZIPPED);
            Spill.writeText(out, zipped.archive().file().toString());
            Spill.writeText(out, zipped.entry());
            return;
        }
        Encoded.Spilled spilled = source instanceof Encoded.Spilled s ? s : spilled(source.name(), source.bytes());
        out.writeByte(SPILLED);
        Spill.writeText(out, spilled.name());
        out.writeLong(spilled.at());
        out.writeInt((int) spilled.length());
    }

    /** An image part is its picture's number among {@code images}; there it is, as every part has a place among them. */
    private static void write(DataOutputStream out, Content part, List<ImageSource> images) throws IOException {
        if (part instanceof Content.Text text) {
            out.writeInt(-1);
            Spill.writeText(out, text.text());
        } else {
            out.writeInt(images.indexOf(((Content.Image) part).source()));
        }
    }

    private Conversation read(int row, byte[] record) throws IOException {
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(record));
        if (!in.readBoolean()) {
            throw new FormatException(Spill.readText(in));
        }
        List<ImageSource> images = new ArrayList<>();
        for (int i = in.readInt(); i > 0; i--) {
            images.add(readImage(in));
        }
        List<String> lost = new ArrayList<>();
        for (int i = in.readInt(); i > 0; i--) {
            lost.add(Spill.readText(in));
        }
        int prompt = in.readInt();
        boolean isText = in.readBoolean();
        List<Message> messages = new ArrayList<>();
        for (int m = in.readInt(); m > 0; m--) {
            String role = Spill.readText(in);
            List<Content> parts = new ArrayList<>();
            for (int p = in.readInt(); p > 0; p--) {
                int image = in.readInt();
                parts.add(image < 0 ? new Content.Text(Spill.readText(in)) : new Content.Image(images.get(image)));
            }
            messages.add(new Message(role, parts));
        }
        return new Conversation(file.id(row), messages, images, lost, prompt, isText);
    }

    private ImageSource readImage(DataInputStream in) throws IOException {
        byte kind = in.readByte();
        String name = Spill.readText(in);
        return switch (kind) {
            case ON_DISK -> ImageSource.of(Path.of(name));
            case ZIPPED -> pictures.zipped(Path.of(name), Spill.readText(in));
            default -> new Encoded.Spilled(spill, name, in.readLong(), in.readInt());
        };
    }

    private Encoded.Spilled spilled(String name, byte[] bytes) {
        return new Encoded.Spilled(spill, name, spill.append(bytes, 0, bytes.length), bytes.length);
    }

    @Override
    public void forEach(Consumer<Conversation> visitor) {
        for (ParquetFile.Group group : file.groups()) {
            forEach(group, visitor);
        }
    }

    private void forEach(ParquetFile.Group group, Consumer<Conversation> visitor) {
        try (ParquetRows rows = file.read(group, ParquetDataset::pass)) {
            for (int row = group.firstRow(); row < group.firstRow() + group.rows(); row++) {
                visitor.accept(RowParser.parse(file.id(row), pictures, file.next(rows, row), form));
            }
        } catch (IOException | RuntimeException | OutOfMemoryError | StackOverflowError e) {
            throw ParquetFile.damaged(file.rowsOf(group), e);
        }
    }

    @Override
    public String description() {
        return file.path() + ", " + size() + " rows in " + file.groups().size() + " row groups";
    }

    @Override
    public void close() {
        pictures.close();
        spill.close();
    }
}
