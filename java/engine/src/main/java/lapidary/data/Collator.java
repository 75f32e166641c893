package lapidary.data;

import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import lapidary.format.FormatException;
import lapidary.gemma3.ChatTemplate;
import lapidary.gemma3.Content;
import lapidary.gemma3.Gemma3Processor;
import lapidary.gemma3.Gemma3Processor.Encoded;
import lapidary.gemma3.Rendered;

/**
 * From a conversation to what is trained on: the template is written out, stripped and tokenised, images are counted,
 * and labels say which tokens are targets. Nothing is padded: batches are packed. Safe for many threads.
 *
 * <p>Which words are targets is {@link LossOn}'s to say; by default all are, the user's too, in both {@link Profile}s. A conversation
 * without an answer is then trained on as it stands. In the {@link Profile#DEFAULT} profile a user's text cannot hold a control token: {@code <end_of_turn>}
 * written there is those thirteen characters. Only {@code <start_of_image>} keeps its meaning where a record brings an
 * image for it. Under {@link Profile#TRL} each control token in a text counts, as it does there.
 *
 * <p>The guide's collator reads messages. Of prompt and completion TRL makes the tokens itself, so under {@link Profile#TRL} they have
 * one {@code <bos>}, messages end in the template's newline, and texts are joined as they are, with {@code <eos>} behind them and no
 * template.
 */
public final class Collator {
    private final Gemma3Processor processor;
    private final Profile profile;
    private final LossOn lossOn;

    /** A collator of the guide's targets. */
    public Collator(Gemma3Processor processor, Profile profile) {
        this(processor, profile, LossOn.DEFAULT);
    }

    public Collator(Gemma3Processor processor, Profile profile, LossOn lossOn) {
        this.lossOn = Objects.requireNonNull(lossOn, "lossOn");
        this.processor = Objects.requireNonNull(processor, "processor");
        this.profile = Objects.requireNonNull(profile, "profile");
    }

    /** {@link #collate(Conversation, int[])} of images that are not cut. */
    public Sample collate(Conversation conversation) {
        return collate(conversation, new int[conversation.images().size()]);
    }

    /**
     * Makes the sample of a conversation.
     *
     * @param crops of each image, how many further views pan-and-scan has cut
     * @throws FormatException when the roles do not alternate, when images and placeholders differ in number, when no
     *     token is a target, and in the default profile when part of a message would be lost; it names the record
     */
    public Sample collate(Conversation conversation, int[] crops) {
        Sample sample;
        try {
            sample = profile == Profile.TRL && conversation.isText()
                    ? text(conversation)
                    : messages(conversation, crops);
        } catch (IllegalArgumentException e) {
            throw new FormatException(conversation.id() + ": " + e.getMessage(), e);
        }
        if (sample.targets() == 0) {
            throw new FormatException(conversation.id() + ": none of its " + sample.inputIds().length
                    + " tokens is a target, so there is nothing to learn; "
                    + (lossOn == LossOn.ASSISTANT ? "give it an answer, or " : "")
                    + "take the record out of the data set");
        }
        return sample;
    }

    private Sample messages(Conversation conversation, int[] crops) {
        boolean trl = profile == Profile.TRL;
        if (!trl) {
            checkParts(conversation.lost());
            ChatTemplate.checkRoles(conversation.messages());
        }
        boolean isOfGuide = !trl || conversation.prompt() == 0;
        Rendered text = processor.template().render(conversation.messages(), false);
        text = isOfGuide ? text.stripEnd() : text;
        boolean withBos = trl && isOfGuide;
        Encoded encoded = processor.encode(text, crops, withBos, trl);
        int[] labels = labels(conversation, text, crops, withBos, encoded.ids());
        return new Sample(conversation.id(), encoded.ids(), encoded.tokenTypeIds(), labels, conversation.images());
    }

    /** Prompt and completion as TRL joins them where they are texts. */
    private Sample text(Conversation conversation) {
        if (lossOn == LossOn.ASSISTANT || !conversation.images().isEmpty()) {
            throw new IllegalArgumentException(
                    "prompt and completion are texts, which --compat trl reads without a chat template: "
                            + (lossOn == LossOn.ASSISTANT ? "--assistant_only_loss wants" : "pictures want")
                            + " lists of messages");
        }
        String prompt = words(conversation, 0);
        String answer = words(conversation, 1);
        Encoded all = processor.encodeText(prompt + answer + (answer.endsWith(processor.eos()) ? "" : processor.eos()));
        int[] labels = all.ids().clone();
        if (lossOn != LossOn.ALL) {
            int first = Math.min(processor.encodeText(prompt).ids().length, labels.length);
            Arrays.fill(labels, 0, first, Sample.MASKED);
        }
        return new Sample(conversation.id(), all.ids(), all.tokenTypeIds(), labels, List.of());
    }

    private static String words(Conversation conversation, int message) {
        StringBuilder words = new StringBuilder();
        for (Content part : conversation.messages().get(message).content()) {
            words.append(((Content.Text) part).text());
        }
        return words.toString();
    }

    private int[] labels(Conversation conversation, Rendered text, int[] crops, boolean withBos, int[] ids) {
        int[] labels = ids.clone();
        for (int t = 0; t < labels.length; t++) {
            if (isMasked(labels[t])) {
                labels[t] = Sample.MASKED;
            }
        }
        boolean parted = conversation.prompt() > 0;
        if (lossOn == LossOn.COMPLETION && !parted) {
            throw new IllegalArgumentException(
                    "has messages, of which --completion_only_loss cannot tell the completion;"
                            + " give prompt and completion, or use --assistant_only_loss");
        }
        if (lossOn == LossOn.ASSISTANT || parted && lossOn != LossOn.ALL) {
            boolean[] wanted = new boolean[ids.length];
            List<Rendered.Span> turns = processor.turns(text, crops, withBos, ids);
            for (Rendered.Span turn : turns) {
                if (turn.message() >= conversation.prompt()
                        && (lossOn != LossOn.ASSISTANT || isAssistant(conversation, turn))) {
                    // a completion is all that follows the prompt, marks between its turns included
                    int to = lossOn == LossOn.ASSISTANT ? turn.to() : ids.length;
                    Arrays.fill(wanted, turn.from(), to, true);
                }
            }
            for (int t = 0; t < labels.length; t++) {
                labels[t] = wanted[t] ? labels[t] : Sample.MASKED;
            }
        }
        return labels;
    }

    private static boolean isAssistant(Conversation conversation, Rendered.Span turn) {
        String role = conversation.messages().get(turn.message()).role();
        return role.equals("assistant") || role.equals("model");
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
}
