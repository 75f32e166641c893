package lapidary.device;

/** Frees one thing after another, whatever becomes of those before: the first failure is thrown in the end. */
final class Closing {
    private RuntimeException first; // null while all went well

    /** Frees the next. */
    Closing then(Runnable step) {
        try {
            step.run();
        } catch (RuntimeException e) {
            if (first == null) {
                first = e;
            } else {
                first.addSuppressed(e);
            }
        }
        return this;
    }

    /** Throws the first failure, with the others suppressed beside it, where there was any. */
    void end() {
        if (first != null) {
            throw first;
        }
    }
}
