package lapidary.gemma3;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import lapidary.format.FormatException;
import lapidary.format.Json;

/**
 * The chat template of the Gemma 3 instruction checkpoints. It is written out here instead of interpreted, so a checkpoint
 * that brings another one is refused.
 *
 * @param bosToken what a conversation begins with
 */
public record ChatTemplate(String bosToken) {
    /** What an image is in a rendered text, before its soft tokens are put there. */
    public static final String IMAGE = "<start_of_image>";

    /** How many times a text has {@link #IMAGE}. */
    public static int places(String text) {
        return text.split(IMAGE, -1).length - 1;
    }

    /** SHA-256 of the template's text, line ends as "\n", white space at the end cut. */
    private static final String KNOWN = "8d9e3a3c114fb2053ec500184677af4f7e5f8ec2582443cd535834e68b3ade29";

    /**
     * Checks that each chat template which a model folder holds is the known one; a folder without any gets the known one.
     *
     * @throws FormatException for another template; it names file and key
     */
    static ChatTemplate read(Path folder, String bosToken) {
        Path jinja = folder.resolve("chat_template.jinja");
        if (Files.exists(jinja)) {
            check(jinja.toString(), Json.utf8(jinja.toString(), Json.readBytes(jinja, 1 << 20)));
        }
        for (String name : new String[] {"chat_template.json", "processor_config.json", "tokenizer_config.json"}) {
            Path file = folder.resolve(name);
            if (Files.exists(file)) {
                checkKey(Json.read(file));
            }
        }
        return new ChatTemplate(bosToken);
    }

    /** The text of the template that a model folder holds, for files that carry it along; empty where there is none. */
    public static Optional<String> source(Path folder) {
        Path jinja = folder.resolve("chat_template.jinja");
        if (Files.exists(jinja)) {
            return Optional.of(Json.utf8(jinja.toString(), Json.readBytes(jinja, 1 << 20)));
        }
        for (String name : new String[] {"chat_template.json", "processor_config.json", "tokenizer_config.json"}) {
            Path file = folder.resolve(name);
            if (Files.exists(file) && Json.read(file).has("chat_template")) {
                Json value = Json.read(file).get("chat_template");
                if (!value.isArray()) {
                    return Optional.of(value.string());
                }
                for (Json named : value.elements()) {
                    if (named.string("name").equals("default")) {
                        return Optional.of(named.string("template"));
                    }
                }
            }
        }
        return Optional.empty();
    }

    /** The value is a template, or a list of {name, template} of which "default" is used. */
    private static void checkKey(Json file) {
        if (!file.has("chat_template")) {
            return;
        }
        Json value = file.get("chat_template");
        if (!value.isArray()) {
            check(value.file() + ": chat_template", value.string());
            return;
        }
        for (Json named : value.elements()) {
            if (named.string("name").equals("default")) {
                check(value.file() + ": " + named.path() + ".template", named.string("template"));
            }
        }
    }

    private static void check(String where, String template) {
        String normal = template.replace("\r\n", "\n").stripTrailing();
        String hash = sha256(normal);
        if (!hash.equals(KNOWN)) {
            throw new FormatException(where + " is not Gemma 3's chat template (SHA-256 " + hash + ", expected " + KNOWN
                    + "); no other is supported: use that of google/gemma-3-4b-it, or remove it to get that one");
        }
    }

    private static String sha256(String text) {
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(digest);
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has SHA-256", e);
        }
    }

    /**
     * Refuses what {@link #render} would take for something else or drop: it takes any role as the other side's, and of a
     * system message the first part alone.
     *
     * @throws IllegalArgumentException naming the message
     */
    public static void checkRoles(List<Message> messages) {
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

    /**
     * Writes a conversation out. The words of user and assistant are trimmed part by part, those of the system are not; of
     * a system message only the first part counts.
     *
     * @param addGenerationPrompt end with the beginning of the model's turn
     * @throws IllegalArgumentException when there is no message, when the roles do not alternate, or when a system message
     *     does not begin with text; it names the message
     */
    public Rendered render(List<Message> messages, boolean addGenerationPrompt) {
        if (messages.isEmpty()) {
            throw new IllegalArgumentException("the conversation has no messages, expected at least one");
        }
        StringBuilder out = new StringBuilder(bosToken);
        List<Rendered.Span> turns = new ArrayList<>();
        List<Rendered.Span> texts = new ArrayList<>();
        boolean system = messages.get(0).role().equals("system");
        for (int i = system ? 1 : 0; i < messages.size(); i++) {
            Message message = messages.get(i);
            boolean usersTurn = (i - (system ? 1 : 0)) % 2 == 0;
            if (message.role().equals("user") != usersTurn) {
                throw new IllegalArgumentException(
                        "Conversation roles must alternate user/assistant/user/assistant/...: messages[" + i
                                + "] is of role \"" + message.role() + "\", expected "
                                + (usersTurn ? "user" : "assistant"));
            }
            out.append("<start_of_turn>")
                    .append(message.role().equals("assistant") ? "model" : message.role())
                    .append('\n');
            int from = out.length();
            if (system && i == 1) {
                append(out, systemText(messages.get(0)), 0, texts);
                out.append("\n\n");
            }
            for (Content part : message.content()) {
                if (part instanceof Content.Text text) {
                    append(out, trim(text.text()), i, texts);
                } else {
                    out.append(IMAGE);
                }
            }
            turns.add(new Rendered.Span(i, from, out.length()));
            out.append("<end_of_turn>\n");
        }
        if (system && messages.size() == 1) {
            systemText(messages.get(0));
        }
        if (addGenerationPrompt) {
            out.append("<start_of_turn>model\n");
        }
        return new Rendered(out.toString(), turns, texts);
    }

    private static String systemText(Message system) {
        if (system.content().isEmpty() || !(system.content().get(0) instanceof Content.Text)) {
            throw new IllegalArgumentException("the system message begins with "
                    + (system.content().isEmpty() ? "nothing" : "an image")
                    + ", expected text");
        }
        return ((Content.Text) system.content().get(0)).text();
    }

    private static void append(StringBuilder out, String text, int message, List<Rendered.Span> texts) {
        if (!text.isEmpty()) {
            texts.add(new Rendered.Span(message, out.length(), out.length() + text.length()));
            out.append(text);
        }
    }

    /** Cuts white space from both ends, by Python's idea of it, which Jinja's trim and the collator's strip follow. */
    static String trim(String text) {
        int from = 0;
        int to = text.length();
        while (from < to && isPythonSpace(text.charAt(from))) {
            from++;
        }
        while (to > from && isPythonSpace(text.charAt(to - 1))) {
            to--;
        }
        return text.substring(from, to);
    }

    /** Unicode's bidirectional classes WS, B and S, or category Zs: what {@code str.isspace} is true for. */
    private static boolean isPythonSpace(char c) {
        return c >= '\t' && c <= '\r'
                || c >= '\u001C' && c <= ' '
                || c == '\u0085'
                || c == '\u00A0'
                || c == '\u1680'
                || c >= '\u2000' && c <= '\u200A'
                || c == '\u2028'
                || c == '\u2029'
                || c == '\u202F'
                || c == '\u205F'
                || c == '\u3000';
    }
}
