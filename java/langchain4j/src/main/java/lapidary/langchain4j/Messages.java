package lapidary.langchain4j;

import dev.langchain4j.data.image.Image;
import dev.langchain4j.data.message.AiMessage;
import dev.langchain4j.data.message.ChatMessage;
import dev.langchain4j.data.message.Content;
import dev.langchain4j.data.message.ImageContent;
import dev.langchain4j.data.message.SystemMessage;
import dev.langchain4j.data.message.TextContent;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.exception.InvalidRequestException;
import dev.langchain4j.exception.UnsupportedFeatureException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemNotFoundException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import lapidary.gemma3.Message;
import lapidary.image.ImageSource;

/** LangChain4j's messages as the engine's. Pictures stay encoded. */
final class Messages {
    private Messages() {}

    /**
     * @throws UnsupportedFeatureException where a message or a part of it is of a kind that the model cannot read
     * @throws InvalidRequestException where a picture's base64 or URL is malformed
     */
    static List<Message> of(List<ChatMessage> messages) {
        List<Message> result = new ArrayList<>();
        for (int i = 0; i < messages.size(); i++) {
            result.add(message(messages.get(i), "message " + (i + 1)));
        }
        return result;
    }

    private static Message message(ChatMessage message, String where) {
        if (message instanceof SystemMessage system) {
            return Message.of("system", system.text());
        }
        if (message instanceof UserMessage user) {
            List<lapidary.gemma3.Content> parts = new ArrayList<>();
            for (Content content : user.contents()) {
                parts.add(part(content, "part " + (parts.size() + 1) + " of " + where));
            }
            return new Message("user", parts);
        }
        if (message instanceof AiMessage answer && !answer.hasToolExecutionRequests()) {
            return Message.of("assistant", answer.text() == null ? "" : answer.text());
        }
        throw new UnsupportedFeatureException(where + " is a " + message.type()
                + (message instanceof AiMessage ? " message that calls tools" : " message")
                + ": tools are not supported");
    }

    private static lapidary.gemma3.Content part(Content content, String where) {
        if (content instanceof TextContent text) {
            return new lapidary.gemma3.Content.Text(text.text());
        }
        if (content instanceof ImageContent image) {
            return new lapidary.gemma3.Content.Image(picture(image.image(), where));
        }
        throw new UnsupportedFeatureException(
                where + " is " + content.type().toString().toLowerCase(Locale.ROOT)
                        + ", which the model does not support: it reads texts and images");
    }

    private static ImageSource picture(Image image, String where) {
        if (image.base64Data() != null) {
            return ImageSource.of(where, base64(image.base64Data(), where));
        }
        URI url = image.url();
        String scheme = url.getScheme() == null ? "" : url.getScheme().toLowerCase(Locale.ROOT);
        if (scheme.equals("data")) {
            return ImageSource.of(where, dataUrl(url.toString(), where));
        }
        if (scheme.equals("file")) {
            try {
                return ImageSource.of(Path.of(url));
            } catch (IllegalArgumentException | FileSystemNotFoundException e) {
                throw new InvalidRequestException(where + " is an image at " + url + ", which names no file", e);
            }
        }
        throw new UnsupportedFeatureException(where + " is an image at " + url
                + "; fetching images is not supported: give base64, a data: or a file: URL");
    }

    /** RFC 2397, in base64, which is the only form that images come in. */
    private static byte[] dataUrl(String url, String where) {
        int comma = url.indexOf(',');
        if (comma < 0 || !url.substring(0, comma).toLowerCase(Locale.ROOT).endsWith(";base64")) {
            throw new InvalidRequestException(where + " is a data: URL that is not \"data:image/...;base64,...\"");
        }
        return base64(url.substring(comma + 1), where);
    }

    private static byte[] base64(String data, String where) {
        try {
            return Base64.getMimeDecoder().decode(data.getBytes(StandardCharsets.ISO_8859_1));
        } catch (IllegalArgumentException e) {
            throw new InvalidRequestException(where + " is an image whose base64 is malformed: " + e.getMessage(), e);
        }
    }
}
