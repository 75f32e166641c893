package lapidary.gemma3;

import java.util.List;
import java.util.function.BiFunction;
import lapidary.autograd.Tape;
import lapidary.nn.Dropout;
import lapidary.tensor.Tensor;

/**
 * How a stack of layers is run.
 *
 * @param checkpointing whether each layer keeps only its input and is run again in backward
 * @param trained what checkpointed layers may find trained
 * @param part number of this run among those of the same layers in one forward pass, whose dropout masks differ
 */
record Pass(Tape tape, boolean checkpointing, List<Tensor> trained, Dropout dropout, int part) {
    Pass {
        trained = List.copyOf(trained);
    }

    /** Runs one layer. */
    Tensor layer(String name, Tensor x, BiFunction<Tape, Tensor, Tensor> layer) {
        // Set inside: the masks are drawn again when backward runs the layer again.
        BiFunction<Tape, Tensor, Tensor> block = (t, in) -> {
            dropout.moveToPart(part);
            return layer.apply(t, in);
        };
        // Where nothing is recorded it keeps nothing but its output either.
        return checkpointing || !tape.isRecording() ? tape.checkpoint(name, x, trained, block) : block.apply(tape, x);
    }
}
