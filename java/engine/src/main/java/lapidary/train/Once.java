package lapidary.train;

import java.util.function.Supplier;

/** Makes a thing when it is first asked for. */
final class Once<T> implements Supplier<T> {
    private final Supplier<T> maker;
    private boolean isMade;
    private T made;

    Once(Supplier<T> maker) {
        this.maker = maker;
    }

    @Override
    public synchronized T get() {
        if (!isMade) {
            made = maker.get();
            isMade = true;
        }
        return made;
    }
}
