package lapidary.data;

/** Which tokens are targets; padding and image soft tokens never are. */
public enum LossOn {
    /** The guide's: all of a conversation; of prompt/completion rows the completion. */
    DEFAULT,
    /** All, of prompt/completion rows too. */
    ALL,
    /** What the assistant says, with the end of its turns; of prompt/completion rows only within the completion. */
    ASSISTANT,
    /** The completion; rows that are not parted into prompt and completion are refused. */
    COMPLETION
}
