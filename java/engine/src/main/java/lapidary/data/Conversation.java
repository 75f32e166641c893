package lapidary.data;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.image.ImageSource;

/**
 * One record of a data set.
 *
 * @param id what an error message calls it, such as {@code train-00000.parquet row 17}
 * @param messages the turns, first to last
 * @param images every image of the record, in the order of the placeholders it fills. A record whose images stand in a
 *     column of their own gives that column here, so that a count which differs from the placeholders is found
 * @param lost parts that are no message's content here, as Gemma 3's chat template passes over them: where each stood
 *     and its type
 * @param prompt how many of the messages are the prompt of a prompt/completion record; 0 for records that do not say
 * @param isText whether prompt and completion are one text each, which TRL reads without a chat template
 * @param isOfFiles whether the images are files that the guide opens itself (MMIU), and so does not turn as Exif says
 */
public record Conversation(
        String id,
        List<Message> messages,
        List<ImageSource> images,
        List<String> lost,
        int prompt,
        boolean isText,
        boolean isOfFiles) {
    public Conversation {
        Objects.requireNonNull(id, "id");
        messages = List.copyOf(messages);
        images = List.copyOf(images);
        lost = List.copyOf(lost);
        if (prompt < 0 || prompt > messages.size()) {
            throw new IllegalArgumentException(id + ": " + prompt + " of " + messages.size() + " messages are prompt");
        }
    }

    /** A conversation whose images are no files of their own, or are turned as Exif says. */
    public Conversation(
            String id,
            List<Message> messages,
            List<ImageSource> images,
            List<String> lost,
            int prompt,
            boolean isText) {
        this(id, messages, images, lost, prompt, isText, false);
    }

    /** A conversation of messages. */
    public Conversation(String id, List<Message> messages, List<ImageSource> images, List<String> lost, int prompt) {
        this(id, messages, images, lost, prompt, false);
    }

    /** A conversation that is not parted into prompt and completion. */
    public Conversation(String id, List<Message> messages, List<ImageSource> images, List<String> lost) {
        this(id, messages, images, lost, 0);
    }

    /** A conversation of which all is here. */
    public Conversation(String id, List<Message> messages, List<ImageSource> images) {
        this(id, messages, images, List.of());
    }

    /** A conversation whose images are those of its messages. */
    public Conversation(String id, List<Message> messages) {
        this(id, messages, imagesOf(messages));
    }

    /** The same, of images that are files which the guide opens itself. */
    static Conversation ofFiles(String id, List<Message> messages) {
        return new Conversation(id, messages, imagesOf(messages), List.of(), 0, false, true);
    }

    private static List<ImageSource> imagesOf(List<Message> messages) {
        List<ImageSource> images = new ArrayList<>();
        for (Message message : messages) {
            for (Content part : message.content()) {
                if (part instanceof Content.Image image) {
                    images.add(image.source());
                }
            }
        }
        return images;
    }
}
