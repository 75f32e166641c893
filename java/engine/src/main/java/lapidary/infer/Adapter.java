package lapidary.infer;

import lapidary.gemma3.Gemma3;
import lapidary.image.PanAndScan;

/** A model that requests run on: the base, or the base with an adapter. Closed by the worker when nobody uses it any more. */
final class Adapter {
    private final String name;
    private final Gemma3 model;
    private final PanAndScan panAndScan;
    private int users;
    private boolean detached;

    /** @param panAndScan how pictures are shown to it */
    Adapter(String name, Gemma3 model, PanAndScan panAndScan) {
        this.name = name;
        this.model = model;
        this.panAndScan = panAndScan;
    }

    String name() {
        return name;
    }

    Gemma3 model() {
        return model;
    }

    PanAndScan panAndScan() {
        return panAndScan;
    }

    synchronized void use() {
        users++;
    }

    synchronized void release() {
        users--;
    }

    synchronized void detach() {
        detached = true;
    }

    /** Whether no request can come to it any more, and none is left. */
    synchronized boolean isDone() {
        return detached && users == 0;
    }
}
