package lapidary.data;

import java.util.List;
import java.util.Objects;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import lapidary.gemma3.Gemma3Processor;
import lapidary.gemma3.Gemma3Processor.Encoded;
import lapidary.gemma3.Message;
import lapidary.gemma3.Rendered;

/**
 * From a conversation to what is trained on: the template is written out, stripped and tokenised, images are counted,
 * and labels say which tokens are targets. Nothing is padded: batches are packed. Safe for many threads.
 *
 * <p>All words are targets, the user's too, in both {@link Profile}s. A conversation without an answer is trained on as
 * it stands. In the {@link Profile#DEFAULT} profile a user's text cannot hold a control token: {@code <end_of_turn>}
 * written there is those thirteen characters. Only {@code <start_of_image>} keeps its meaning where a record brings an
 * image for it. Under {@link Profile#TRL} each control token in a text counts, as it does there.
 */
public final class Collator {
    private final Gemma3Processor processor;
    private final Profile profile;

    public Collator(Gemma3Processor processor, Profile profile) {
        this.processor = Objects.requireNonNull(processor, "processor");
        this.profile = Objects.requireNonNull(profile, "profile");
    }

    /**
     * Makes the sample of a conversation.
     *
     * @throws FormatException when the roles do not alternate, when images and placeholders differ in number, when no
     *     token is a target, and in the default profile when part of a message would be lost; it names the record
     */
    public Sample collate(Conversation conversation) {
        boolean trl = profile == Profile.TRL;
        Encoded encoded;
        try {
            if (!trl) {
                checkParts(conversation.lost());
                checkRoles(conversation.messages());
            }
            Rendered text =
                    processor.template().render(conversation.messages(), false).stripEnd();
            encoded = processor.encode(text, conversation.images().size(), trl, trl);
        } catch (IllegalArgumentException e) {
            throw new FormatException(conversation.id() + ": " + e.getMessage(), e);
        }
        int[] labels = encoded.ids().clone();
        for (int t = 0; t < labels.length; t++) {
            if (isMasked(labels[t])) {
                labels[t] = Sample.MASKED;
            }
        }
        Sample sample =
                new Sample(conversation.id(), encoded.ids(), encoded.tokenTypeIds(), labels, conversation.images());
        if (sample.targets() == 0) {
            throw new FormatException(conversation.id() + ": none of its " + labels.length
                    + " tokens is a target, so there is nothing to learn; take the record out of the data set");
        }
        return sample;
    }

    private boolean isMasked(int id) {
        return id == processor.padId()
                || processor.multimodal() && id == processor.imageId()
                || profile == Profile.DEFAULT && id == processor.boiId();
    }

    private static void checkParts(List<String> lost) {
        if (!lost.isEmpty()) {
            throw new IllegalArgumentException(lost.get(0)
                    + (lost.size() == 1 ? " is" : " and " + (lost.size() - 1) + " more are")
                    + " nothing that Gemma 3 reads, expected \"text\" or \"image\"; take it out"
                    + " (--compat trl passes over it)");
        }
    }

    /** The template takes any role as the other side's and drops what follows the first part of a system message. */
    private static void checkRoles(List<Message> messages) {
        for (int i = 0; i < messages.size(); i++) {
            Message message = messages.get(i);
            String role = message.role();
            boolean known = role.equals("user") || role.equals("assistant") || role.equals("model");
            if (!known && !(role.equals("system") && i == 0)) {
                throw new IllegalArgumentException("messages[" + i + "] is of role \"" + role
                        + "\", expected user or assistant" + (role.equals("system") ? " after the first" : ""));
            }
            if (role.equals("system") && message.content().size() > 1) {
                throw new IllegalArgumentException("the system message has "
                        + message.content().size()
                        + " parts, of which Gemma 3's chat template takes the first alone; join them into one text");
            }
            for (Content part : message.content()) {
                if (role.equals("system") && part instanceof Content.Image) {
                    throw new IllegalArgumentException(
                            "the system message holds an image; move it to the first user message");
                }
            }
        }
    }
}
