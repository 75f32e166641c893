package lapidary.gemma3;

import java.util.List;
import java.util.Objects;

/**
 * One turn of a conversation.
 *
 * @param role {@code system} (first message only), {@code user} or {@code assistant}
 * @param content its parts in order; content that is a plain string is a list of one {@link Content.Text}
 */
public record Message(String role, List<Content> content) {
    public Message {
        Objects.requireNonNull(role, "role");
        content = List.copyOf(content);
    }

    /** A message of words alone. */
    public static Message of(String role, String text) {
        return new Message(role, List.of(new Content.Text(text)));
    }
}
