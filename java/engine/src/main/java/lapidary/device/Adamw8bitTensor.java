package lapidary.device;

/**
 * A parameter that AdamW with moments of 8 bits moves, with its gradient and state.
 *
 * @param param BF16 or F32
 * @param low I16 low bits of a split F32 master, left out unless param is one's BF16 half
 * @param m U8 codes, as v
 * @param mAbsmax F32 [ceil(n / 256)], as vAbsmax
 * @param grad F32 or BF16
 */
public record Adamw8bitTensor(
        Operand param, Operand low, Operand m, Operand mAbsmax, Operand v, Operand vAbsmax, Operand grad) {}
