package lapidary.data;

import java.util.ArrayList;
import java.util.Base64;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import lapidary.format.FormatException;
import lapidary.gemma3.ChatTemplate;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.image.ImageSource;

/**
 * Makes a {@link Conversation} of one record, whichever file it stood in. A record is a tree of maps, lists, strings,
 * numbers, booleans, bytes ({@link Encoded} where they are not in the heap), {@link ImageSource}s and nulls.
 *
 * <p>{@code messages} is a list of {@code {role, content}}; content is a string, or a list of parts
 * {@code {type: "text", text}} and {@code {type: "image"}}. The picture of an image part is its own {@code image}, or else
 * comes from the record's {@code images} (or {@code image}): the one at the part's {@code index}, without index the next
 * one. Where no part asks for the record's pictures, they go before the first user text that is a plain string, as TRL
 * puts them. Words that hold {@code <start_of_image>} in a record with pictures of its own are different: each is a place for
 * the next picture, as an image part is, and nothing is put before the text. Every picture must be used, and every place must
 * have one. Parts that are null are left out, and so are parts of other types, as the chat template leaves them out;
 * the conversation tells of these. Other fields are ignored.
 *
 * <p>A picture is {@code {bytes, path}}, bytes, a path, or a {@code data:} URI; in JSON, bytes are base64. A part of OpenAI's type
 * {@code image_url} brings its picture along, too, as one of type {@code image} does under {@code image}, {@code url}, {@code path} or
 * {@code base64}. A path is relative to the folder of the data file, or absolute; either way it is
 * the user's own data, so that it may lead anywhere; {@link PictureFiles} says how it leads into zip files. URLs are
 * refused: nothing is fetched.
 *
 * <p>{@link RowForm} says which columns make the other forms of conversations.
 */
final class RowParser {
    private static final Pattern URL = Pattern.compile("^[A-Za-z][A-Za-z0-9+.-]+://.*", Pattern.DOTALL);

    /** Of a part of type image, in the order in which Transformers looks. */
    private static final List<String> OWN_IMAGE = List.of("image", "url", "path", "base64");

    private static final int SHOWN = 60; // characters of what is wrong

    private final String id;
    private final PictureFiles files;
    private final List<String> lost = new ArrayList<>();

    private RowParser(String id, PictureFiles files) {
        this.id = id;
        this.files = files;
    }

    /**
     * Parses {@code row}, which an error calls {@code id}, of one of the {@code forms}; pictures that it names by path are among
     * {@code files}.
     */
    static Conversation parse(String id, PictureFiles files, Map<?, ?> row, Set<RowForm> forms) {
        return new RowParser(id, files).conversation(row, forms);
    }

    private Conversation conversation(Map<?, ?> row, Set<RowForm> forms) {
        RowForm form;
        try {
            form = RowForm.of(row.keySet(), forms);
        } catch (IllegalArgumentException e) {
            throw bad(e.getMessage());
        }
        return switch (form) {
            case MESSAGES -> {
                List<?> messages = list(row.get("messages"), "messages");
                if (messages.isEmpty()) {
                    throw bad("messages is empty");
                }
                yield conversation(row, messages, "messages", 0, false);
            }
            case PROMPT_COMPLETION -> {
                List<?> prompt = side(row.get("prompt"), "prompt", "user");
                List<Object> all = new ArrayList<>(prompt);
                all.addAll(side(row.get("completion"), "completion", "assistant"));
                boolean isText = row.get("prompt") instanceof String && row.get("completion") instanceof String;
                yield conversation(row, all, "prompt", prompt.size(), isText);
            }
            case PROMPT -> conversation(row, side(row.get("prompt"), "prompt", "user"), "prompt", 0, false);
            case MMIU -> mmiu(row);
        };
    }

    /**
     * @param column of the first message
     * @param prompt how many of the messages are the prompt's, the others the completion's; 0 where that is not told
     */
    private Conversation conversation(Map<?, ?> row, List<?> messages, String column, int prompt, boolean isText) {
        Pictures pictures = pictures(column(row), messages);
        List<Message> out = new ArrayList<>(messages.size());
        for (int i = 0; i < messages.size(); i++) {
            String at = prompt == 0 || i < prompt ? column + "[" + i + "]" : "completion[" + (i - prompt) + "]";
            out.add(message(messages.get(i), at, pictures));
        }
        pictures.checkAllUsed();
        return new Conversation(id, out, pictures.placed, lost, prompt, isText);
    }

    /** One side of a prompt/completion row: a list of messages, or the text of one. */
    private List<?> side(Object value, String column, String role) {
        if (value instanceof String) {
            return List.of(Map.of("role", role, "content", value));
        }
        List<?> messages = list(value, column);
        if (messages.isEmpty()) {
            throw bad(column + " is empty");
        }
        return messages;
    }

    private Conversation mmiu(Map<?, ?> row) {
        List<Message> messages = new ArrayList<>();
        if (row.get("context") != null) {
            messages.add(Message.of("system", string(row.get("context"), "context")));
        }
        Object paths = row.get("input_image_path");
        List<?> pictures = paths instanceof String ? List.of(paths) : list(paths, "input_image_path");
        List<Content> question = new ArrayList<>();
        for (int i = 0; i < pictures.size(); i++) {
            question.add(new Content.Image(image(pictures.get(i), "input_image_path[" + i + "]")));
        }
        question.add(new Content.Text(string(row.get("question"), "question")));
        messages.add(new Message("user", question));
        messages.add(Message.of("assistant", string(row.get("output"), "output")));
        return Conversation.ofFiles(id, messages);
    }

    /** How the pictures of the record's column find their places. */
    private Pictures pictures(List<ImageSource> column, List<?> messages) {
        int parts = 0; // that take their picture from the column
        int written = 0;
        for (Object message : messages) {
            Object content = message instanceof Map<?, ?> m ? m.get("content") : null;
            written += content instanceof String text ? ChatTemplate.places(text) : 0;
            for (Object item : content instanceof List<?> items ? items : List.of()) {
                if (item instanceof Map<?, ?> part && "image".equals(part.get("type"))) {
                    parts += ownImage(part).isEmpty() ? 1 : 0;
                } else if (item instanceof Map<?, ?> part && "text".equals(part.get("type"))) {
                    written += part.get("text") instanceof String text ? ChatTemplate.places(text) : 0;
                }
            }
        }
        if (column.isEmpty()
                || written == 0) { // words alone: whether they may hold a placeholder is the collator's to say
            return new Pictures(column, !column.isEmpty() && parts == 0, false);
        }
        if (written + parts != column.size()) {
            throw bad("has " + column.size() + " pictures but " + (written + parts) + " places for them: " + written
                    + " "
                    + ChatTemplate.IMAGE + " among its words" + (parts == 0 ? "" : " and " + parts + " image parts")
                    + "; write " + ChatTemplate.IMAGE + " once for each picture"
                    + (parts == 0
                            ? ", or nowhere: then the pictures go before the first user text"
                            : " without a part"));
        }
        return new Pictures(column, false, true);
    }

    private Message message(Object value, String at, Pictures pictures) {
        Map<?, ?> message = map(value, at);
        String role = string(message.get("role"), at + ".role");
        Object content = message.get("content");
        if (content instanceof String text) {
            List<Content> parts = new ArrayList<>();
            if (role.equals("user")) {
                pictures.leading().forEach(source -> parts.add(new Content.Image(source)));
            }
            pictures.takeFor(text, at + ".content");
            parts.add(new Content.Text(text));
            return new Message(role, parts);
        }
        if (!(content instanceof List<?>)) {
            throw bad(at + ".content is " + shown(content) + ", expected a string or a list of parts");
        }
        List<?> items = (List<?>) content;
        List<Content> parts = new ArrayList<>(items.size());
        for (int i = 0; i < items.size(); i++) {
            if (items.get(i) != null) {
                part(items.get(i), at + ".content[" + i + "]", pictures, parts);
            }
        }
        return new Message(role, parts);
    }

    private void part(Object value, String at, Pictures pictures, List<Content> out) {
        Map<?, ?> part = map(value, at);
        String type = string(part.get("type"), at + ".type");
        if (type.equals("text")) {
            String text = string(part.get("text"), at + ".text");
            pictures.takeFor(text, at);
            out.add(new Content.Text(text));
        } else if (type.equals("image")) {
            out.add(new Content.Image(ownImage(part)
                    .map(key -> pictures.own(ownImage(part, key, at + "." + key)))
                    .orElseGet(() -> pictures.take(part.get("index"), at))));
        } else if (type.equals("image_url")) {
            out.add(new Content.Image(pictures.own(imageUrl(part.get("image_url"), at + ".image_url"))));
        } else if (type.contains("image")) {
            throw bad(at + ".type is \"" + type + "\"; write {\"type\": \"image\", \"image\": path} instead");
        } else {
            lost.add(at + " of type \"" + type + "\"");
        }
    }

    /** OpenAI's form: an object with a {@code url}, or the URL itself; only data: URIs and paths can be had. */
    private ImageSource imageUrl(Object value, String at) {
        return value instanceof Map<?, ?> object
                ? image(string(object.get("url"), at + ".url"), at + ".url")
                : image(string(value, at), at);
    }

    /** The key of the picture that a part brings along: Arrow gives every part every key, most of them null. */
    private static Optional<String> ownImage(Map<?, ?> part) {
        return OWN_IMAGE.stream()
                .filter(key -> {
                    Object value = part.get(key);
                    return value != null
                            && !(value instanceof Map<?, ?> m && m.get("bytes") == null && m.get("path") == null);
                })
                .findFirst();
    }

    private ImageSource ownImage(Map<?, ?> part, String key, String at) {
        Object value = part.get(key);
        return key.equals("base64") ? ImageSource.of(name(at, null), base64(string(value, at), at)) : image(value, at);
    }

    private List<ImageSource> column(Map<?, ?> row) {
        List<ImageSource> out = new ArrayList<>();
        Object many = row.get("images");
        if (many != null) {
            List<?> images = list(many, "images");
            for (int i = 0; i < images.size(); i++) {
                out.add(image(images.get(i), "images[" + i + "]"));
            }
        } else if (row.get("image") != null) {
            out.add(image(row.get("image"), "image"));
        }
        return out;
    }

    private ImageSource image(Object value, String at) {
        if (value instanceof ImageSource source) {
            return source;
        }
        if (value instanceof byte[] bytes) {
            return ImageSource.of(id + " " + at, bytes);
        }
        if (value instanceof Encoded encoded) {
            return encoded.named(id + " " + at);
        }
        if (value instanceof String path) {
            return path.regionMatches(true, 0, "data:", 0, 5) ? dataUri(path, at) : file(path, at);
        }
        if (value instanceof Map<?, ?> image) {
            Object path = image.get("path");
            if (image.get("bytes") instanceof String base64) {
                return ImageSource.of(name(at, path), base64(base64, at + ".bytes"));
            }
            if (image.get("bytes") instanceof Encoded encoded) {
                return encoded.named(name(at, path));
            }
            if (image.get("bytes") instanceof byte[] bytes) {
                return ImageSource.of(name(at, path), bytes);
            }
            if (image.get("bytes") == null && path instanceof String text) {
                return file(text, at + ".path");
            }
            throw bad(at + " has neither bytes nor a path, but " + shown(image));
        }
        throw bad(at + " is " + shown(value) + ", expected a picture: {bytes, path} or a path");
    }

    private String name(String at, Object path) {
        return path instanceof String text ? id + " " + at + " (" + text + ")" : id + " " + at;
    }

    private ImageSource dataUri(String uri, String at) {
        int comma = uri.indexOf(',');
        if (comma < 0 || !uri.substring(0, comma).endsWith(";base64")) {
            throw bad(at + " is a data: URI that is not base64");
        }
        return ImageSource.of(id + " " + at, base64(uri.substring(comma + 1), at));
    }

    private byte[] base64(String text, String at) {
        try {
            return Base64.getDecoder().decode(text);
        } catch (IllegalArgumentException e) {
            throw bad(at + " is not base64: " + e.getMessage());
        }
    }

    private ImageSource file(String path, String at) {
        if (URL.matcher(path).matches()) {
            throw bad(at + " is a URL (" + shown(path)
                    + "), which is not fetched; download the picture and name the file");
        }
        try {
            return files.find(path);
        } catch (IllegalArgumentException | FormatException e) {
            throw bad(at + ": " + e.getMessage());
        }
    }

    private Map<?, ?> map(Object value, String at) {
        if (value instanceof Map<?, ?> map) {
            return map;
        }
        throw bad(at + " is " + shown(value) + ", expected an object");
    }

    private List<?> list(Object value, String at) {
        if (value instanceof List<?> list) {
            return list;
        }
        throw bad(at + " is " + shown(value) + ", expected a list");
    }

    private String string(Object value, String at) {
        if (value instanceof String text) {
            return text;
        }
        throw bad(at + " is " + shown(value) + ", expected a string");
    }

    private FormatException bad(String why) {
        return new FormatException(id + ": " + why);
    }

    private static String shown(Object value) {
        if (value == null) {
            return "null or missing";
        }
        String line = written(value).replaceAll("\\s+", " ");
        return line.length() <= SHOWN ? line : line.substring(0, SHOWN) + "...";
    }

    /** As in the data, of lists and objects no more than is shown. */
    private static String written(Object value) {
        if (value instanceof byte[] bytes) {
            return bytes.length + " bytes of binary";
        }
        if (value instanceof Encoded encoded) {
            return encoded.length() + " bytes of binary";
        }
        if (value instanceof List<?> list) {
            return list.stream().limit(SHOWN).map(RowParser::written).collect(Collectors.joining(", ", "[", "]"));
        }
        if (value instanceof Map<?, ?> map) {
            return map.entrySet().stream()
                    .limit(SHOWN)
                    .map(field -> field.getKey() + ": " + written(field.getValue()))
                    .collect(Collectors.joining(", ", "{", "}"));
        }
        return value instanceof String ? "\"" + value + "\"" : String.valueOf(value);
    }

    /** The pictures of the record's column, which of them have been taken, and where all pictures of the record go. */
    private final class Pictures {
        private final List<ImageSource> column;
        private final List<ImageSource> placed = new ArrayList<>(); // in the order of their places
        private final Set<Integer> used = new HashSet<>();
        private boolean lead; // they still have to go before a user's text
        private final boolean written; // placeholders among the words are places
        private int places;

        Pictures(List<ImageSource> column, boolean lead, boolean written) {
            this.column = column;
            this.lead = lead;
            this.written = written;
        }

        List<ImageSource> leading() {
            if (!lead) {
                return List.of();
            }
            lead = false;
            for (int i = 0; i < column.size(); i++) {
                used.add(i);
            }
            placed.addAll(column);
            return column;
        }

        /** Takes a picture for each placeholder in {@code text}, where those count. */
        void takeFor(String text, String at) {
            for (int i = written ? ChatTemplate.places(text) : 0; i > 0; i--) {
                take(null, at);
            }
        }

        /** A picture that its part brings along. */
        ImageSource own(ImageSource source) {
            placed.add(source);
            return source;
        }

        /** The picture at {@code index}, or of the same rank as the place that asks where there is no index. */
        ImageSource take(Object index, String at) {
            int rank = places++;
            long wanted = rank;
            if (index != null) {
                if (!(index instanceof Number number) || number.doubleValue() != number.longValue()) {
                    throw bad(at + ".index is " + shown(index) + ", expected a whole number");
                }
                wanted = number.longValue();
            }
            if (wanted < 0 || wanted >= column.size()) {
                throw bad(at + " asks for picture " + wanted + " (counted from 0), but the record has " + column.size()
                        + " pictures");
            }
            used.add((int) wanted);
            placed.add(column.get((int) wanted));
            return column.get((int) wanted);
        }

        void checkAllUsed() {
            if (used.size() != column.size()) {
                throw bad("has " + column.size() + " pictures but image parts for " + used.size()
                        + "; give every picture one {\"type\": \"image\"} part");
            }
        }
    }
}
