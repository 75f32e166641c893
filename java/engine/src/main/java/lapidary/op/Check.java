package lapidary.op;

import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/** Checks of op inputs; every message says what was got, what was expected, and where. */
final class Check {
    private Check() {}

    static void shape(String what, Tensor x, long... expected) {
        Shape shape = Shape.of(expected);
        if (!x.shape().equals(shape)) {
            throw new IllegalArgumentException("[" + what + "] is " + x.shape() + ", expected " + shape);
        }
    }

    static void last(String what, Tensor x, long expected) {
        if (x.last() != expected) {
            throw new IllegalArgumentException(
                    "[" + what + "] is " + x.shape() + ", expected a last axis of " + expected);
        }
    }

    static void dtype(String what, Tensor x, Tensor like) {
        if (x.dtype() != like.dtype()) {
            throw new IllegalArgumentException("[" + what + "] is " + x.dtype() + ", expected " + like.dtype());
        }
    }
}
