package lapidary.device;

/**
 * A parameter that AdamW moves, with its gradient and state, of equal lengths.
 *
 * @param param BF16 or F32
 * @param low I16 low bits of a split F32 master, left out unless param is one's BF16 half
 * @param m F32 or BF16, as v
 * @param grad F32 or BF16
 */
public record AdamwTensor(Operand param, Operand low, Operand m, Operand v, Operand grad) {}
