package lapidary.data;

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
     * Reads every row without the bytes of its pictures, so that a mistake is told before the training and not in the middle
     * of it.
     *
     * @throws lapidary.format.FormatException about the first row that is not a conversation
     */
    void check();

    /** One line for the log: what it is, and how many rows. */
    String description();

    /** Gives back files and temporary space. */
    @Override
    void close();
}
