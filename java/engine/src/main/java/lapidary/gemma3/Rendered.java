package lapidary.gemma3;

import java.util.List;

/**
 * A conversation as the one text that is tokenised, and what lies where in it.
 *
 * @param text from {@code <bos>} to the newline behind the last {@code <end_of_turn>}
 * @param turns what was written for each message behind its role's line, up to its {@code <end_of_turn>}; a system
 *     message is part of the turn behind it and has none of its own
 * @param texts where the data's own words stand, part by part; all else is the template's
 */
public record Rendered(String text, List<Span> turns, List<Span> texts) {

    /**
     * A range of a text.
     *
     * @param message index of the message it comes from
     * @param from first UTF-16 unit
     * @param to behind the last
     */
    public record Span(int message, int from, int to) {}

    public Rendered {
        turns = List.copyOf(turns);
        texts = List.copyOf(texts);
    }

    /** The same less the white space at its end: the newline behind the last turn goes, nothing else can. */
    public Rendered stripEnd() {
        return new Rendered(ChatTemplate.trim(text), turns, texts); // it begins with <bos>
    }
}
