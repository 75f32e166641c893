package lapidary.infer;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import lapidary.gemma3.ChatTemplate;
import lapidary.gemma3.Content;
import lapidary.gemma3.Gemma3Processor;
import lapidary.gemma3.Message;
import lapidary.gemma3.Rendered;
import lapidary.image.CodedPixels;
import lapidary.image.ImageDecoder;
import lapidary.image.ImagePreprocessor;
import lapidary.image.ImageSource;
import lapidary.image.PanAndScan;
import lapidary.image.Pixels;

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
     * @param images all of them, in the order of their places: image parts, and placeholders among the words
     * @param panAndScan how pictures are shown
     * @throws IllegalArgumentException where the messages do not alternate or do not end with the user's
     * @throws lapidary.format.FormatException where a picture cannot be decoded, naming it
     */
    Prompt of(List<Message> messages, List<ImageSource> images, PanAndScan panAndScan) {
        ChatTemplate.checkRoles(messages);
        if (messages.isEmpty() || !messages.get(messages.size() - 1).role().equals("user")) {
            throw new IllegalArgumentException(
                    "the conversation " + (messages.isEmpty() ? "is empty" : "ends with the model's turn")
                            + ", expected the user's message to answer last");
        }
        return encoded(images, panAndScan, processor.template().render(messages, true));
    }

    /** A whole conversation, up to the end of its last turn. */
    Prompt whole(List<Message> messages, List<ImageSource> images, PanAndScan panAndScan) {
        ChatTemplate.checkRoles(messages);
        return encoded(
                images, panAndScan, processor.template().render(messages, false).stripEnd());
    }

    private Prompt encoded(List<ImageSource> images, PanAndScan panAndScan, Rendered text) {
        processor.requireImages(text, images.size()); // before any is decoded
        int[] crops = new int[images.size()];
        List<Pixels> pixels = new ArrayList<>();
        for (int i = 0; i < crops.length; i++) {
            List<CodedPixels> views = preprocessor.pixelValues(ImageDecoder.decode(images.get(i)), panAndScan);
            crops[i] = views.size() - 1;
            pixels.addAll(views);
        }
        Gemma3Processor.Encoded encoded = processor.encode(text, crops, false, false);
        return new Prompt(encoded.ids(), encoded.tokenTypeIds(), pixels);
    }

    /** The pictures that are parts of messages. */
    static List<ImageSource> images(List<Message> messages) {
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
