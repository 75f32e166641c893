package lapidary.infer;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.image.ImageSource;

/**
 * A conversation that remembers its turns. The model keeps what it has read of them, so that a turn costs its own words
 * only. For one thread; a model may have any number of chats.
 */
public final class Chat {
    private final LanguageModel model;
    private GenerationOptions options;
    private final List<Message> history = new ArrayList<>();
    private Message asked; // not yet part of the history: its answer is being made
    private Generation answering;

    Chat(LanguageModel model, GenerationOptions options) {
        this.model = model;
        this.options = options;
    }

    /** Says something, pictures first, and begins the answer. */
    public Generation send(String text, Path... images) {
        List<Content> parts = new ArrayList<>();
        for (Path image : images) {
            parts.add(new Content.Image(ImageSource.of(image)));
        }
        parts.add(new Content.Text(text));
        return send(new Message("user", parts));
    }

    /**
     * Says something and begins the answer. An answer that is still being made is waited for, and one that failed is not part
     * of the history, nor is what it answered.
     *
     * @throws IllegalArgumentException where the conversation has become longer than the model's context; the history stays
     *     what it was
     */
    public Generation send(Message user) {
        settle();
        List<Message> messages = new ArrayList<>(history);
        messages.add(user);
        answering = model.generate(messages, options);
        asked = user;
        return answering;
    }

    /** The turns so far; waits for an answer that is being made. */
    public List<Message> history() {
        settle();
        return List.copyOf(history);
    }

    /** Forgets all turns, and cancels an answer that is being made. */
    public void reset() {
        if (answering != null) {
            answering.cancel();
        }
        answering = null;
        history.clear();
    }

    /** Begins with a system message; only where nothing has been said yet. */
    public void system(String text) {
        if (answering != null || !history.isEmpty()) {
            throw new IllegalStateException("a system message comes first, but the conversation has begun; reset it");
        }
        history.add(Message.of("system", text));
    }

    public GenerationOptions options() {
        return options;
    }

    /** Of answers from now on. */
    public void setOptions(GenerationOptions other) {
        options = other;
    }

    private void settle() {
        if (answering == null) {
            return;
        }
        Generation finished = answering;
        try {
            Answer answer = finished.answer();
            history.add(asked);
            history.add(Message.of("assistant", answer.text()));
            answering = null;
        } catch (InferenceException e) {
            answering = null; // whoever waited for the answer was told
        }
    }
}
