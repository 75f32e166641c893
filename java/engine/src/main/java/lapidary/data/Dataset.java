package lapidary.data;

import java.nio.file.Path;
import java.util.List;
import java.util.function.Consumer;

/**
 * Conversations by number, in any order. Pictures stay encoded, and where they can be large, outside of the heap, until
 * {@link lapidary.image.ImageSource#bytes} asks for them; that works until the data set is closed. Safe for use by
 * several threads.
 */
public interface Dataset extends AutoCloseable {
    /** Number of rows, 1 or more. */
    int size();

    /**
     * Row {@code row} of {@code 0..size()-1}.
     *
     * @throws lapidary.format.FormatException the row is not a conversation; the message names file and record
     */
    Conversation get(int row);

    /**
     * Reads every row, first to last, so that a mistake is told before the training and not in the middle of it. The
     * pictures of the conversations that {@code visitor} gets have a length, but those in a Parquet file no bytes.
     *
     * @throws lapidary.format.FormatException about the first row that is not a conversation
     */
    void forEach(Consumer<Conversation> visitor);

    /** The files that the rows are in; not those of pictures that they name. */
    List<Path> files();

    /** One line for the log: what it is, and how many rows. */
    String description();

    /** Gives back files and temporary space. */
    @Override
    void close();
}
