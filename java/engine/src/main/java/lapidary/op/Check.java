package lapidary.op;

import lapidary.device.DType;
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

    static void dtype(String what, Tensor x, DType expected) {
        if (x.dtype() != expected) {
            throw new IllegalArgumentException("[" + what + "] is " + x.dtype() + ", expected " + expected);
        }
    }

    /** What kernels compute with: F32 or BF16. */
    static void floating(String what, Tensor x) {
        if (x.dtype() != DType.F32 && x.dtype() != DType.BF16) {
            throw new IllegalArgumentException("[" + what + "] is " + x.dtype() + ", expected F32 or BF16");
        }
    }

    /** F32 or BF16, and like another in shape and dtype. */
    static void same(String what, Tensor x, Tensor like) {
        floating(what, x);
        dtype(what, x, like);
        if (!x.shape().equals(like.shape())) {
            throw new IllegalArgumentException("[" + what + "] is " + x.shape() + ", expected " + like.shape());
        }
    }

    static void matrix(String what, Tensor x) {
        if (x.shape().rank() != 2) {
            throw new IllegalArgumentException("[" + what + "] is " + x.shape() + ", expected [rows, cols]");
        }
    }
}
