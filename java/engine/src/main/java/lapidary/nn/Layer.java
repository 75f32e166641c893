package lapidary.nn;

import lapidary.autograd.Tape;
import lapidary.tensor.Tensor;

/** Weights plus an op: one tensor in, one out. */
public interface Layer {
    Tensor apply(Tape tape, Tensor x);
}
