package lapidary.springai;

import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemNotFoundException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import lapidary.gemma3.Content;
import lapidary.image.ImageSource;
import org.springframework.ai.chat.messages.AssistantMessage;
import org.springframework.ai.chat.messages.Message;
import org.springframework.ai.chat.messages.SystemMessage;
import org.springframework.ai.chat.messages.UserMessage;
import org.springframework.ai.content.Media;

/** Spring AI's messages as the engine's, pictures before the words. Pictures stay encoded. */
final class Messages {
    private Messages() {}

    /** @throws IllegalArgumentException naming the message that the model cannot read, and why */
    static List<lapidary.gemma3.Message> of(List<Message> messages) {
        List<lapidary.gemma3.Message> result = new ArrayList<>();
        for (int i = 0; i < messages.size(); i++) {
            result.add(message(messages.get(i), "message " + (i + 1)));
        }
        return result;
    }

    private static lapidary.gemma3.Message message(Message message, String where) {
        if (message instanceof SystemMessage) {
            return lapidary.gemma3.Message.of("system", text(message));
        }
        if (message instanceof UserMessage user) {
            List<Content> parts = new ArrayList<>();
            for (Media media : user.getMedia()) {
                parts.add(new Content.Image(picture(media, "media " + (parts.size() + 1) + " of " + where)));
            }
            parts.add(new Content.Text(text(message)));
            return new lapidary.gemma3.Message("user", parts);
        }
        if (message instanceof AssistantMessage answer && !answer.hasToolCalls()) {
            return lapidary.gemma3.Message.of("assistant", text(message));
        }
        throw new IllegalArgumentException(
                where + " is a " + message.getMessageType() + " message of tools, which the model does not use");
    }

    private static String text(Message message) {
        return message.getText() == null ? "" : message.getText();
    }

    private static ImageSource picture(Media media, String where) {
        if (!media.getMimeType().getType().equals("image")) {
            throw new IllegalArgumentException(
                    where + " is " + media.getMimeType() + ", but the model reads texts and images alone");
        }
        if (media.getData() instanceof byte[] bytes) {
            return ImageSource.of(where, bytes);
        }
        String data = media.getData().toString(); // base64, or a URL
        String start = data.substring(0, Math.min(data.length(), 5)).toLowerCase(Locale.ROOT);
        if (start.equals("data:")) {
            return ImageSource.of(where, dataUrl(data, where));
        }
        if (start.equals("file:")) {
            try {
                return ImageSource.of(Path.of(URI.create(data)));
            } catch (IllegalArgumentException | FileSystemNotFoundException e) {
                throw new IllegalArgumentException(where + " is an image at " + data + ", which names no file", e);
            }
        }
        if (data.contains("://")) {
            throw new IllegalArgumentException(where + " is an image at " + data
                    + ", which is not fetched: give a Resource, base64, a data: or a file: URL");
        }
        return ImageSource.of(where, base64(data, where));
    }

    /** RFC 2397, in base64, which is the only form that images come in. */
    private static byte[] dataUrl(String url, String where) {
        int comma = url.indexOf(',');
        if (comma < 0 || !url.substring(0, comma).toLowerCase(Locale.ROOT).endsWith(";base64")) {
            throw new IllegalArgumentException(where + " is a data: URL that is not \"data:image/...;base64,...\"");
        }
        return base64(url.substring(comma + 1), where);
    }

    private static byte[] base64(String data, String where) {
        try {
            return Base64.getDecoder().decode(data.getBytes(StandardCharsets.ISO_8859_1));
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(where + " is an image whose base64 is malformed: " + e.getMessage(), e);
        }
    }
}
