package lapidary.device;

/**
 * How attention looks at its operands.
 *
 * @param heads query heads; each {@code heads / kvHeads} of them share one key and value head
 * @param scale factor on the scores before the softmax
 * @param causal whether a token sees only itself and what is before it, its own image apart
 * @param window how many tokens back a token sees, itself included; 0 for no limit
 */
public record AttentionShape(int heads, int kvHeads, int headDim, float scale, boolean causal, int window) {
    public AttentionShape {
        if (heads <= 0 || kvHeads <= 0 || headDim <= 0 || heads % kvHeads != 0 || window < 0) {
            throw new IllegalArgumentException("[attention] " + heads + " heads, " + kvHeads + " key/value heads of "
                    + headDim + ", window " + window + ": heads must be a multiple of key/value heads");
        }
    }
}
