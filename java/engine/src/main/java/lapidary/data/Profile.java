package lapidary.data;

/** Which of two behaviours a run follows. */
public enum Profile {
    /**
     * What the recipe means: exactly one {@code <bos>}; padding, {@code <start_of_image>} and image soft tokens are no
     * targets; control tokens come from the chat template alone, the same characters in a text are text.
     */
    DEFAULT,
    /**
     * What TRL 1.13 does: a doubled {@code <bos>} whose second is a target, {@code <start_of_image>} is a target, and
     * control tokens written in a text count as such. Saved tables and Adam's moments of what is BF16 are BF16, and beside a
     * quantised matrix adapters are too. Pictures of MMIU's files are not turned as Exif says. On the command line, rows
     * beyond {@code --max_length} are cut where only text is.
     */
    TRL
}
