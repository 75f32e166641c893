package lapidary.infer;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import lapidary.gemma3.ChatTemplate;
import lapidary.gemma3.Content;
import lapidary.gemma3.Gemma3Processor;
import lapidary.gemma3.Message;
import lapidary.gemma3.Rendered;
import lapidary.image.ImageDecoder;
import lapidary.image.ImagePreprocessor;

/** From messages to {@link Prompt}s: the template written out, tokens, pictures decoded. Safe for many threads. */
final class Prompts {
    private final Gemma3Processor processor;
    private final ImagePreprocessor preprocessor; // null for a model without images

    Prompts(Path folder, boolean textOnly) {
        processor = Gemma3Processor.load(folder);
        preprocessor = textOnly || !processor.multimodal() ? null : ImagePreprocessor.read(folder);
    }

    Gemma3Processor processor() {
        return processor;
    }

    /**
     * The conversation up to and including the opening of the model's turn.
     *
     * @throws IllegalArgumentException where the messages do not alternate or do not end with the user's
     * @throws lapidary.format.FormatException where a picture cannot be decoded, naming it
     */
    Prompt of(List<Message> messages) {
        ChatTemplate.checkRoles(messages);
        if (messages.isEmpty() || !messages.get(messages.size() - 1).role().equals("user")) {
            throw new IllegalArgumentException(
                    "the conversation " + (messages.isEmpty() ? "is empty" : "ends with the model's turn")
                            + ", expected the user's message to answer last");
        }
        return encoded(messages, processor.template().render(messages, true));
    }

    /** A whole conversation, up to the end of its last turn. */
    Prompt whole(List<Message> messages) {
        ChatTemplate.checkRoles(messages);
        return encoded(messages, processor.template().render(messages, false).stripEnd());
    }

    private Prompt encoded(List<Message> messages, Rendered text) {
        List<Content.Image> images = images(messages);
        Gemma3Processor.Encoded encoded = processor.encode(text, images.size(), false, false);
        List<float[]> pixels = new ArrayList<>();
        for (Content.Image image : images) {
            pixels.add(preprocessor.pixelValues(ImageDecoder.decode(image.source())));
        }
        return new Prompt(encoded.ids(), encoded.tokenTypeIds(), pixels);
    }

    private static List<Content.Image> images(List<Message> messages) {
        List<Content.Image> images = new ArrayList<>();
        for (Message message : messages) {
            for (Content part : message.content()) {
                if (part instanceof Content.Image image) {
                    images.add(image);
                }
            }
        }
        return images;
    }
}
