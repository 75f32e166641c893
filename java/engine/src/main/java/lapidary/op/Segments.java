package lapidary.op;

import lapidary.device.DType;
import lapidary.tensor.Tensor;

/**
 * Where the rows and images of a packed batch are: its sequences follow each other without padding.
 *
 * @param starts I32 [rows + 1]; row r is the tokens from starts[r] to starts[r + 1], the first start is 0, the last the
 *     number of tokens
 * @param spans I32 [tokens]; tokens of one image share a number that is not negative, text has -1. Or
 *     {@link Tensor#NONE} where there are no images
 */
public record Segments(Tensor starts, Tensor spans) {
    /** @throws IllegalArgumentException where one is not I32, or starts has no element */
    public Segments {
        if (starts.dtype() != DType.I32 || starts.elements() == 0) {
            throw new IllegalArgumentException(
                    "[segments] starts is " + starts.describe() + ", expected I32 [rows + 1]");
        }
        if (!spans.isNone() && spans.dtype() != DType.I32) {
            throw new IllegalArgumentException("[segments] spans is " + spans.describe() + ", expected I32 [tokens]");
        }
    }
}
