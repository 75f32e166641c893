package lapidary.gemma3;

import lapidary.device.DType;

/**
 * In what form a model's weights are held.
 *
 * @param dtype of weights that are not quantised, and of activations: F32 or BF16
 * @param nf4 how linear layers are quantised, or null to take them as the checkpoint holds them. One that is stored in NF4
 *     stays what it is either way
 * @param bf16Adapters whether adapters beside a quantised matrix are BF16, as TRL trains them, instead of F32 masters
 */
public record Precision(DType dtype, Nf4Options nf4, boolean bf16Adapters) {
    /** Linear layers as the checkpoint holds them, adapters in F32. */
    public static Precision of(DType dtype) {
        return new Precision(dtype, null, false);
    }
}
