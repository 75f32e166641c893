package lapidary.gemma3;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.tokenizer.Tokenizer;

/**
 * From a conversation's text to token ids: puts the soft tokens of images in place of their placeholders and tells the
 * types of tokens. Made from a model folder's tokenizer and processor files; immutable.
 *
 * <p>Pan and scan is the caller's to do, whatever {@code preprocessor_config.json} says.
 */
public final class Gemma3Processor {
    /** Soft tokens of an image where no file says how many. */
    private static final int DEFAULT_IMAGE_SEQ_LENGTH = 256;

    private static final int MAX_IMAGE_SEQ_LENGTH = 1 << 16;

    private final Tokenizer tokenizer;
    private final ChatTemplate template;
    private final boolean multimodal;
    private final int imageSeqLength;
    private final SpecialTokens special;
    private final String imageSequence;

    /** What stands around the views of an image that pan-and-scan has cut: the reference's words. */
    private static final String WHOLE = "Here is the original image ";

    private static final String CROPS = " and here are some crops to help you see better ";

    private static final String END_OF_TURN = "<end_of_turn>";

    private static final String BOI = ChatTemplate.IMAGE;

    /** The control tokens; the ids of those of images are -1 where the tokenizer lacks them. */
    private record SpecialTokens(int bosId, int padId, String eos, int boiId, String eoi, String image, int imageId) {}

    /** The ids of a text and their types, 1 at image soft tokens and 0 elsewhere, both [tokens]. */
    public record Encoded(int[] ids, int[] tokenTypeIds) {}

    private Gemma3Processor(
            Tokenizer tokenizer, ChatTemplate template, boolean multimodal, int imageSeqLength, SpecialTokens special) {
        this.tokenizer = tokenizer;
        this.template = template;
        this.multimodal = multimodal;
        this.imageSeqLength = imageSeqLength;
        this.special = special;
        this.imageSequence = "\n\n" + BOI + special.image().repeat(imageSeqLength) + special.eoi() + "\n\n";
    }

    /**
     * Reads a model folder. It is multimodal when it holds {@code processor_config.json} or
     * {@code preprocessor_config.json}, and {@code config.json} does not say {@code gemma3_text}.
     *
     * @throws FormatException when a file is missing or damaged, or asks for something else than Gemma 3
     */
    public static Gemma3Processor load(Path folder) {
        if (!Files.isDirectory(folder)) {
            throw new FormatException(folder + " is no model folder: there is no folder of that name");
        }
        Path tokenizerFile = folder.resolve("tokenizer.json");
        if (!Files.exists(tokenizerFile)) {
            throw new FormatException(tokenizerFile + " is missing; copy it from the checkpoint the model came from"
                    + (Files.exists(folder.resolve("tokenizer.model")) ? " (tokenizer.model is not read)" : ""));
        }
        Tokenizer tokenizer = Tokenizer.load(tokenizerFile);
        Path configFile = folder.resolve("tokenizer_config.json");
        boolean multimodal = isMultimodal(folder);
        SpecialTokens special = specialTokens(configFile, tokenizer, multimodal);
        ChatTemplate template = ChatTemplate.read(folder, tokenizer.token(special.bosId()));
        int length = multimodal ? imageSeqLength(folder) : 0;
        return new Gemma3Processor(tokenizer, template, multimodal, length, special);
    }

    private static boolean isMultimodal(Path folder) {
        boolean hasFiles = Files.exists(folder.resolve("processor_config.json"))
                || Files.exists(folder.resolve("preprocessor_config.json"));
        Path config = folder.resolve("config.json");
        String type = Files.exists(config) ? Json.read(config).string("model_type", "") : "";
        if (type.equals("gemma3") && !hasFiles) {
            throw new FormatException(
                    folder + " has neither processor_config.json nor preprocessor_config.json, which a "
                            + "model with images needs; copy them from the checkpoint the model came from");
        }
        return hasFiles && !type.equals("gemma3_text");
    }

    private static int imageSeqLength(Path folder) {
        for (String name : new String[] {"processor_config.json", "preprocessor_config.json"}) {
            Path file = folder.resolve(name);
            if (!Files.exists(file)) {
                continue;
            }
            Json config = Json.read(file);
            String processor = config.string("processor_class", "Gemma3Processor");
            if (!processor.equals("Gemma3Processor")) {
                throw config.get("processor_class").error("is \"" + processor + "\", expected Gemma3Processor");
            }
            if (config.has("image_seq_length")) {
                return config.get("image_seq_length").intBetween(1, MAX_IMAGE_SEQ_LENGTH);
            }
        }
        return DEFAULT_IMAGE_SEQ_LENGTH;
    }

    private static SpecialTokens specialTokens(Path file, Tokenizer tokenizer, boolean multimodal) {
        Json config = Files.exists(file) ? Json.read(file) : Json.parse(file.toString(), "{}");
        int bos = id(config, "bos_token", "<bos>", tokenizer);
        if (bos != tokenizer.bosId()) {
            throw new FormatException(file + ": bos_token is \"" + tokenizer.token(bos)
                    + "\", but tokenizer.json begins a text with \"" + tokenizer.token(tokenizer.bosId()) + "\"");
        }
        int pad = id(config, "pad_token", "<pad>", tokenizer);
        String boi = content(config, "boi_token", BOI);
        if (!boi.equals(BOI)) {
            throw new FormatException(
                    file + ": boi_token is \"" + boi + "\", the chat template writes " + BOI + " for an image");
        }
        String eoi = content(config, "eoi_token", "<end_of_image>");
        String image = content(config, "image_token", "<image_soft_token>");
        if (multimodal) {
            id(config, "boi_token", boi, tokenizer);
            id(config, "eoi_token", eoi, tokenizer);
            id(config, "image_token", image, tokenizer);
        }
        return new SpecialTokens(
                bos,
                pad,
                tokenizer.token(id(config, "eos_token", "<eos>", tokenizer)),
                tokenizer.findId(boi).orElse(-1),
                eoi,
                image,
                tokenizer.findId(image).orElse(-1));
    }

    private static int id(Json config, String key, String usual, Tokenizer tokenizer) {
        String token = content(config, key, usual);
        return tokenizer
                .findId(token)
                .orElseThrow(() -> new FormatException(
                        config.file() + ": " + key + " is \"" + token + "\", which tokenizer.json does not have"));
    }

    /** A token is written as a string, or as an object with its content. */
    private static String content(Json config, String key, String usual) {
        if (!config.has(key)) {
            return usual;
        }
        Json value = config.get(key);
        return value.isObject() ? value.string("content") : value.string();
    }

    public Tokenizer tokenizer() {
        return tokenizer;
    }

    public ChatTemplate template() {
        return template;
    }

    /** Whether conversations may have images. */
    public boolean multimodal() {
        return multimodal;
    }

    /** Soft tokens of an image; 0 where there are no images. */
    public int imageSeqLength() {
        return imageSeqLength;
    }

    public int padId() {
        return special.padId();
    }

    /** The id of {@code <start_of_image>}, or -1 where the tokenizer has none. */
    public int boiId() {
        return special.boiId();
    }

    /** The id of an image soft token, or -1 where the tokenizer has none. */
    public int imageId() {
        return special.imageId();
    }

    /** {@link #encode(Rendered, int[], boolean, boolean)} of images that are not cut. */
    public Encoded encode(Rendered conversation, int images, boolean withBos, boolean controlTokensInTexts) {
        return encode(conversation, new int[images], withBos, controlTokensInTexts);
    }

    /**
     * Token ids of a rendered conversation.
     *
     * @param crops of each image that comes with it, how many further views pan-and-scan has cut; each image takes the
     *     place of one {@code <start_of_image>}
     * @param withBos set another {@code <bos>} before the one that the template wrote
     * @param controlTokensInTexts whether control tokens in the data's own words count as such; if not they are text,
     *     except for placeholders of images
     * @throws IllegalArgumentException when placeholders and images differ in number, or words hold an image soft token
     *     that would count as one, or half a surrogate pair
     */
    public Encoded encode(Rendered conversation, int[] crops, boolean withBos, boolean controlTokensInTexts) {
        checkSurrogates(conversation);
        List<Integer> placeholders = multimodal ? placeholders(conversation.text()) : List.of();
        checkImages(conversation, placeholders.size(), crops.length);
        if (controlTokensInTexts) {
            checkSoftTokens(conversation);
        }
        Expansion expansion = expand(conversation.text(), placeholders, crops);
        int[] plain = controlTokensInTexts ? new int[0] : plainRanges(conversation.texts(), expansion);
        int[] ids = tokenizer.encode(expansion.text(), withBos, plain);
        int[] types = new int[ids.length];
        if (multimodal) {
            Arrays.setAll(types, t -> ids[t] == special.imageId() ? 1 : 0);
        }
        return new Encoded(ids, types);
    }

    /**
     * Token ids of a text that no template has written, behind {@code <bos>}; control tokens in it count.
     *
     * @throws IllegalArgumentException when it holds an image soft token, or half a surrogate pair
     */
    public Encoded encodeText(String text) {
        if (unpaired(text, 0, text.length()) >= 0) {
            throw new IllegalArgumentException(half(text.charAt(unpaired(text, 0, text.length()))));
        }
        if (special.imageId() >= 0 && text.contains(special.image())) {
            throw new IllegalArgumentException(
                    "has " + special.image() + " among its words, which would count as part of an image; take it out");
        }
        int[] ids = tokenizer.encodeWithBos(text);
        return new Encoded(ids, new int[ids.length]);
    }

    /** JSON can spell one; tokenizers and Arrow refuse it, and any token for it would be made up. */
    private static void checkSurrogates(Rendered conversation) {
        for (Rendered.Span span : conversation.texts()) {
            int at = unpaired(conversation.text(), span.from(), span.to());
            if (at >= 0) {
                throw new IllegalArgumentException("messages[" + span.message() + "] "
                        + half(conversation.text().charAt(at)));
            }
        }
    }

    private static String half(char unit) {
        return String.format(
                "has half a surrogate pair among its words, \\u%04x, which is no character; take it out", (int) unit);
    }

    /** Where in a range a surrogate stands without its other half, or -1. */
    private static int unpaired(String text, int from, int to) {
        for (int i = from; i < to; i++) {
            if (Character.isSurrogate(text.charAt(i))) {
                if (i + 1 == to || !Character.isSurrogatePair(text.charAt(i), text.charAt(i + 1))) {
                    return i;
                }
                i++;
            }
        }
        return -1;
    }

    /** The text of the token that ends a text. */
    public String eos() {
        return special.eos();
    }

    /**
     * Which tokens are those of each turn: what the turn says, its {@code <end_of_turn>} and the newline behind that, if any. It
     * follows from where the template put them and from no token's value.
     *
     * @param conversation,crops,withBos as they were encoded
     * @param ids what they became
     * @return spans of tokens, one for each of {@link Rendered#turns}
     */
    public List<Rendered.Span> turns(Rendered conversation, int[] crops, boolean withBos, int[] ids) {
        List<Integer> placeholders = multimodal ? placeholders(conversation.text()) : List.of();
        Expansion expansion = expand(conversation.text(), placeholders, crops);
        int first = withBos ? 1 : 0;
        int[] starts = tokenizer.starts(expansion.text(), Arrays.copyOfRange(ids, first, ids.length));
        List<Rendered.Span> turns = new ArrayList<>();
        for (Rendered.Span turn : conversation.turns()) {
            int end = Math.min(
                    turn.to() + END_OF_TURN.length() + 1, conversation.text().length());
            turns.add(new Rendered.Span(
                    turn.message(),
                    first + atOrAfter(starts, expansion.place(turn.from())),
                    first + atOrAfter(starts, expansion.place(end))));
        }
        return turns;
    }

    /** The first token that begins at {@code place} or behind it. */
    private static int atOrAfter(int[] starts, int place) {
        int found = Arrays.binarySearch(starts, place);
        while (found > 0 && starts[found - 1] == place) {
            found--; // bytes of one code point
        }
        return found < 0 ? -found - 1 : found;
    }

    /**
     * A text with images in the place of their placeholders.
     *
     * @param at where each placeholder was
     * @param grown how much longer the text is behind each, all before included
     */
    private record Expansion(String text, List<Integer> at, int[] grown) {
        /** Where what stood at {@code place} is now; nothing within a placeholder is asked for. */
        int place(int place) {
            int passed = 0;
            while (passed < at.size() && at.get(passed) < place) {
                passed++;
            }
            return place + (passed == 0 ? 0 : grown[passed - 1]);
        }
    }

    private static List<Integer> placeholders(String text) {
        List<Integer> found = new ArrayList<>();
        for (int at = text.indexOf(BOI); at >= 0; at = text.indexOf(BOI, at + BOI.length())) {
            found.add(at);
        }
        return found;
    }

    /**
     * Checks that a conversation has a place for each of its images, and an image for each place.
     *
     * @throws IllegalArgumentException where it has not
     */
    public void requireImages(Rendered conversation, int images) {
        checkImages(conversation, multimodal ? placeholders(conversation.text()).size() : 0, images);
    }

    private void checkImages(Rendered conversation, int placeholders, int images) {
        if (!multimodal && images > 0) {
            throw new IllegalArgumentException(images + (images == 1 ? " image comes" : " images come")
                    + " with the conversation, but this model has words alone (no processor_config.json or"
                    + " preprocessor_config.json in its folder); use one with a vision tower, such as gemma-3-4b-it");
        }
        if (!multimodal || placeholders == images) {
            return;
        }
        String written = conversation.texts().stream()
                .filter(span ->
                        conversation.text().substring(span.from(), span.to()).contains(BOI))
                .findFirst()
                .map(span -> "; messages[" + span.message() + "] has " + BOI
                        + " among its words: take it out, or give an image for it")
                .orElse("; give one image for each image part of the messages");
        throw new IllegalArgumentException("the prompt has " + placeholders + " " + BOI + " but " + images
                + (images == 1 ? " image comes" : " images come") + " with it" + written);
    }

    /** A soft token among the words would take the features of an image, or one that the embedding table lacks. */
    private void checkSoftTokens(Rendered conversation) {
        for (Rendered.Span span : conversation.texts()) {
            if (special.imageId() >= 0
                    && conversation.text().substring(span.from(), span.to()).contains(special.image())) {
                throw new IllegalArgumentException("messages[" + span.message() + "] has " + special.image()
                        + " among its words, which would count as part of an image; take it out");
            }
        }
    }

    private Expansion expand(String text, List<Integer> placeholders, int[] crops) {
        StringBuilder out = new StringBuilder(text.length() + placeholders.size() * imageSequence.length());
        int[] grown = new int[placeholders.size()];
        int at = 0;
        for (int i = 0; i < grown.length; i++) {
            out.append(text, at, placeholders.get(i));
            if (crops[i] > 0) {
                out.append(WHOLE).append(imageSequence).append(CROPS);
            }
            out.append(imageSequence);
            for (int crop = 1; crop < crops[i]; crop++) {
                out.append(' ').append(imageSequence);
            }
            at = placeholders.get(i) + BOI.length();
            grown[i] = out.length() - at;
        }
        return new Expansion(out.append(text, at, text.length()).toString(), placeholders, grown);
    }

    /** Where the data's own words lie once images are expanded, as from, to pairs; placeholders are not among them. */
    private static int[] plainRanges(List<Rendered.Span> texts, Expansion expansion) {
        List<Integer> placeholders = expansion.at();
        int[] ranges = new int[2 * (texts.size() + placeholders.size())];
        int n = 0;
        int passed = 0; // placeholders that end before the words at hand
        for (Rendered.Span span : texts) {
            int at = span.from();
            while (passed < placeholders.size() && placeholders.get(passed) < span.to()) {
                int placeholder = placeholders.get(passed);
                int grown = passed == 0 ? 0 : expansion.grown()[passed - 1];
                if (placeholder > at) {
                    ranges[n++] = at + grown;
                    ranges[n++] = placeholder + grown;
                }
                at = Math.max(at, placeholder + BOI.length());
                passed++;
            }
            if (at < span.to()) {
                int grown = passed == 0 ? 0 : expansion.grown()[passed - 1];
                ranges[n++] = at + grown;
                ranges[n++] = span.to() + grown;
            }
        }
        return Arrays.copyOf(ranges, n);
    }
}
