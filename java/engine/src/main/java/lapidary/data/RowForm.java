package lapidary.data;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/** How a row says its conversation. Which it is follows from the columns; only where two fit it has to be told. */
public enum RowForm {
    /** {@code messages}, with {@code images} or {@code image} or without. */
    MESSAGES(Set.of("messages"), Set.of("messages", "images", "image")),

    /** {@code prompt} and {@code completion}: lists of messages, or one text each: the user's and the answer. */
    PROMPT_COMPLETION(Set.of("prompt", "completion"), Set.of("prompt", "completion", "images", "image")),

    /**
     * The rows of MMIU-Benchmark: {@code context} becomes the system's message, the pictures of {@code input_image_path} and then
     * {@code question} the user's, {@code output} the answer.
     */
    MMIU(Set.of("question", "input_image_path", "output"), Set.of("context", "question", "input_image_path", "output")),

    /** {@code prompt} without an answer, to be answered: a list of messages, or the user's text. Not for training. */
    PROMPT(Set.of("prompt"), Set.of("prompt", "images", "image"));

    /** Rows to train on or to evaluate with. */
    public static final Set<RowForm> ANSWERED =
            Collections.unmodifiableSet(EnumSet.of(MESSAGES, PROMPT_COMPLETION, MMIU));

    /** Rows to answer. */
    public static final Set<RowForm> ASKED = Collections.unmodifiableSet(EnumSet.of(MESSAGES, PROMPT));

    private final Set<String> required;
    private final Set<String> columns;

    RowForm(Set<String> required, Set<String> columns) {
        this.required = required;
        this.columns = columns;
    }

    /** The columns that are read; others are ignored. */
    Set<String> columns() {
        return columns;
    }

    /** Whether rows with these columns can be of this form. */
    boolean fits(Collection<?> present) {
        return present.containsAll(required) && !(this == PROMPT && MESSAGES.fits(present));
    }

    /** The name that an option gives it. */
    public String word() {
        return name().toLowerCase(Locale.ROOT);
    }

    /**
     * The one of {@code forms} that rows with these columns have; where there is but one, what it needs must be there.
     *
     * @throws IllegalArgumentException none fits, or several
     */
    static RowForm of(Collection<?> columns, Set<RowForm> forms) {
        if (forms.size() == 1) {
            RowForm told = forms.iterator().next();
            told.require(columns);
            return told;
        }
        List<RowForm> fitting = new ArrayList<>();
        for (RowForm form : values()) {
            if (forms.contains(form) && form.fits(columns)) {
                fitting.add(form);
            }
        }
        if (fitting.isEmpty()) {
            String others = forms.contains(PROMPT)
                    ? "nor \"prompt\""
                    : "nor \"prompt\" and \"completion\", nor \"question\", \"input_image_path\" and \"output\"";
            throw new IllegalArgumentException("has no \"messages\" (" + others + "), only " + columns);
        }
        if (fitting.size() > 1) {
            throw new IllegalArgumentException("could be read in several ways; choose one with --dataset_format "
                    + fitting.stream().map(RowForm::word).toList());
        }
        return fitting.get(0);
    }

    private void require(Collection<?> present) {
        for (String column : required.stream().sorted().toList()) {
            if (!present.contains(column)) {
                throw new IllegalArgumentException(
                        "has no \"" + column + "\", which the form " + word() + " needs, only " + present);
            }
        }
    }
}
